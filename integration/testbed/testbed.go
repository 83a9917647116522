// Package testbed builds a small cluster out of network namespaces: nodes, an
// underlay that joins them, a host outside, and pods attached by the real CNI
// plugin; the real controller and agents run in it. A Lab owns every namespace,
// process, mount and folder that carries its name, and Down removes them all,
// also those an earlier process of that name left behind. It does not say what
// is to be seen in the cluster: that is for the demo and the tests.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Config describes a lab.
type Config struct {
	// Name is in the name of every namespace (vragent-<name>-node1) and of the
	// folders /run/vragent-<name> and /var/lib/vragent-<name>.
	Name      string
	Bin       string   // folder with vrouter, vragent and vrcontroller
	Manifests []string // folders with Kubernetes YAML; the lab works on a copy
	Nodes     []string // at most 9: node1, node2
	MTU       int      // bytes, of the underlay; 0: 1500
	Workers   int      // per fast path; 0: 1
	Poll      string   // busy, adaptive (default)
	Cores     []int    // of each node's only worker, in the order of Nodes; empty: not pinned
	// Flows is the size of each worker's flow table, in entries; 0: 65536.
	Flows    int
	FabricIO string // tcx (default), afxdp
	// Offload, AttachBy (attach) and IO are keys of the agent's configuration; "": the product's
	// default.
	Offload, AttachBy, IO string
	// Progress is told each step as it begins; nil: silence.
	Progress func(step string)
}

// Lab is a running cluster.
type Lab struct {
	// Set once by New.
	Config
	RunDir   string // sockets, bpffs, configuration: /run/vragent-<name>
	StateDir string // ledgers, logs: /var/lib/vragent-<name>

	// Owned by the goroutine that builds and uses the lab.
	Underlay   *Place // the bridge between the nodes, and the controller
	Outside    *Place
	Nodes      map[string]*Node
	Controller *Daemon
	pods       map[string]*Pod
}

// Node is one machine of the cluster.
type Node struct {
	*Place
	Address string // on the underlay
	Agent   *Daemon

	dir   string // run directory
	state string
}

// Addresses of the lab. The underlay is one subnet; the router between it and
// the world outside is the underlay namespace itself.
const (
	routerAddress  = "172.31.0.1" // the controller listens here
	OutsideAddress = "198.51.100.99"
	OutsideSix     = "2001:db8:100::99"
	southboundPort = 7443
)

// New names a lab without building it.
func New(c Config) *Lab {
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Poll == "" {
		c.Poll = "adaptive"
	}
	if c.FabricIO == "" {
		c.FabricIO = "tcx"
	}
	if c.Flows == 0 {
		c.Flows = 65536
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return &Lab{
		Config:   c,
		RunDir:   "/run/vragent-" + c.Name,
		StateDir: "/var/lib/vragent-" + c.Name,
		Nodes:    map[string]*Node{},
		pods:     map[string]*Pod{},
	}
}

// Up builds the lab and returns when every agent says that it is ready. On
// error what was built is left for a look; the caller calls Down.
func (l *Lab) Up(ctx context.Context) error {
	steps := []struct {
		say string
		do  func(context.Context) error
	}{
		{"remove what an earlier run left", func(ctx context.Context) error { return l.Down(ctx) }},
		{"lay the underlay: nodes, router, outside host", l.buildNetwork},
		{"write configuration and certificates", l.writeConfiguration},
		{"start the controller", l.startController},
		{"start the agents, which start their fast paths", l.startAgents},
		{"wait until every node is ready", l.waitReady},
	}
	for _, s := range steps {
		l.Progress(s.say)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.say, err)
		}
	}
	return nil
}

// Lay builds the nodes, the underlay and the outside host, and starts nothing in
// them: for networks other than ours.
func (l *Lab) Lay(ctx context.Context) error {
	if err := l.Down(ctx); err != nil {
		return err
	}
	return l.buildNetwork(ctx)
}

// Down removes everything that carries the lab's name. It works without Up
// having run in this process.
func (l *Lab) Down(ctx context.Context) error {
	spaces, err := l.namespaces()
	if err != nil {
		return err
	}
	errs := []error{stopAllIn(ctx, spaces)}
	errs = append(errs, unmountBelow(l.RunDir))
	for _, s := range spaces {
		errs = append(errs, deleteNamespace(s))
	}
	errs = append(errs, os.RemoveAll(l.RunDir), os.RemoveAll(l.StateDir))
	return errors.Join(errs...)
}

// LogDir is where every process of the lab writes its log.
func (l *Lab) LogDir() string { return filepath.Join(l.StateDir, "log") }

// ManifestDir is the copy of the manifests the controller watches.
func (l *Lab) ManifestDir() string { return filepath.Join(l.RunDir, "manifests") }

// Processes lists what runs in the lab by name: controller, agent-node1,
// fastpath-node1 and so on. A fast path is named by its agent.
func (l *Lab) Processes() []NamedPID {
	var list []NamedPID
	if l.Controller != nil {
		list = append(list, NamedPID{"controller", l.Controller.PID()})
	}
	for _, name := range l.Config.Nodes {
		n := l.Nodes[name]
		if n == nil || n.Agent == nil {
			continue
		}
		list = append(list, NamedPID{"agent-" + name, n.Agent.PID()})
		if s, err := n.FastPath(); err == nil {
			list = append(list, NamedPID{"fastpath-" + name, s.PID})
		}
	}
	return list
}

// NamedPID is a process of the lab.
type NamedPID struct {
	Name string
	PID  int
}

// Until calls ready until it says nil, and fails with its last complaint after
// the limit.
func Until(ctx context.Context, limit time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not so after %v: %w", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
