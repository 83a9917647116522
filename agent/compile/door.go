package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/table"
)

// door is a (protocol, port) of a VIP with the backends behind it.
type door struct {
	proto    uint8
	port     uint16
	members  []table.Member
	hostOnly bool
	outside  *[]table.Member // of clients outside of the cluster, where they are others
}

// doors are those of a cluster IP: the listeners, and the node ports that the
// kernel leads to it.
func (c *compiler) doors(lb *LoadBalancer, vip netip.Addr) []door {
	var out []door
	for i := range lb.Listeners {
		l := &lb.Listeners[i]
		d := door{proto: l.Proto, port: l.Port, members: c.backends(l, vip, lb.InternalLocal)}
		if c.in.NodePorts && l.NodePort == l.Port && lb.ExternalLocal { // one door is both
			d.outside = c.outsiders(lb, l, vip)
		}
		out = append(out, d)
		if c.in.NodePorts && lb.nodePort(l) && l.NodePort != l.Port {
			out = append(out, door{
				proto: l.Proto, port: l.NodePort, hostOnly: true,
				members: c.backends(l, vip, false), outside: c.outsiders(lb, l, vip),
			})
		}
	}
	return sortDoors(out)
}

// externalDoors are those of an external VIP.
func (c *compiler) externalDoors(lb *LoadBalancer, vip netip.Addr) []door {
	var out []door
	for i := range lb.Listeners {
		l := &lb.Listeners[i]
		out = append(out, door{proto: l.Proto, port: l.Port, members: c.backends(l, vip, false), outside: c.outsiders(lb, l, vip)})
	}
	return sortDoors(out)
}

// localDoors are what the label of a VIP leads to.
func (c *compiler) localDoors(lb *LoadBalancer, vip netip.Addr) []door {
	var out []door
	for i := range lb.Listeners {
		l := &lb.Listeners[i]
		isLocal := func(m *Member) bool { return c.isLocal(m, vip) }
		out = append(out, door{proto: l.Proto, port: l.Port, members: c.members(l, isLocal, nil)})
	}
	return sortDoors(out)
}

func sortDoors(list []door) []door {
	slices.SortFunc(list, func(a, b door) int { return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port)) })
	return list
}

// nodePort says whether a listener has a node port of its own: not one that is
// the port of another listener.
func (lb *LoadBalancer) nodePort(l *Listener) bool {
	return l.NodePort != 0 && !slices.ContainsFunc(lb.Listeners, func(o Listener) bool {
		return o.Proto == l.Proto && o.Port == l.NodePort && l.Port != l.NodePort
	})
}

// outsiders are the backends of clients outside of the cluster; nil: the same
// as for others.
func (c *compiler) outsiders(lb *LoadBalancer, l *Listener, vip netip.Addr) *[]table.Member {
	if !lb.ExternalLocal {
		return nil
	}
	here := c.backends(l, vip, true)
	return &here
}

// backends are those that serve a VIP's family: all, of which those meant for
// this node are preferred, or only those of this node.
func (c *compiler) backends(l *Listener, vip netip.Addr, here bool) []table.Member {
	if here {
		return awake(c.members(l, func(m *Member) bool { return m.Node == c.in.Node && m.Address.Is4() == vip.Is4() }, nil))
	}
	serves := func(m *Member) bool { return m.Address.Is4() == vip.Is4() }
	return c.members(l, serves, c.hinted(l, serves))
}

// awake lets members that drain take new flows where there is nobody else: only
// those of this node may, and they still serve.
func awake(members []table.Member) []table.Member {
	if !slices.ContainsFunc(members, func(m table.Member) bool { return !m.Draining }) {
		for i := range members {
			members[i].Draining = false
		}
	}
	return members
}

// hinted says which members take the new flows of this node's clients, as
// kube-proxy chooses: those meant for the node, else those meant for its zone,
// if all have such hints and one matches. nil: all.
func (c *compiler) hinted(l *Listener, serves func(*Member) bool) func(*Member) bool {
	if !slices.ContainsFunc(l.Members, func(m Member) bool { return len(m.HintNodes)+len(m.HintZones) > 0 }) {
		return nil
	}
	toNode := func(m *Member) bool { return slices.Contains(m.HintNodes, c.in.Node) }
	toZone := func(m *Member) bool { return c.in.Zone != "" && slices.Contains(m.HintZones, c.in.Zone) }
	nodes, zones, node, zone := true, true, false, false
	for i := range l.Members {
		m := &l.Members[i]
		if _, ok := c.member(m); !ok || m.Draining || !serves(m) {
			continue
		}
		nodes, zones = nodes && len(m.HintNodes) > 0, zones && len(m.HintZones) > 0
		node, zone = node || toNode(m), zone || toZone(m)
	}
	switch {
	case nodes && node:
		return toNode
	case zones && zone:
		return toZone
	}
	return nil
}

// members are the backends of a listener that count. Those that are not
// preferred keep their flows and take no new ones.
func (c *compiler) members(l *Listener, counts, prefers func(*Member) bool) []table.Member {
	var out []table.Member
	for i := range l.Members {
		m := &l.Members[i]
		if !counts(m) {
			continue
		}
		if to, ok := c.member(m); ok {
			to.Draining = to.Draining || prefers != nil && !prefers(m)
			out = append(out, to)
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
