package plan

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vragent/vragent/controller/plan/blocks"
	"github.com/vragent/vragent/controller/plan/portmaps"
	"github.com/vragent/vragent/controller/southbound"
)

// Lease gives a block of a network's addresses to a node.
type Lease = blocks.Lease

// Leases is what has to change about them.
type Leases struct{ Create, Delete []Lease }

// DefaultQuarantine is how long a block is unused before it is given back.
const DefaultQuarantine = 5 * time.Minute

// CheckLeases refuses leases that cannot be: two whose addresses overlap and
// are not those of different VirtualNetworks, a prefix with host bits, a name
// that is missing.
func CheckLeases(leases []Lease) error { return blocks.Check(leases) }

// AddressSpace names the addresses that a network's are among: empty for all
// networks whose addresses are one in the cluster.
func AddressSpace(network string) string { return blocks.Space(network) }

// leasing knows who holds which addresses.
type leasing struct {
	leases   []Lease // sorted
	leasesOf map[string][]Lease
	table    *blocks.Table
	present  map[string]map[*Network]bool // by node
	used     map[string]map[*Network]int  // the same: addresses in use
	made     Leases
}

func (b *builder) readLeases() {
	b.leases = blocks.Sorted(b.in.Leases)
	b.table = blocks.NewTable(b.leases)
	b.leasesOf = map[string][]Lease{}
	for _, l := range b.leases {
		b.leasesOf[l.Node] = append(b.leasesOf[l.Node], l)
	}
}

// leaseBlocks says which leases nodes need and which nobody does.
func (b *builder) leaseBlocks() {
	needs := b.needs()
	quarantine := b.in.Config.Quarantine
	if quarantine == 0 {
		quarantine = DefaultQuarantine
	}
	in := blocks.Input{
		Bits4: b.in.Config.BlockBits4, Bits6: b.in.Config.BlockBits6,
		Leases: b.leases, Table: b.table, Needs: needs,
		State:   b.stateOf(),
		Settled: func(l Lease) bool { return b.in.Settled[blockKey(l)] },
		Resting: b.in.Memory.resting,
		Now:     b.in.Now,
		Times:   blocks.Times{Quarantine: quarantine, Retirement: HoldTime, Recheck: portmaps.Recheck},
	}
	for _, n := range b.model.Networks {
		if n.HasPods() && !n.Closing {
			in.Networks = append(in.Networks, blocks.Network{Name: n.Name, Subnets: n.Subnets})
		}
	}
	out := blocks.Plan(in)
	b.memory.resting = out.Resting
	b.made = Leases{out.Create, out.Delete}
	b.wakeAt(out.Again)
	for _, s := range out.Short {
		b.problem("Node "+s.Node, fmt.Sprintf("gets no further %s block: %s has none left", familyOf(s.V6), s.Network))
	}
	for _, l := range b.leases {
		if n := b.nets.Named(l.Network); n != nil && !n.Closing && !covers(n.Subnets, l.Prefix.Addr()) {
			what := "the subnets of " + n.Name
			if !n.Translated() {
				what = "the pod subnets"
			}
			b.problem("Node "+l.Node, fmt.Sprintf("holds %v, which is outside %s", l.Prefix, what))
		}
	}
	b.clashes()
}

// clashes says which leases cannot both be true; the nodes keep them until
// somebody has chosen.
func (b *builder) clashes() {
	for i, l := range b.leases[min(1, len(b.leases)):] {
		if o := b.leases[i]; AddressSpace(o.Network) == AddressSpace(l.Network) && o.Prefix.Overlaps(l.Prefix) {
			b.problem("Node "+l.Node, fmt.Sprintf("holds %v, and node %s holds %v: their pods may have the same addresses", l.Prefix, o.Node, o.Prefix))
		}
	}
}

// needs are the addresses that nodes need which have an agent: one for the
// host, one for each interface that is planned or attached, and another one of
// the host's network for those whose own network is translated.
func (b *builder) needs() map[blocks.Holder]*blocks.Need {
	needs := map[blocks.Holder]*blocks.Need{}
	of := func(node string, n *Network) *blocks.Need {
		h := blocks.Holder{Node: node, Network: n.Name}
		if needs[h] == nil {
			needs[h] = &blocks.Need{}
		}
		return needs[h]
	}
	for _, n := range b.idx.Nodes {
		if b.in.Reports[n.Name] != nil {
			of(n.Name, b.hostNetwork()).Addresses++
		}
	}
	for _, v := range b.model.Interfaces {
		node := v.Pod.Node
		if b.in.Reports[node] == nil || b.idx.NodeOf[node] == nil {
			continue
		}
		need := of(node, v.Network)
		need.Addresses++
		if v.Network.Translated() {
			of(node, b.hostNetwork()).Addresses++
		}
		if !v.Attached {
			need.Exactly = append(need.Exactly, v.Pod.Addresses...)
		}
		need.Uncovered = append(need.Uncovered, b.uncovered(v)...)
	}
	for _, v := range b.moving {
		if b.in.Reports[v.Pod.Node] != nil {
			of(v.Pod.Node, v.Network).Exactly = append(of(v.Pod.Node, v.Network).Exactly, v.Pod.Addresses...)
		}
	}
	for _, n := range b.idx.Nodes {
		for h, used := range b.used[n.Name] {
			need := of(n.Name, h)
			need.Addresses = max(need.Addresses, used)
		}
	}
	return needs
}

