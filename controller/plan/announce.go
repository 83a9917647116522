package plan

import (
	"github.com/vragent/vragent/controller/southbound"
)

// loadBalancerResources sends each load balancer, with the members that may be
// announced, to the networks whose pods may use it.
func (b *builder) loadBalancerResources() {
	for _, lb := range b.model.LoadBalancers {
		if len(lb.VIPs) == 0 {
			continue
		}
		body := &southbound.LoadBalancer{Uuid: lb.UUID, Name: lb.Name}
		for _, n := range lb.Networks {
			body.VirtualNetworks = append(body.VirtualNetworks, n.Name)
		}
		for _, f := range lb.VIPs {
			body.Vips = append(body.Vips, f.Address.String())
		}
		for _, l := range lb.Listeners {
			wire := &southbound.Listener{Uuid: l.UUID, Name: l.Name, Protocol: uint32(l.Protocol), Port: uint32(l.Port)}
			for _, m := range l.Members {
				if m.Pending = b.pending(lb, l, m); m.Pending == "" {
					wire.Members = append(wire.Members, b.wireMember(m))
				}
			}
			body.Listeners = append(body.Listeners, wire)
		}
		b.addShared(lb.Networks, encode(southbound.Type_TYPE_LOAD_BALANCER, lb.UUID, body))
	}
}

// addShared puts one resource into the sets of several networks.
func (b *builder) addShared(networks []*Network, r *Resource) {
	for _, n := range networks {
		b.sets[networkSet(n.Name)][r.Key] = r
	}
}

func (b *builder) wireMember(m *Member) *southbound.Member {
	w := &southbound.Member{
		Uuid: m.UUID, Name: m.Name, Node: m.Node,
		Address: m.Address.String(), Port: uint32(m.Port), Draining: m.Draining,
	}
	if v := m.Interface; v != nil {
		w.Vmi, w.Label, w.TunnelAddress = v.UUID, v.Label, b.tunnel(m.Node).String()
	}
	return w
}

// pending says why a member may not be announced yet; empty: it may.
func (b *builder) pending(lb *LoadBalancer, l *Listener, m *Member) string {
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
	for _, f := range lb.VIPs {
		if f.Address.Is6() != m.V6 {
			continue
		}
		if v.acked[portMapKey{f.Address, l.Protocol, l.Port}].port != m.Port {
			return "node " + m.Node + " has not acknowledged the port map"
		}
	}
	return ""
}
