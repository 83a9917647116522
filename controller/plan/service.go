package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// loadBalancers makes the chain load balancer, listener, pool, member for each
// service that has a VIP, and notes on the members' VMIs the port maps they need.
func (b *builder) loadBalancers() {
	b.balancing = b.newBalancing()
	services := slices.Clone(b.idx.Services)
	slices.SortStableFunc(services, func(x, y Service) int { return x.Created.Compare(y.Created) })
	for i := range services {
		s := &services[i]
		if s.External || s.Headless || s.Foreign {
			continue
		}
		lb := &LoadBalancer{UUID: s.UID, Name: s.Namespace + "-" + s.Name, Service: s}
		lb.Home, lb.own = b.home(s)
		lb.Networks = b.usersOf(lb.Home, b.shared[s.Ref()])
		b.model.LoadBalancers = append(b.model.LoadBalancers, lb)
		b.claimVIPs(lb)
	}
	b.outsideAddresses()
	for _, lb := range b.model.LoadBalancers {
		b.listeners(lb)
		for _, sentence := range lb.Errors {
			b.problem("Service "+lb.Service.Ref(), sentence)
		}
	}
	slices.SortFunc(b.model.LoadBalancers, func(x, y *LoadBalancer) int {
		return cmp.Or(cmp.Compare(x.Service.Namespace, y.Service.Namespace), cmp.Compare(x.Service.Name, y.Service.Name))
	})
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
		lb.VIPs = append(lb.VIPs, lb.floatingIP(a, lb.Home.VIPs))
	}
}

func (lb *LoadBalancer) floatingIP(a netip.Addr, n *Network) *FloatingIP {
	uuid := Derive("floating-ip", lb.UUID, a.String())
	return &FloatingIP{UUID: uuid, Name: uuid, Address: a, Network: n}
}

func (b *builder) listeners(lb *LoadBalancer) {
	taken := map[portMapKey]bool{}
	ports := slices.Clone(lb.Service.Ports)
	slices.SortStableFunc(ports, func(x, y ServicePort) int {
		return cmp.Or(cmp.Compare(x.Port, y.Port), cmp.Compare(x.Protocol, y.Protocol), cmp.Compare(x.Name, y.Name))
	})
	for _, p := range ports {
		taken[portMapKey{Protocol: p.Protocol, Port: p.Port}] = true
	}
	left := strangers{}
	for i, p := range ports {
		if i > 0 && ports[i-1].Port == p.Port && ports[i-1].Protocol == p.Protocol {
			lb.Errors = append(lb.Errors, fmt.Sprintf("port %d/%s is named twice", p.Port, ProtocolName(p.Protocol)))
			continue
		}
		name := fmt.Sprintf("%s-%s-%d", lb.Name, ProtocolName(p.Protocol), p.Port)
		l := &Listener{UUID: Derive("loadbalancer-listener", lb.UUID, name), Name: name, Protocol: p.Protocol, Port: p.Port}
		l.PoolUUID = Derive("loadbalancer-pool", l.UUID)
		l.NodePort = b.claimNodePort(lb, p, taken)
		for _, vip := range lb.VIPs {
			b.members(lb, l, p, vip.Address.Is6(), left)
		}
		slices.SortFunc(l.Members, func(x, y *Member) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.UUID, y.UUID))
		})
		lb.Listeners = append(lb.Listeners, l)
	}
	if sentence := left.sentence(lb.Home); sentence != "" {
		lb.Errors = append(lb.Errors, sentence)
	}
	for vip := range lb.Addresses() {
		vip.finish()
	}
}

func covers(subnets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