// uncovered are the addresses that an interface has in no block of its node:
// a lease was lost. Nobody else may get them.
func (b *builder) uncovered(v *Interface) []netip.Addr {
	var out []netip.Addr
	for _, a := range v.Addresses {
		l, covered := b.table.Of(v.Network.Name, a)
		switch {
		case !covered:
			out = append(out, a)
		case l.Node != v.Pod.Node || l.Network != v.Network.Name:
			b.problem("Pod "+v.Pod.Ref(), fmt.Sprintf("has %v on node %s, which lies in the block %v of node %s", a, v.Pod.Node, l.Prefix, l.Node))
		}
	}
	return out
}

// stateOf tells what is known of a block. A node of the cluster that is not
// heard of may have pods that use it; so may one that has not said all. A node
// that is heard of and not in the cluster is told nothing: it cannot let go.
func (b *builder) stateOf() func(Lease) blocks.State {
	var named map[Lease]bool    // an address of it is that of a pod, as Kubernetes says
	var running map[string]bool // nodes with pods, the same
	return func(l Lease) blocks.State {
		r := b.in.Reports[l.Node]
		if known := b.idx.NodeOf[l.Node] != nil; known != (r != nil) || known && (r.Stale || !r.Synced || r.Uses(l.Network, l.Prefix)) {
			return blocks.Used
		}
		if named == nil {
			named, running = b.namedByPods()
		}
		switch {
		case named[l], r == nil && running[l.Node]:
			return blocks.Used
		case r == nil:
			return blocks.Forlorn
		}
		return blocks.Unused
	}
}

// namedByPods are the leases that hold an address of a pod which still runs, on
// any node where addresses are one in the cluster, else on its own; and the
// nodes with such pods.
func (b *builder) namedByPods() (named map[Lease]bool, running map[string]bool) {
	named, running = map[Lease]bool{}, map[string]bool{}
	for i := range b.idx.Pods {
		p := &b.idx.Pods[i]
		if p.Finished || p.HostNetwork {
			continue
		}
		running[p.Node] = true
		for _, a := range p.IPs {
			if l, covered := b.table.Of("", a); covered {
				named[l] = true
			}
			for _, l := range b.leasesOf[p.Node] {
				if l.Prefix.Contains(a) {
					named[l] = true
				}
			}
		}
	}
	return named, running
}

func blockName(l Lease) string { return l.Network + "/" + l.Prefix.String() }

func blockKey(l Lease) Key { return Key{southbound.Type_TYPE_BLOCK, blockName(l)} }

// blockResources gives each node its blocks, but for those it is to let go of.
func (b *builder) blockResources() {
	for _, l := range b.leases {
		if b.memory.resting[l].Retired.IsZero() {
			b.add(nodeSet(l.Node), southbound.Type_TYPE_BLOCK, blockName(l),
				&southbound.Block{VirtualNetwork: l.Network, Prefix: l.Prefix.String()})
		}
	}
}

// presence finds the networks present on each node, and how many addresses of
// each are used there: those of the pods that are planned, and of what is left
// of others. A node that has not said all may have pods in any network it holds
// a block of.
func (b *builder) presence() {
	b.present = map[string]map[*Network]bool{}
	b.used = map[string]map[*Network]int{}
	for _, n := range b.idx.Nodes {
		b.present[n.Name] = map[*Network]bool{b.hostNetwork(): true}
	}
	for _, v := range b.model.Interfaces {
		if on := b.present[v.Pod.Node]; on != nil {
			on[v.Network] = true
		}
	}
	for node, on := range b.present {
		r := b.in.Reports[node]
		used := map[*Network][2]int{} // by family
		for _, l := range b.leasesOf[node] {
			n := b.nets.Named(l.Network)
			if n == nil {
				continue
			}
			if !on[n] && (!b.heard(node) || r.Uses(l.Network, l.Prefix)) {
				on[n] = true
			}
			if r != nil {
				u := used[n]
				u[familyIndex(l.Prefix)] += int(r.Blocks[BlockKey{Network: l.Network, Prefix: l.Prefix}])
				used[n] = u
			}
		}
		b.used[node] = map[*Network]int{}
		for n, u := range used {
			if u != [2]int{} {
				b.used[node][n] = max(u[0], u[1])
			}
		}
	}
}

func familyIndex(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 1
	}
	return 0
}
