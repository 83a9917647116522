package compile

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vragent/vragent/fastpath/table"
)

// isOn reports whether a backend is on the node.
func (lb *LoadBalancer) isOn(node string) bool {
	for i := range lb.Listeners {
		for j := range lb.Listeners[i].Members {
			if m := &lb.Listeners[i].Members[j]; m.VMI != "" && m.Node == node {
				return true
			}
		}
	}
	return false
}

// ends lists the tunnel addresses of backends on other nodes.
func (lb *LoadBalancer) ends(node string) (ends []netip.Addr) {
	for i := range lb.Listeners {
		for j := range lb.Listeners[i].Members {
			if m := &lb.Listeners[i].Members[j]; m.VMI != "" && m.Node != node {
				ends = append(ends, m.Tunnel)
			}
		}
	}
	return ends
}

// services makes, for every VIP, a composite per listener: the VIP's route
// leads to it when it is the only one, else to a service next hop that knows
// them all. A VIP with backends here also gets a label that leads to those only.
func (c *compiler) services() {
	sorted := slices.SortedFunc(slices.Values(c.in.LoadBalancers), func(a, b *LoadBalancer) int { return cmp.Compare(a.UUID, b.UUID) })
	for _, lb := range sorted {
		vrfs := c.usable(lb)
		if len(vrfs) == 0 {
			continue
		}
		for vip, nh := range c.vips(lb) {
			for _, network := range vrfs {
				c.route(c.vrfs[network], netip.PrefixFrom(vip, vip.BitLen()), nh, 0)
			}
		}
		if c.out.Memory.fragments[lb] == nil && lb.isOn(c.in.Node) {
			for _, vip := range sortedAddrs(lb.VIPs) {
				c.localVIP(lb, vip, vrfs[0])
			}
		}
	}
}

// usable lists the networks here whose pods may use a load balancer.
func (c *compiler) usable(lb *LoadBalancer) []string {
	var names []string
	for _, n := range lb.Networks {
		if c.vrfs[n] != 0 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// vip makes the next hops of one VIP and returns the one its route leads to.
// variant keeps the keys of those with chosen members apart.
func (c *compiler) vip(lb *LoadBalancer, vip netip.Addr, variant string, choose func(*Listener, netip.Addr) []table.Member) table.NextHopID {
	key := vipKey(lb, vip) + variant
	listeners := slices.SortedFunc(slices.Values(lb.Listeners), func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	if len(listeners) == 1 {
		l := &listeners[0]
		return c.composite(listenerKey(key, l), choose(l, vip), l.Proto, l.Port)
	}
	nh := table.NextHop{ID: c.nhID(key), Type: table.NHService}
	for i := range listeners {
		l := &listeners[i]
		nh.Listeners = append(nh.Listeners, table.Listener{
			Proto: l.Proto, Port: l.Port, NH: c.composite(listenerKey(key, l), choose(l, vip), 0, 0),
		})
	}
	c.nextHop(nh)
	return nh.ID
}

// localVIP announces a VIP that has backends here, under a label of its own.
func (c *compiler) localVIP(lb *LoadBalancer, vip netip.Addr, network string) {
	var vmis []string
	for i := range lb.Listeners {
		for _, m := range lb.Listeners[i].Members {
			if c.isLocal(&m, vip) {
				vmis = append(vmis, m.VMI)
			}
		}
	}
	if len(vmis) == 0 {
		return
	}
	slices.Sort(vmis)
	nh := c.vip(lb, vip, "/local", c.localMembers)
	c.out.Announce.vip(network, vip, c.label(vipKey(lb, vip), nh), slices.Compact(vmis))
}

// members are all backends of a listener that serve the VIP's family.
func (c *compiler) members(l *Listener, vip netip.Addr) []table.Member {
	var out []table.Member
	for i := range l.Members {
		m := &l.Members[i]
		if m.Address.Is4() != vip.Is4() {
			continue
		}
		if to, ok := c.member(m); ok {
			out = append(out, to)
		}
	}
	return out
}

// localMembers are the backends on this node.
func (c *compiler) localMembers(l *Listener, vip netip.Addr) []table.Member {
	var out []table.Member
	for i := range l.Members {
		if m := &l.Members[i]; c.isLocal(m, vip) {
			if to, ok := c.member(m); ok {
				out = append(out, to)
			}
		}
	}
	return out
}

func (c *compiler) isLocal(m *Member, vip netip.Addr) bool {
	return m.VMI != "" && m.Node == c.in.Node && c.local[m.VMI] != nil && m.Address.Is4() == vip.Is4()
}

// member says how a backend is reached: here through its vif, on another node
// with its label through the tunnel, and if it is no VMI through the host.
func (c *compiler) member(m *Member) (table.Member, bool) {
	to := table.Member{Key: memberKey(m.UUID), Name: m.Name, Draining: m.Draining}
	switch {
	case m.VMI == "":
		to.NH = c.hostNH
		to.DNAT = netip.AddrPortFrom(m.Address, m.Port)
	case m.Node == c.in.Node:
		p := c.local[m.VMI]
		if p == nil { // announced, but its sandbox is gone
			return to, false
		}
		to.NH = c.ids.PodKnown(p.Key, p.VMI).NH
	default:
		to.NH, to.Label = c.tunnelTo(m.Tunnel), m.Label
		return to, to.NH != 0 && to.Label != 0
	}
	return to, to.NH != 0
}

// composite makes an ECMP next hop whose members keep their positions.
func (c *compiler) composite(key string, members []table.Member, proto uint8, port uint16) table.NextHopID {
	id := c.nhID(key)
	if len(members) > table.MaxMembers {
		c.problem("%s: %d members, only %d fit", key, len(members), table.MaxMembers)
		slices.SortFunc(members, func(a, b table.Member) int { return cmp.Compare(a.Key, b.Key) })
		members = members[:table.MaxMembers]
	}
	placed := c.old.positions.place(id, members)
	if len(placed) > 0 {
		c.out.Memory.positions[id] = keysOf(placed)
	}
	c.nextHop(table.NextHop{ID: id, Type: table.NHComposite, Members: placed, Proto: proto, Port: port})
	return id
}

func vipKey(lb *LoadBalancer, vip netip.Addr) string {
	return "lb/" + lb.UUID + "/" + vip.String()
}

func listenerKey(vip string, l *Listener) string {
	return vip + "/" + strconv.Itoa(int(l.Proto)) + "/" + strconv.Itoa(int(l.Port))
}

// memberKey is equal on all nodes: it decides which flows choose the member.
func memberKey(uuid string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uuid))
	return h.Sum64()
}
