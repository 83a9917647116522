package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// loadBalancers makes the chain load balancer, listener, pool, member for each
// service that has a VIP, and notes on the members' VMIs the port maps they need.
func (b *builder) loadBalancers() {
	b.vips = map[netip.Addr]*LoadBalancer{}
	services := slices.Clone(b.idx.services)
	slices.SortStableFunc(services, func(x, y Service) int { return x.Created.Compare(y.Created) })
	for i := range services {
		s := &services[i]
		if s.External || s.Headless || s.Foreign {
			continue
		}
		lb := &LoadBalancer{UUID: s.UID, Name: s.Namespace + "-" + s.Name, Service: s, Networks: b.networksUsing(s)}
		b.model.LoadBalancers = append(b.model.LoadBalancers, lb)
		b.unserved(s)
		b.claimVIPs(lb)
		b.listeners(lb)
		for _, sentence := range lb.Errors {
			b.problem("Service "+s.Ref(), sentence)
		}
	}
	slices.SortFunc(b.model.LoadBalancers, func(x, y *LoadBalancer) int {
		return cmp.Or(cmp.Compare(x.Service.Namespace, y.Service.Namespace), cmp.Compare(x.Service.Name, y.Service.Name))
	})
}

// unserved notes the ways in from outside that a service asks for.
func (b *builder) unserved(s *Service) {
	var asked []string
	missing := "external addresses"
	switch {
	case s.NodePorts:
		asked, missing = append(asked, "type NodePort"), "node ports"
	case s.LoadBalancer:
		asked = append(asked, "type LoadBalancer")
	}
	if s.ExternalIPs {
		asked = append(asked, "externalIPs")
		if s.NodePorts {
			missing = "node ports and external addresses"
		}
	}
	if len(asked) > 0 {
		b.model.Notices = append(b.model.Notices, Problem{Object: "Service " + s.Ref(), Sentence: fmt.Sprintf(
			"%s: only its clusterIP is served; %s are not implemented yet", strings.Join(asked, ", "), missing)})
	}
}

// claimVIPs gives a load balancer its addresses. Services come in the order of
// their age: the older one keeps an address that two of them name.
func (b *builder) claimVIPs(lb *LoadBalancer) {
	if len(lb.Service.VIPs) == 0 {
		lb.Errors = append(lb.Errors, "has no clusterIP")
	}
	families := map[bool]bool{}
	for _, a := range lb.Service.VIPs {
		switch owner := b.vips[a]; {
		case owner == lb:
			continue // named twice
		case owner != nil:
			lb.Errors = append(lb.Errors, fmt.Sprintf(
				"clusterIP %v is that of the older Service %s, which keeps it; give one of them another", a, owner.Service.Ref()))
			continue
		case covers(b.in.Config.PodSubnets, a):
			lb.Errors = append(lb.Errors, fmt.Sprintf("clusterIP %v lies in the pods' subnet", a))
			continue
		case families[a.Is6()]:
			lb.Errors = append(lb.Errors, fmt.Sprintf("clusterIP %v is a second one of its family", a))
			continue
		case !covers(b.in.Config.ServiceSubnets, a):
			b.problem("Service "+lb.Service.Ref(), fmt.Sprintf(
				"clusterIP %v is outside the service subnets: pods reach it, hosts do not", a))
		}
		families[a.Is6()] = true
		b.vips[a] = lb
		uuid := Derive("floating-ip", lb.UUID, a.String())
		lb.VIPs = append(lb.VIPs, &FloatingIP{UUID: uuid, Name: uuid, Address: a, Network: b.serviceNetwork()})
	}
}

func (b *builder) listeners(lb *LoadBalancer) {
	taken := map[portMapKey]bool{}
	ports := slices.Clone(lb.Service.Ports)
	slices.SortStableFunc(ports, func(x, y ServicePort) int {
		return cmp.Or(cmp.Compare(x.Port, y.Port), cmp.Compare(x.Protocol, y.Protocol), cmp.Compare(x.Name, y.Name))
	})
	for _, p := range ports {
		k := portMapKey{protocol: p.Protocol, port: p.Port}
		if taken[k] {
			lb.Errors = append(lb.Errors, fmt.Sprintf("port %d/%s is named twice", p.Port, ProtocolName(p.Protocol)))
			continue
		}
		taken[k] = true
		name := fmt.Sprintf("%s-%s-%d", lb.Name, ProtocolName(p.Protocol), p.Port)
		l := &Listener{UUID: Derive("loadbalancer-listener", lb.UUID, name), Name: name, Protocol: p.Protocol, Port: p.Port}
		l.PoolUUID = Derive("loadbalancer-pool", l.UUID)
		for _, vip := range lb.VIPs {
			b.members(lb, l, p, vip)
		}
		slices.SortFunc(l.Members, func(x, y *Member) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.UUID, y.UUID))
		})
		lb.Listeners = append(lb.Listeners, l)
	}
	for _, vip := range lb.VIPs {
		vip.finish()
	}
}

// members resolves the endpoints behind one VIP of a listener.
func (b *builder) members(lb *LoadBalancer, l *Listener, port ServicePort, vip *FloatingIP) {
	v6 := vip.Address.Is6()
	key := podKey{lb.Service.Namespace, lb.Service.Name}
	for _, c := range candidates(lb.Service, port, v6, b.idx.slices[key]) {
		m := b.member(lb, &c)
		if m == nil {
			continue
		}
		m.V6, m.Port, m.Draining = v6, c.port, c.draining
		l.Members = append(l.Members, m)
		if m.Interface != nil {
			k := portMapKey{vip.Address, l.Protocol, l.Port}
			m.Interface.desired[k] = target{c.port, lb.UUID}
			vip.attach(m.Interface, PortMapping{l.Protocol, l.Port, c.port})
		}
		m.UUID = Derive("loadbalancer-member", l.UUID, c.id(), familyOf(v6))
	}
}

// member finds the VMI behind an endpoint by its pod, never by its address.
// Endpoints without a pod, and pods on the host's network, are members by
// address. nil: no backend of ours.
func (b *builder) member(lb *LoadBalancer, c *candidate) *Member {
	if c.Pod == nil {
		return b.external(lb, c)
	}
	k := podKey{c.Pod.Namespace, c.Pod.Name}
	p := b.idx.podOf[k]
	if p == nil || c.Pod.UID != "" && c.Pod.UID != p.UID {
		b.problem("Service "+lb.Service.Ref(), "has an endpoint of pod "+k.namespace+"/"+k.name+", which is not there")
		return nil
	}
	if p.HostNetwork {
		return b.external(lb, c)
	}
	v := b.pods[k]
	if v == nil {
		return nil // not scheduled, or finished
	}
	return &Member{Name: p.Ref(), Interface: v, Node: p.Node, Address: addressOf(v, c.Address.Is6())}
}

func (b *builder) external(lb *LoadBalancer, c *candidate) *Member {
	if covers(b.in.Config.ServiceSubnets, c.Address) {
		b.problem("Service "+lb.Service.Ref(), "has the endpoint "+c.Address.String()+", which is a service address")
		return nil
	}
	return &Member{Name: endpointText(c.Address, c.port), Node: c.Node, Address: c.Address}
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

func covers(subnets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
