package blocks

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Network is what nodes hold blocks of.
type Network struct {
	Name    string
	Subnets []netip.Prefix
}

// Holder is a node in a network.
type Holder struct{ Node, Network string }

// Need is what pods need of a node in a network.
type Need struct {
	Addresses int          // of each family
	Exactly   []netip.Addr // these, in blocks of the node
	Uncovered []netip.Addr // in use there without a lease: one was lost
}

// State is what is known of a block.
type State uint8

const (
	Used    State = iota // or not known
	Unused               // and its node would tell
	Forlorn              // its node is not in the cluster, and not heard of
)

// Rest is how long a lease has been of no use to anybody.
type Rest struct {
	Since   time.Time
	Retired time.Time // the node was told to let go of it; the zero Time: not yet
	Awaited bool      // the lease waits for the node's word that it has let go
	Ended   time.Time // it is no lease any more, and nobody else's yet
}

// Input is everything a Plan depends on.
type Input struct {
	Networks []Network // those that matter most first
	Bits4    int       // prefix length of a block, IPv4
	Bits6    int       // the same, IPv6
	Leases   []Lease   // sorted
	Table    *Table    // of Leases; Plan adds to it
	Needs    map[Holder]*Need
	State    func(Lease) State
	Settled  func(Lease) bool // the node has let go of it
	Resting  map[Lease]Rest   // of the last Output
	Now      time.Time
	Times
}

// Times are how long the steps of giving back take.
type Times struct {
	Quarantine time.Duration // from no use to retirement
	Retirement time.Duration // from there to the end, and from the end to the next lease
	Recheck    time.Duration // when Settled is first asked
}

// Output is the Plan.
type Output struct {
	Create  []Lease
	Delete  []Lease
	Resting map[Lease]Rest
	Short   []Short
	Again   time.Time // when a rest is over; the zero Time: never
}

// Short is a node that gets no block although it needs one.
type Short struct {
	Holder
	V6 bool
}

// planner is one Plan at work.
type planner struct {
	Input
	out    Output
	made   map[Lease]bool
	held   map[Holder][]Lease
	onNode map[string][]Lease // of networks with a space of their own
	next   map[place]netip.Addr
	asked  *Table         // addresses that somebody needs exactly
	wanted map[Lease]bool // others need an address of it
	ended  *Table         // leases that were, a short time ago
	byName map[string]Network
}

// place is where a search for a free block goes on: nothing is free before.
type place struct {
	network string // of those with one space, the same
	subnet  netip.Prefix
}

// Plan leases what is missing and gives up what has rested long enough. No
// block is leased that overlaps another one of its space, also not one that is
// given up at the same time: the next Plan, which does not see it any more, may.
func Plan(in Input) Output {
	p := &planner{
		Input:  in,
		out:    Output{Resting: map[Lease]Rest{}},
		made:   map[Lease]bool{},
		held:   map[Holder][]Lease{},
		onNode: map[string][]Lease{},
		next:   map[place]netip.Addr{},
		asked:  NewTable(nil),
		ended:  NewTable(nil),
		wanted: map[Lease]bool{},
		byName: map[string]Network{},
	}
	for _, n := range in.Networks {
		p.byName[n.Name] = n
	}
	for _, l := range in.Leases {
		p.hold(l)
	}
	p.remember()
	holders := slices.SortedFunc(maps.Keys(in.Needs), func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Node, b.Node))
	})
	byNetwork := map[string][]Holder{}
	for _, h := range holders {
		byNetwork[h.Network] = append(byNetwork[h.Network], h)
		for _, a := range in.Needs[h].Exactly {
			p.asked.insert(Lease{h.Network, h.Node, netip.PrefixFrom(a, a.BitLen())})
		}
	}
	for _, step := range []func(Network, Holder){p.cover, p.exact, p.grow} {
		for _, n := range in.Networks {
			for _, h := range byNetwork[n.Name] {
				step(n, h)
			}
		}
	}
	for h, leases := range p.held {
		p.giveBack(h, leases)
	}
	p.out.Create = slices.SortedFunc(maps.Keys(p.made), compare)
	slices.SortFunc(p.out.Delete, compare)
	return p.out
}

func (p *planner) hold(l Lease) {
	h := Holder{l.Node, l.Network}
	p.held[h] = append(p.held[h], l)
	if Space(l.Network) != "" {
		p.onNode[l.Node] = append(p.onNode[l.Node], l)
	}
}

func (p *planner) create(l Lease) {
	p.made[l] = true
	p.Table.insert(l)
	p.hold(l)
}

// cover leases the blocks around addresses that are in use, or the addresses
// alone where others hold parts of the block: nobody else may get them.
func (p *planner) cover(n Network, h Holder) {
	for _, a := range p.Needs[h].Uncovered {
		single := netip.PrefixFrom(a, a.BitLen())
		in := subnetOf(n, single)
		if _, covered := p.Table.Of(n.Name, a); covered || in < 0 {
			continue
		}
		block, _ := a.Prefix(p.length(n.Name, n.Subnets[in]))
		if p.Table.overlaps(n.Name, block) {
			block = single
		}
		p.create(Lease{h.Network, h.Node, block})
	}
}

// exact leases single addresses that a pod is to have.
func (p *planner) exact(_ Network, h Holder) {
	for _, a := range p.Needs[h].Exactly {
		l, covered := p.Table.Of(h.Network, a)
		switch {
		case !covered:
			p.create(Lease{h.Network, h.Node, netip.PrefixFrom(a, a.BitLen())})
		case l.Network != h.Network || l.Node != h.Node:
			p.wanted[l] = true
		}
	}
}

// grow leases blocks of each family until the need is met with some in reserve.
func (p *planner) grow(n Network, h Holder) {
	for _, v6 := range []bool{false, true} {
		if !slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Addr().Is6() == v6 }) {
			continue
		}
		for !enough(usable(p.held[h], n, v6), p.Needs[h].Addresses, 1) {
			block, found := p.free(n, h, v6)
			if !found {
				p.out.Short = append(p.out.Short, Short{h, v6})
				break
			}
			p.create(Lease{h.Network, h.Node, block})
		}
	}
}

// usable are those blocks of one family that still lie in the network.
func usable(held []Lease, n Network, v6 bool) []Lease {
	var out []Lease
	for _, l := range held {
		if l.Prefix.Addr().Is6() == v6 && subnetOf(n, l.Prefix) >= 0 {
			out = append(out, l)
		}
	}
	return out
}

// subnetOf is the subnet that a block lies in; -1: none.
func subnetOf(n Network, block netip.Prefix) int {
	return slices.IndexFunc(n.Subnets, func(s netip.Prefix) bool {
		return s.Bits() <= block.Bits() && s.Contains(block.Addr())
	})
}
