package plan

import (
	"github.com/vragent/vragent/controller/southbound"
)

// loadBalancerResources sends each load balancer, with the members that may be
// announced, to all nodes: each has the network of the hosts, which reach every
// VIP. A node makes routes in those networks that may use it.
func (b *builder) loadBalancerResources() {
	set := networkSet(b.hostNetwork().Name)
	for _, lb := range b.model.LoadBalancers {
		if len(lb.VIPs) == 0 {
			continue
		}
		opened := b.open(lb)
		body := b.wireLoadBalancer(lb, opened)
		b.add(set, southbound.Type_TYPE_LOAD_BALANCER, lb.UUID, body)
		if len(opened) > 0 {
			b.memory.opened[lb.UUID] = opened
		}
	}
}

func (b *builder) wireLoadBalancer(lb *LoadBalancer, opened ways) *southbound.LoadBalancer {
	s := lb.Service
	body := &southbound.LoadBalancer{
		Uuid: lb.UUID, Name: lb.Name, Namespace: s.Namespace, Service: s.Name, Home: lb.Home.Name,
		AffinitySeconds: s.AffinitySeconds, InternalLocal: s.InternalLocal, ExternalLocal: s.Outside.Local,
	}
	if b.in.Config.NodePorts {
		body.HealthCheckPort = uint32(s.Outside.HealthPort)
	}
	for _, n := range lb.Networks {
		body.VirtualNetworks = append(body.VirtualNetworks, n.Name)
	}
	for _, f := range lb.VIPs {
		body.Vips = append(body.Vips, f.Address.String())
	}
	for _, f := range lb.Externals {
		if opened[externalWay(f)] {
			body.ExternalVips = append(body.ExternalVips, f.Address.String())
		}
	}
	for _, l := range lb.Listeners {
		wire := &southbound.Listener{Uuid: l.UUID, Name: l.Name, Protocol: uint32(l.Protocol), Port: uint32(l.Port)}
		if opened[nodeWay(l)] {
			wire.NodePort = uint32(l.NodePort)
		}
		for _, m := range l.Members {
			if m.Pending == "" {
				wire.Members = append(wire.Members, b.wireMember(m))
			}
		}
		body.Listeners = append(body.Listeners, wire)
	}
	return body
}

func (b *builder) wireMember(m *Member) *southbound.Member {
	w := &southbound.Member{
		Uuid: m.UUID, Name: m.Name, Node: m.Node,
		Address: m.Address.String(), Port: uint32(m.Port), Draining: m.Draining,
		HintZones: m.HintZones, HintNodes: m.HintNodes,
	}
	if v := m.Interface; v != nil {
		w.Vmi, w.Label, w.TunnelAddress = v.UUID, v.Label, b.tunnel(m.Node).String()
	}
	return w
}

// ways lead to a load balancer beside its clusterIPs: external addresses (only
// vip is set), and node ports of a listener (only protocol and port).
type ways map[portMapKey]bool

func externalWay(f *FloatingIP) portMapKey { return portMapKey{VIP: f.Address} }
func nodeWay(l *Listener) portMapKey       { return portMapKey{Protocol: l.Protocol, Port: l.NodePort} }

// open finds which members may be announced, and which ways to them. They share
// one list of members, so that a way and a member wait for each other:
//
//	a member has the port maps of the clusterIPs and of every way that is open;
//	a way is opened when every announced member has its port maps, and stays open.
//
// So neither a new way nor a new member takes anything from what works.
func (b *builder) open(lb *LoadBalancer) ways {
	before := b.in.Memory.opened[lb.UUID]
	for _, l := range lb.Listeners {
		for _, m := range l.Members {
			m.Pending = b.pending(lb, l, m, before)
		}
	}
	var opened ways
	open := func(way portMapKey, why string) {
		if why == "" {
			if opened == nil {
				opened = ways{}
			}
			opened[way] = true
		}
	}
	for _, f := range lb.Externals {
		for _, l := range lb.Listeners {
			if f.Pending == "" {
				f.Pending = l.lagging(f, l.Port)
			}
		}
		open(externalWay(f), f.Pending)
	}
	for _, l := range lb.Listeners {
		why := ""
		for _, f := range lb.VIPs {
			if l.NodePort != 0 && why == "" {
				why = l.lagging(f, l.NodePort)
			}
		}
		if l.NodePort != 0 {
			open(nodeWay(l), why)
		}
	}
	return opened
}

// lagging says which announced member of a listener has no port map yet for a
// port of an address; empty: none.
func (l *Listener) lagging(f *FloatingIP, port uint16) string {
	for _, m := range l.Members {
		if m.Interface != nil && m.Pending == "" && m.V6 == f.Address.Is6() && !m.mapped(f, l, port) {
			return "node " + m.Node + " has not acknowledged the port map of " + m.Name
		}
	}
	return ""
}

// mapped tells whether the node of a member has the port map it needs.
func (m *Member) mapped(f *FloatingIP, l *Listener, port uint16) bool {
	return m.Interface.maps.Has(portMapKey{VIP: f.Address, Protocol: l.Protocol, Port: port}, m.Port)
}

// pending says why a member may not be announced yet; empty: it may.
func (b *builder) pending(lb *LoadBalancer, l *Listener, m *Member, before ways) string {
	v := m.Interface
	switch {
	case v == nil:
		return ""
	case !v.Attached:
		return "the pod is not attached"
	case v.Label == 0:
		return "node " + m.Node + " reports no label"
	case !b.tunnel(m.Node).IsValid():
		return "node " + m.Node + " has no tunnel address"
	case !m.Address.IsValid():
		return "the pod has no " + familyOf(m.V6) + " address"
	}
	for f := range lb.Addresses() {
		if f.Address.Is6() != m.V6 || f.External && !before[externalWay(f)] {
			continue
		}
		if !m.mapped(f, l, l.Port) || !f.External && before[nodeWay(l)] && l.NodePort != 0 && !m.mapped(f, l, l.NodePort) {
			return "node " + m.Node + " has not acknowledged the port map"
		}
	}
	return ""
}
