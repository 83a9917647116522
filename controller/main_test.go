package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/certs"
	"github.com/vragent/vragent/controller/cli"
	"github.com/vragent/vragent/controller/hub/fake"
	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

const objects = `apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {nodeName: n1, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec: {nodeName: n2, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 203.0.113.10, ports: [{name: http, port: 8888}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: a}}
- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: b}}
`

const types = len(southbound.Types)

// site is a place where a controller can be started, stopped and started again.
type site struct {
	t      *testing.T
	dir    string
	config *conf.Controller
	stop   func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	if _, err := certs.Make(certs.Request{Dir: dir, Addresses: []string{"127.0.0.1"}, Nodes: []string{"n1", "n2"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, stop: func() {}, config: &conf.Controller{
		Cluster:   "k8s",
		Manifests: filepath.Join(dir, "manifests"),
		Listen:    conf.Listen{Southbound: "127.0.0.1:0", API: "127.0.0.1:0"},
		TLS:       conf.TLS{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "controller.crt"), Key: filepath.Join(dir, "controller.key")},
		Networks: conf.Networks{
			PodSubnets:     []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
			BlockSize4:     26, BlockSize6: 122,
		},
		StateDir: filepath.Join(dir, "state"),
		Log:      conf.Log{Level: "error", Format: "text"},
	}}
	if err := os.Mkdir(s.config.Manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	s.place("all.yaml", objects)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *site) place(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "new"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.dir, "new"), filepath.Join(s.config.Manifests, name)); err != nil {
		s.t.Fatal(err)
	}
}

// start runs the controller on ports of the kernel's choice, the same ones
// whenever it is started again.
func (s *site) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	bound := make(chan [2]string, 1)
	go func() {
		ended <- serve(ctx, s.config, func(southbound, api string) { bound <- [2]string{southbound, api} })
	}()
	select {
	case err := <-ended:
		s.t.Fatal(err)
	case b := <-bound:
		s.config.Listen.Southbound, s.config.Listen.API = b[0], b[1]
	}
	s.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		s.stop = func() {}
	}
}

// node is what an agent and its fast path would do, reduced to the words.
type node struct {
	*fake.Agent
	name      string
	addresses map[string]string // VMI → address
	said      string
}

func (s *site) agent(name string, before *node) *node {
	s.t.Helper()
	n := &node{name: name, addresses: map[string]string{}}
	c := fake.Config{
		Address: s.config.Listen.Southbound, CA: s.config.TLS.CA, Node: name, Tunnel: "192.0.2." + name[1:],
		Cert: filepath.Join(s.dir, name+".crt"), Key: filepath.Join(s.dir, name+".key"),
	}
	if before != nil {
		n.addresses = before.addresses
		c.Held = before.Held()
	}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := fake.Dial(ctx, c)
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	n.Agent = a
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run() }()
	s.t.Cleanup(func() { cancel(); _ = a.Close(); <-ended })
	return n
}

func body[T proto.Message](r *southbound.Resource, m T) T {
	if err := proto.Unmarshal(r.GetBody(), m); err != nil {
		panic(err)
	}
	return m
}

// attach attaches every pod it knows and says so, if there is something new.
func (n *node) attach() {
	if p := n.words(); p != nil && p.String() != n.said {
		n.said = p.String()
		_ = n.Publish(p)
	}
}

// words are all that the node has to say; nil without a block.
func (n *node) words() *southbound.Publish {
	held := n.Held()
	var block netip.Prefix
	for k, r := range held {
		if k.Type == southbound.Type_TYPE_BLOCK {
			block = netip.MustParsePrefix(body(r, &southbound.Block{}).GetPrefix())
		}
	}
	if !block.IsValid() {
		return nil
	}
	p := &southbound.Publish{InSync: true}
	network := "k8s-default-pod-network"
	p.Blocks = []*southbound.BlockStatus{{VirtualNetwork: network, Prefix: block.String(), Used: uint32(len(n.addresses))}}
	p.Routes = []*southbound.LocalRoute{{Vrf: network, Prefix: block.String(), Label: 16, Encapsulations: []string{"udp"}}}
	for _, k := range slices.SortedFunc(maps.Keys(held), func(a, b plan.Key) int { return strings.Compare(a.Name, b.Name) }) {
		switch k.Type {
		case southbound.Type_TYPE_VMI:
			if n.addresses[k.Name] == "" {
				a := block.Addr()
				for range len(n.addresses) + 2 {
					a = a.Next()
				}
				n.addresses[k.Name] = a.String()
			}
			p.Vmis = append(p.Vmis, &southbound.VMIStatus{
				Uuid: k.Name, Addresses: []string{n.addresses[k.Name]}, Label: 20, PortMaps: body(held[k], &southbound.VMI{}).GetPortMaps(),
			})
		case southbound.Type_TYPE_LOAD_BALANCER:
			lb := body(held[k], &southbound.LoadBalancer{})
			for _, l := range lb.GetListeners() {
				for _, m := range l.GetMembers() {
					if m.GetNode() == n.name {
						p.Routes = append(p.Routes, &southbound.LocalRoute{Vrf: network, Prefix: lb.GetVips()[0] + "/32", Label: 17, Encapsulations: []string{"udp"}, Vmis: []string{m.GetVmi()}})
					}
				}
			}
		}
	}
	return p
}

