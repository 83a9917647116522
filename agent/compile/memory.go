package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/table"
)

// Memory carries over from one compilation to the next: where members stand,
// and the next hops of load balancers that cannot have changed. It only saves
// work and movement; any Memory gives tables that forward alike.
type Memory struct {
	positions positions
	fragments map[*LoadBalancer]*fragment
	valid     validity
}

// validity is what fragments depend on beside their load balancer.
type validity struct {
	node      string
	zone      string
	nodePorts bool
	hostNH    table.NextHopID
	self      netip.Addr
	peers     []netip.Addr // sorted
}

// fragment is what a load balancer without backends here was compiled to.
type fragment struct {
	keys     []string // of the next hops' numbers
	nextHops []table.NextHop
	vips     map[netip.Addr]table.NextHopID
}

// Recall makes a Memory of the tables the fast path holds.
func Recall(s *table.State) *Memory {
	m := &Memory{positions: positions{}}
	for i := range s.NextHops {
		if n := &s.NextHops[i]; n.Type == table.NHComposite && len(n.Members) > 0 {
			m.positions[n.ID] = keysOf(n.Members)
		}
	}
	return m
}

// Neighbours are the underlay's, as the tunnels in the fast path's tables have them.
func Neighbours(s *table.State) map[netip.Addr]Neighbour {
	known := map[netip.Addr]Neighbour{}
	for i := range s.NextHops {
		if n := &s.NextHops[i]; n.Type == table.NHTunnel {
			known[n.Dip] = Neighbour{SrcMAC: n.SrcMAC, DstMAC: n.DstMAC, MTU: n.MTU}
		}
	}
	return known
}

// remember opens the new memory and drops what is no longer valid of the old.
func (c *compiler) remember() {
	now := &Memory{positions: positions{}, fragments: map[*LoadBalancer]*fragment{}, valid: validity{
		node: c.in.Node, zone: c.in.Zone, nodePorts: c.in.NodePorts, hostNH: c.hostNH,
		self: c.in.Fabric.Address, peers: sortedAddrs(c.in.Peers),
	}}
	c.out.Memory = now
	if c.old == nil {
		c.old = &Memory{}
	}
	if !c.old.valid.equal(&now.valid) {
		c.old = &Memory{positions: c.old.positions}
	}
}

func (v *validity) equal(o *validity) bool {
	return v.node == o.node && v.zone == o.zone && v.nodePorts == o.nodePorts && v.hostNH == o.hostNH &&
		v.self == o.self && slices.Equal(v.peers, o.peers)
}

// vips makes the next hops of a load balancer and says which one each VIP
// leads to. What has no backend here and none at an unknown node depends on
// nothing but itself and is taken as it was.
func (c *compiler) vips(lb *LoadBalancer) map[netip.Addr]table.NextHopID {
	if f := c.old.fragments[lb]; f != nil {
		return c.reuse(lb, f)
	}
	f := &fragment{vips: map[netip.Addr]table.NextHopID{}}
	first, keys := len(c.out.State.NextHops), len(c.keys)
	for _, vip := range sortedAddrs(lb.VIPs) {
		f.vips[vip] = c.vip(lb, vipKey(lb, vip), c.doors(lb, vip))
	}
	for _, vip := range sortedAddrs(lb.ExternalVIPs) {
		if f.vips[vip] == 0 {
			f.vips[vip] = c.vip(lb, vipKey(lb, vip), c.externalDoors(lb, vip))
		}
	}
	if !lb.isOn(c.in.Node) && c.allPeers(lb.ends(c.in.Node)) {
		f.keys, f.nextHops = slices.Clone(c.keys[keys:]), slices.Clone(c.out.State.NextHops[first:])
		c.out.Memory.fragments[lb] = f
	}
	return f.vips
}

func (c *compiler) reuse(lb *LoadBalancer, f *fragment) map[netip.Addr]table.NextHopID {
	for _, key := range f.keys {
		c.nhID(key) // keeps it
	}
	for i := range f.nextHops {
		n := &f.nextHops[i]
		c.nextHop(*n)
		if p := c.old.positions[n.ID]; p != nil {
			c.out.Memory.positions[n.ID] = p
		}
	}
	c.out.Memory.fragments[lb] = f
	return f.vips
}

func (c *compiler) allPeers(ends []netip.Addr) bool {
	for _, e := range ends {
		if _, ok := slices.BinarySearchFunc(c.out.Memory.valid.peers, e, netip.Addr.Compare); !ok {
			return false
		}
	}
	return true
}

// positions say, per composite, which member is where, by key. A hole is 0.
type positions map[table.NextHopID][]uint64

func keysOf(members []table.Member) []uint64 {
	keys := make([]uint64, len(members))
	for i := range members {
		if members[i].NH != 0 {
			keys[i] = members[i].Key
		}
	}
	return keys
}

// place leaves every member where it was and puts new ones into holes, lowest
// first, then at the end. Of two with the same key one stays.
func (p positions) place(id table.NextHopID, members []table.Member) []table.Member {
	if len(members) == 0 {
		return nil
	}
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b table.Member) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Name, b.Name)) })
	sorted = slices.CompactFunc(sorted, func(a, b table.Member) bool { return a.Key == b.Key })
	old := p[id]
	out := make([]table.Member, len(old), max(len(old), len(sorted)))
	fresh := sorted[:0]
	for _, m := range sorted {
		if at := slices.Index(old, m.Key); at >= 0 && m.Key != 0 {
			out[at] = m
			continue
		}
		fresh = append(fresh, m)
	}
	for i := 0; i < len(out) && len(fresh) > 0; i++ {
		if out[i].NH == 0 {
			out[i], fresh = fresh[0], fresh[1:]
		}
	}
	out = append(out, fresh...)
	for len(out) > 0 && out[len(out)-1].NH == 0 {
		out = out[:len(out)-1]
	}
	return out
}
