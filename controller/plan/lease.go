package plan

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// Lease gives a block of a network's addresses to a node.
type Lease struct {
	Network string
	Node    string
	Prefix  netip.Prefix
}

// A node gets another block when this share of its addresses is in use.
const growAt, growOf = 7, 8

// Grow leases what is missing: a first block per family to each node that has
// reported, another one where seven eighths are in use. A lease is kept as
// long as there are free blocks; after that, those of nodes which are neither
// in the cluster nor heard of are given away. Leases come back sorted, with
// sentences about nodes that get nothing.
func Grow(c Config, cluster *Cluster, leases []Lease, reports map[string]*Report) ([]Lease, []Problem) {
	g := &grower{
		config: c, network: DefaultPodNetwork(c),
		used: map[netip.Prefix]bool{}, byNode: map[string][]Lease{}, next: map[netip.Prefix]netip.Addr{},
	}
	known := map[string]bool{}
	for _, n := range cluster.Nodes {
		known[n.Name] = true
	}
	var problems []Problem
	for _, l := range leases {
		g.take(l)
		if !covers(c.PodSubnets, l.Prefix.Addr()) {
			problems = append(problems, Problem{"Node " + l.Node, fmt.Sprintf("holds %v, which is outside the pod subnets", l.Prefix)})
		}
	}
	g.gone = func(l Lease) bool { return !known[l.Node] && reports[l.Node] == nil }
	for _, node := range sortedKeys(reports) {
		if !known[node] {
			continue
		}
		for _, v6 := range []bool{false, true} {
			if !g.wants(reports[node], v6) {
				continue
			}
			if !g.lease(node, v6) {
				problems = append(problems, Problem{"Node " + node, fmt.Sprintf("gets no further %s block: %s has none left", familyOf(v6), g.network)})
			}
		}
	}
	slices.SortFunc(g.leases, func(a, b Lease) int { return comparePrefix(a.Prefix, b.Prefix) })
	return g.leases, problems
}

// grower is one Grow at work.
type grower struct {
	config  Config
	network string
	leases  []Lease
	used    map[netip.Prefix]bool
	odd     []Lease // not of the size we lease today
	byNode  map[string][]Lease
	next    map[netip.Prefix]netip.Addr // by subnet: no free block before this
	gone    func(Lease) bool            // its node is not in the cluster and not heard of
}

func (g *grower) take(l Lease) {
	g.leases = append(g.leases, l)
	g.used[l.Prefix] = true
	g.byNode[l.Node] = append(g.byNode[l.Node], l)
	if l.Prefix.Bits() != g.length(l.Prefix) {
		g.odd = append(g.odd, l)
	}
}

// length is the prefix length of a block in that subnet.
func (g *grower) length(subnet netip.Prefix) int {
	if subnet.Addr().Is6() {
		return g.config.BlockBits6
	}
	return g.config.BlockBits4
}

// wants counts a node's addresses of one family. A block the agent has not
// reported yet counts as empty, so that one need leases one block.
func (g *grower) wants(r *Report, v6 bool) bool {
	if !slices.ContainsFunc(g.config.PodSubnets, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }) {
		return false
	}
	var used, size uint64
	for _, l := range g.byNode[r.Node] {
		if l.Network == g.network && l.Prefix.Addr().Is6() == v6 && covers(g.config.PodSubnets, l.Prefix.Addr()) {
			used += uint64(r.Blocks[BlockKey{l.Network, l.Prefix}])
			size += sizeOf(l.Prefix)
		}
	}
	return size == 0 || used*growOf >= size*growAt
}

func (g *grower) lease(node string, v6 bool) bool {
	for _, subnet := range g.config.PodSubnets {
		if subnet.Addr().Is6() != v6 {
			continue
		}
		if p, ok := g.free(subnet); ok {
			g.take(Lease{g.network, node, p})
			return true
		}
	}
	i := slices.IndexFunc(g.leases, func(l Lease) bool {
		return l.Prefix.Addr().Is6() == v6 && covers(g.config.PodSubnets, l.Prefix.Addr()) && g.gone(l)
	})
	if i < 0 {
		return false
	}
	g.leases[i].Node = node
	return true
}

// free finds the lowest block of a subnet that nobody holds.
func (g *grower) free(subnet netip.Prefix) (netip.Prefix, bool) {
	length := max(g.length(subnet), subnet.Bits())
	a := g.next[subnet]
	if !a.IsValid() {
		a = subnet.Masked().Addr()
	}
	for ; a.IsValid() && subnet.Contains(a); a = after(a, length) {
		p := netip.PrefixFrom(a, length)
		g.next[subnet] = a
		if !g.used[p] && !g.overlaps(p) {
			return p, true
		}
	}
	g.next[subnet] = a
	return netip.Prefix{}, false
}

// overlaps catches leases of another size, from before the block size changed.
func (g *grower) overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(g.odd, func(l Lease) bool { return l.Prefix.Overlaps(p) })
}

// after is the first address behind the block of that length at a; the zero
// Addr behind the last one.
func after(a netip.Addr, length int) netip.Addr {
	b := a.AsSlice()
	for i, add := (length-1)/8, uint(1)<<(7-(length-1)%8); i >= 0; i-- {
		sum := uint(b[i]) + add
		b[i], add = byte(sum), sum>>8
		if add == 0 {
			next, _ := netip.AddrFromSlice(b)
			return next
		}
	}
	return netip.Addr{}
}

func sizeOf(p netip.Prefix) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	return 1 << min(host, bits.UintSize-4) // no block of ours is larger
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// CheckLeases refuses leases that cannot be: two that overlap, a prefix with
// host bits, a name that is missing.
func CheckLeases(leases []Lease) error {
	sorted := slices.Clone(leases)
	slices.SortFunc(sorted, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), comparePrefix(a.Prefix, b.Prefix))
	})
	for i, l := range sorted {
		switch {
		case !l.Prefix.IsValid() || l.Prefix != l.Prefix.Masked():
			return fmt.Errorf("lease of node %q: %v is not a prefix", l.Node, l.Prefix)
		case l.Node == "" || l.Network == "":
			return fmt.Errorf("lease of %v: node or network is missing", l.Prefix)
		case i > 0 && sorted[i-1].Network == l.Network && sorted[i-1].Prefix.Overlaps(l.Prefix):
			return fmt.Errorf("leases of %v to node %s and of %v to node %s overlap",
				sorted[i-1].Prefix, sorted[i-1].Node, l.Prefix, l.Node)
		}
	}
	return nil
}
