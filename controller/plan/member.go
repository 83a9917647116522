package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan/endpoints"
)

// members resolves the endpoints of one family behind a listener.
func (b *builder) members(lb *LoadBalancer, l *Listener, port ServicePort, v6 bool, left strangers) {
	key := podKey{Namespace: lb.Service.Namespace, Name: lb.Service.Name}
	for _, c := range endpoints.Merge(lb.Service, port, v6, b.idx.Slices[key]) {
		m := b.member(lb, &c)
		switch {
		case m == nil:
			continue
		case m.Interface != nil && m.Interface.Network != lb.Home:
			left[m.Interface] = true
			continue
		}
		m.UUID = Derive("loadbalancer-member", l.UUID, c.ID(), familyOf(v6))
		m.V6, m.Port, m.Draining = v6, c.Port, c.Draining
		m.HintZones, m.HintNodes = c.HintZones, c.HintNodes
		l.Members = append(l.Members, m)
		if m.Interface != nil {
			lb.attach(l, m)
		}
	}
}

// attach gives a member's VMI the addresses of its service, each with the port
// maps that it needs.
func (lb *LoadBalancer) attach(l *Listener, m *Member) {
	for vip := range lb.Addresses() {
		if vip.Address.Is6() != m.V6 {
			continue
		}
		for _, port := range l.ports(vip) {
			m.Interface.desired[portMapKey{VIP: vip.Address, Protocol: l.Protocol, Port: port}] = target{Port: m.Port, LB: lb.UUID}
			vip.attach(m.Interface, PortMapping{l.Protocol, port, m.Port})
		}
	}
}

// ports are those of an address that lead to a listener: its own, and on the
// addresses of the cluster its node port, to which the kernel leads.
func (l *Listener) ports(vip *FloatingIP) []uint16 {
	if vip.External || l.NodePort == 0 || l.NodePort == l.Port {
		return []uint16{l.Port}
	}
	return []uint16{l.Port, l.NodePort}
}

// member finds the VMI behind an endpoint. Endpoints that are no pods, and pods
// on the host's network, are members by address. nil: no backend of ours.
func (b *builder) member(lb *LoadBalancer, c *endpoints.Candidate) *Member {
	if v := b.interfaceOf(lb.Service, &c.Endpoint, lb.own); v != nil {
		return &Member{Name: v.Pod.Ref(), Interface: v, Node: v.Pod.Node, Address: addressOf(v, c.Address.Is6())}
	}
	if c.Pod == nil {
		return b.external(lb, c)
	}
	k := podKey{Namespace: c.Pod.Namespace, Name: c.Pod.Name}
	p := b.idx.PodOf[k]
	if p == nil || c.Pod.UID != "" && c.Pod.UID != p.UID {
		b.problem("Service "+lb.Service.Ref(), "has an endpoint of pod "+k.Namespace+"/"+k.Name+", which is not there")
		return nil
	}
	if v := b.pods[k]; v != nil {
		b.problem("Service "+lb.Service.Ref(), "has an endpoint of pod "+p.Ref()+" of network "+v.Network.Name+", to which only services of its own namespace lead")
		return nil
	}
	if !p.HostNetwork {
		return nil // not scheduled, refused, or finished
	}
	c.Node = cmp.Or(c.Node, p.Node)
	return b.external(lb, c)
}

// external is a member by address, to which the host leads. What lies in the
// pods' subnets is never one: the host would lead there past every isolation.
func (b *builder) external(lb *LoadBalancer, c *endpoints.Candidate) *Member {
	what := ""
	switch {
	case covers(b.in.Config.ServiceSubnets, c.Address), b.vips[c.Address] != nil:
		what = "a service address"
	case covers(b.in.Config.PodSubnets, c.Address):
		what = "in the pods' subnet, and no pod of network " + lb.own.Name + " has it"
	default:
		return &Member{Name: endpointText(c.Address, c.Port), Node: c.Node, Address: c.Address}
	}
	b.problem("Service "+lb.Service.Ref(), "has the endpoint "+c.Address.String()+", which is "+what)
	return nil
}

// strangers are pods that back a service and are not in its network.
type strangers map[*Interface]bool

// sentence says that they are left out; empty: there are none.
func (s strangers) sentence(home *Network) string {
	if len(s) == 0 {
		return ""
	}
	all := slices.SortedFunc(maps.Keys(s), func(x, y *Interface) int { return cmp.Compare(x.Pod.Ref(), y.Pod.Ref()) })
	text := fmt.Sprintf("is served by pods of network %s only: pod %s is in %s", home.Name, all[0].Pod.Ref(), all[0].Network.Name)
	if n := len(all) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more are elsewhere", n)
	}
	return text + "; put all pods of a service into one network"
}

func (f *FloatingIP) attach(v *Interface, m PortMapping) {
	f.Interfaces = append(f.Interfaces, v)
	f.Maps = append(f.Maps, m)
}

// finish sorts what the listeners attached and says each once.
func (f *FloatingIP) finish() {
	slices.SortFunc(f.Interfaces, func(a, b *Interface) int { return strings.Compare(a.Name, b.Name) })
	f.Interfaces = slices.Compact(f.Interfaces)
	slices.SortFunc(f.Maps, func(a, b PortMapping) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Target, b.Target))
	})
	f.Maps = slices.Compact(f.Maps)
}

func addressOf(v *Interface, v6 bool) netip.Addr {
	for _, a := range v.Addresses {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

func endpointText(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func familyOf(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}
