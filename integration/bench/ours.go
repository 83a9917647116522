package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// reachLimit bounds how long a path may take to work once it is built.
const reachLimit = 30 * time.Second

// manyLimit is the same with very many services.
const manyLimit = 3 * time.Minute

// ours is this router: two nodes with agent and fast path, a controller that
// reads manifests, pods attached by the CNI plugin.
type ours struct {
	site
	offload, poll, io string
	fabric            string // io of the fabric; empty: tcx
	// alone: there is one node. Two of them that spin would leave none of two
	// processors to the pods, which no two machines would do to each other.
	alone    bool
	services int
	cluster  cluster
}

// newOurs keeps the settings until options are known.
func newOurs(o ours) func(*options) subject {
	return func(opt *options) subject {
		s := o
		name := strings.Join([]string{"ours", o.offload + o.io + o.fabric + o.poll, fmt.Sprint(o.services)}, "-")
		on := nodes()
		if o.alone {
			on = on[:1]
		}
		s.site = newSite(opt, name, testbed.Config{
			Nodes: on,
			// Pods get 1500 bytes: 20 of IPv4, 8 of UDP and 4 of MPLS go around them.
			MTU:      1532,
			Flows:    1 << 18, // the product's default
			Poll:     o.poll,
			Offload:  o.offload,
			IO:       o.io,
			FabricIO: o.fabric,
			Cores:    cores(o.offload),
		})
		s.cluster = cluster{services: o.services, near: netip.MustParseAddr("10.32.0.3"), far: netip.MustParseAddr("10.32.0.66")}
		return &s
	}
}

// cores of the workers on node1 and node2. Those that forward every packet themselves are
// pinned as Open vSwitch's and testpmd's threads are; where the kernel forwards, the
// default is measured.
func cores(offload string) []int {
	if offload != "off" || runtime.NumCPU() < 2 {
		return nil
	}
	return []int{1, 0}
}

func (s *ours) up(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "vragent-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "cluster.yaml"), s.cluster.manifest(), 0o644); err != nil {
		return err
	}
	s.lab.Config.Manifests = []string{dir}
	if err := s.lab.Up(ctx); err != nil {
		return err
	}
	for _, p := range podNames() {
		if s.lab.Nodes[p.node] == nil {
			continue
		}
		pod, err := s.lab.Attach(ctx, p.node, p.name)
		if err != nil {
			return err
		}
		if err := tune(pod.Place); err != nil {
			return err
		}
	}
	return s.open(ctx)
}

// open starts the servers and waits until everything is reached.
func (s *ours) open(ctx context.Context) error {
	s.client = s.lab.Pod("client").Place
	near := s.lab.Pod("near")
	s.ends[local] = end{near.Place, netip.AddrPortFrom(near.Four, port), "eth0"}
	s.ends[vipLocal] = end{near.Place, s.cluster.vip(nearService), "eth0"}
	servers := []*testbed.Place{near.Place}
	if !s.alone {
		far := s.lab.Pod("far")
		s.ends[remote] = end{far.Place, netip.AddrPortFrom(far.Four, port), "eth0"}
		s.ends[vipRemote] = end{far.Place, s.cluster.vip(farService), "eth0"}
		servers = append(servers, far.Place)
	}
	if s.io == "" { // a tap has no other end
		var err error
		if s.behind, err = otherEnd(ctx, s.client, s.lab.Nodes["node1"].Place); err != nil {
			return err
		}
	}
	if err := s.serve(ctx, servers...); err != nil {
		return err
	}
	return s.reachable(ctx, manyLimit, s.cluster.vip(s.services-1))
}

func (s *ours) settings(context.Context) string {
	text, err := os.ReadFile(filepath.Join(s.lab.Nodes["node1"].RunDir(), "vragent.yaml"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s%s; gro on at the host end of the client's veth during floods\n%d services; underlay MTU %d", text, tuning, s.services, s.lab.MTU)
}
