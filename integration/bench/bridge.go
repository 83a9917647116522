package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vragent/vragent/integration/testbed"
)

// bridge is what a cluster without us has: on each node a Linux bridge with the
// pods on it, between nodes kernel VXLAN with fixed entries as flannel makes
// them, and kube-proxy, or no services at all.
type bridge struct {
	site
	mode    string // of kube-proxy: iptables, nftables, "" none
	cluster cluster
	rules   string // what kube-proxy made, for people
}

func newBridge(mode string, services int) func(*options) subject {
	return func(o *options) subject {
		// Pods get 1500 bytes: VXLAN puts 50 around them.
		name := fmt.Sprintf("bridge%s-%d", mode, services)
		return &bridge{
			site:    newSite(o, name, testbed.Config{Nodes: nodes(), MTU: 1550}),
			mode:    mode,
			cluster: cluster{services: services, near: podAddress(1, 3), far: podAddress(2, 3)},
		}
	}
}

// podSubnet of each node's bridge is 10.32.<node>.0/24, its .1 is the bridge.
func podAddress(node, last int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 32, byte(node), byte(last)})
}

func (b *bridge) up(ctx context.Context) error {
	if err := b.lab.Lay(ctx); err != nil {
		return err
	}
	for i := range nodes() {
		if err := b.node(ctx, i+1); err != nil {
			return err
		}
	}
	var pods []*testbed.Place
	for i, p := range podNames() {
		node := 1
		if p.node == "node2" {
			node = 2
		}
		last := 2
		if i > 0 { // the servers; they are where cluster says
			last = 3
		}
		pod, err := b.pod(ctx, p, node, last)
		if err != nil {
			return err
		}
		pods = append(pods, pod)
	}
	var err error
	if b.behind, err = otherEnd(ctx, pods[0], b.lab.Nodes["node1"].Place); err != nil {
		return err
	}
	return b.open(ctx, pods[0], pods[1], pods[2])
}

// node makes a node's bridge and its VXLAN device. A remote subnet is behind an
// address of its own on that device, whose neighbour and forwarding entries are
// fixed: nothing is learnt, nothing is flooded.
func (b *bridge) node(ctx context.Context, n int) error {
	node, other := b.lab.Nodes[nodes()[n-1]], 3-n
	mac := func(n int) string { return fmt.Sprintf("02:00:00:00:00:%02x", n) }
	err := node.Configure(ctx,
		"link add cni0 mtu 1500 type bridge mcast_snooping 0",
		fmt.Sprintf("addr add %v/24 dev cni0", podAddress(n, 1)),
		"link set cni0 up",
		fmt.Sprintf("link add vx0 address %s mtu 1500 type vxlan id 1 local %s dev eth0 dstport 4789 nolearning", mac(n), node.Address),
		fmt.Sprintf("addr add %v/32 dev vx0", podAddress(n, 0)),
		"link set vx0 up",
		fmt.Sprintf("neigh add %v lladdr %s dev vx0 nud permanent", podAddress(other, 0), mac(other)),
		fmt.Sprintf("route add %v/24 via %v dev vx0 onlink", podAddress(other, 0), podAddress(other, 0)),
	)
	if err != nil {
		return err
	}
	there := b.lab.Nodes[nodes()[other-1]].Address
	if _, err := node.Run(ctx, "bridge", "fdb", "append", mac(other), "dev", "vx0", "dst", there); err != nil {
		return err
	}
	// With kube-proxy, a reply between pods of one bridge has to pass the NAT that
	// its request passed. Without it, the bridge is faster alone.
	through := "0"
	if b.mode != "" {
		through = "1"
	}
	return node.Sysctl(map[string]string{
		"net/bridge/bridge-nf-call-iptables":  through,
		"net/bridge/bridge-nf-call-ip6tables": "0",
	})
}

// pod makes a pod on a node's bridge.
func (b *bridge) pod(ctx context.Context, p podName, node, last int) (*testbed.Place, error) {
	pod, err := b.lab.NewPod(ctx, p.node, p.name)
	if err != nil {
		return nil, err
	}
	on := b.lab.Nodes[p.node]
	err = on.Configure(ctx,
		fmt.Sprintf("link add %s mtu 1500 type veth peer name eth0 mtu 1500 netns %s", p.name, filepath.Base(pod.Netns)),
		fmt.Sprintf("link set %s master cni0 up", p.name),
		fmt.Sprintf("link set %s type bridge_slave hairpin on", p.name))
	if err != nil {
		return nil, err
	}
	err = pod.Configure(ctx,
		fmt.Sprintf("addr add %v/24 dev eth0", podAddress(node, last)),
		"link set eth0 up",
		fmt.Sprintf("route add default via %v", podAddress(node, 1)))
	if err != nil {
		return nil, err
	}
	return pod.Place, tune(pod.Place)
}

func (b *bridge) open(ctx context.Context, client, near, far *testbed.Place) error {
	b.client = client
	b.ends[local] = end{near, netip.AddrPortFrom(b.cluster.near, port), "eth0"}
	b.ends[remote] = end{far, netip.AddrPortFrom(b.cluster.far, port), "eth0"}
	if err := b.serve(ctx, near, far); err != nil {
		return err
	}
	if b.mode == "" {
		return b.reachable(ctx, reachLimit)
	}
	b.ends[vipLocal] = end{near, b.cluster.vip(nearService), "eth0"}
	b.ends[vipRemote] = end{far, b.cluster.vip(farService), "eth0"}
	return b.writeRules(ctx)
}

func (b *bridge) settings(ctx context.Context) string {
	var t strings.Builder
	fmt.Fprintf(&t, "on each node: bridge cni0 (mcast_snooping 0), VXLAN vx0 (id 1, port 4789, nolearning, fixed neighbour and fdb entries); underlay MTU %d\n", b.lab.MTU)
	fmt.Fprintf(&t, "%s; gro on at the host end of the client's veth during floods\n", tuning)
	if b.mode == "" {
		t.WriteString("bridge-nf-call-iptables=0, no netfilter rules, no connection tracking")
		return t.String()
	}
	fmt.Fprintf(&t, "bridge-nf-call-iptables=1; %d services\n%s", b.cluster.services, b.rules)
	return t.String()
}