// members of the only service, as the node knows them.
func (n *node) members() []string {
	out := []string{}
	for k, r := range n.Held() {
		if k.Type != southbound.Type_TYPE_LOAD_BALANCER {
			continue
		}
		for _, l := range body(r, &southbound.LoadBalancer{}).GetListeners() {
			for _, m := range l.GetMembers() {
				out = append(out, fmt.Sprintf("%s@%s(%d)", m.GetAddress(), m.GetNode(), m.GetLabel()))
			}
		}
	}
	slices.Sort(out)
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

func (s *site) command(args ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	app := cli.App(cli.Program{Version: "test", Out: &out})
	args = append([]string{"vrcontroller", args[0], "--api", s.config.Listen.API}, args[1:]...)
	// A status that shows problems is an answer too.
	if err := app.RunContext(context.Background(), args); err != nil && cli.ExitCode(err) != cli.ExitUnhealthy {
		s.t.Errorf("%v: %v", args, err)
	}
	return out.String()
}

var bothMembers = []string{"198.51.100.2@n1(20)", "198.51.100.66@n2(20)"}

func TestFromManifestsToNodes(t *testing.T) {
	s := newSite(t)
	s.start()
	n1, n2 := s.agent("n1", nil), s.agent("n2", nil)
	served := func(want []string, nodes ...*node) func() bool {
		return func() bool {
			for _, n := range nodes {
				n.attach()
			}
			for _, n := range nodes {
				if !slices.Equal(n.members(), want) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "both members on both nodes", served(bothMembers, n1, n2))
	eventually(t, "the routes page", func() bool {
		n1.attach()
		n2.attach()
		return strings.Count(s.command("routes", "--vrf", "k8s-default-service-network"), "192.0.2.") == 2
	})
	want := `Routing instance default-domain:k8s-default:k8s-default-pod-network:k8s-default-pod-network

default-domain:k8s-default:k8s-default-pod-network:k8s-default-pod-network.inet.0
Prefix            Kind                     Source  Next hop   Label  Encap  Members
198.51.100.0/26   block                    n1      192.0.2.1  16     udp    
198.51.100.64/26  block                    n2      192.0.2.2  16     udp    
203.0.113.10/32   floating-ip default-web  n1      192.0.2.1  17     udp    default/a(20)
                                           n2      192.0.2.2  17     udp    default/b(20)
`
	if got := s.command("routes", "--vrf", "k8s-default-pod-network"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Another service with the same VIP: said, and nothing is lost.
	s.place("dup.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: aaa}\nspec: {clusterIP: 203.0.113.10, ports: [{port: 80}]}\n")
	eventually(t, "the problem", func() bool {
		return strings.Contains(s.command("status"), "Service default/aaa: clusterIP 203.0.113.10 is that of the older Service default/web, which keeps it")
	})
	if !served(bothMembers, n1, n2)() {
		t.Error("the older service lost something:", n1.members())
	}
	// A backend leaves: the port map follows once both nodes have heard of it.
	s.place("all.yaml", strings.Replace(objects, "- {addresses: [198.51.100.250], targetRef: {kind: Pod, name: b}}\n", "", 1))
	eventually(t, "one member", served(bothMembers[:1], n1, n2))
	eventually(t, "no port map", func() bool {
		for k, r := range n2.Held() {
			if k.Type == southbound.Type_TYPE_VMI && len(body(r, &southbound.VMI{}).GetPortMaps()) > 0 {
				return false
			}
		}
		return true
	})
}

// A controller that is stopped and started again changes nothing, and takes
// nothing back before it knows as much as before.
func TestRestartChangesNothing(t *testing.T) {
	s := newSite(t)
	s.start()
	n1, n2 := s.agent("n1", nil), s.agent("n2", nil)
	eventually(t, "service", func() bool {
		n1.attach()
		n2.attach()
		return slices.Equal(n1.members(), bothMembers) && slices.Equal(n2.members(), bothMembers) && n1.Synced() == types && n2.Synced() == types
	})
	s.stop()
	s.start()
	again1 := s.agent("n1", n1)
	eventually(t, "n1's open types", func() bool { again1.attach(); return again1.Synced() == types-3 })
	if got := s.command("status"); !strings.Contains(got, "waiting-for-nodes") {
		t.Error(got)
	}
	again2 := s.agent("n2", n2)
	eventually(t, "all in sync", func() bool {
		again1.attach()
		again2.attach()
		return again1.Synced() == types && again2.Synced() == types
	})
	for _, n := range []*node{again1, again2} {
		if _, upserts, removes := n.Received(); upserts+removes != 0 {
			t.Errorf("%s: %d upserts, %d removals after a restart", n.name, upserts, removes)
		}
	}
	if !slices.Equal(again1.members(), bothMembers) {
		t.Error(again1.members())
	}
	if got := s.command("status"); !strings.Contains(got, "running") || !strings.Contains(got, "no problems") {
		t.Error(got)
	}
}

// A second controller on the same state is refused; so is a broken lease file.
func TestStateIsGuarded(t *testing.T) {
	s := newSite(t)
	s.start()
	if err := run(context.Background(), s.config); err == nil || !strings.Contains(err.Error(), "in use by another controller") {
		t.Error(err)
	}
	s.stop()
	if err := os.WriteFile(filepath.Join(s.config.StateDir, "leases.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), s.config); err == nil || !strings.Contains(err.Error(), "leases.json cannot be used") {
		t.Error(err)
	}
}
