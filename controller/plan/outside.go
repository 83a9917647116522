package plan

import (
	"fmt"
	"net/netip"
	"slices"
)

// outsideAddresses gives the load balancers the addresses that clients outside
// of the cluster use. One address belongs to one service: to whom it was given
// from a pool, else to the oldest of those whose externalIPs name it.
func (b *builder) outsideAddresses() {
	given := b.floatingAddresses()
	for _, lb := range b.model.LoadBalancers { // as everybody has been told, and not before
		outside := &lb.Service.Outside
		for _, a := range outside.Ingress {
			switch g := given[lb.UUID]; {
			case outside.OtherClass: // another controller's word; what of it cannot be is its affair
				b.claimExternal(lb, a)
			case slices.Contains(g.addresses, a):
				f, why := b.claimExternal(lb, a)
				if why != "" {
					lb.Errors = append(lb.Errors, fmt.Sprintf("address %v %s", a, why))
				} else if f != nil && g.pool != nil {
					f.Pool, f.Network = g.pool, g.pool.Network
				}
			}
		}
	}
	for _, lb := range b.model.LoadBalancers {
		for _, a := range lb.Service.Outside.IPs {
			why := b.wishable(a)
			if why == "" {
				_, why = b.claimExternal(lb, a)
			}
			if why != "" {
				lb.Errors = append(lb.Errors, fmt.Sprintf("externalIP %v %s", a, why))
			}
		}
		slices.SortFunc(lb.Externals, func(x, y *FloatingIP) int { return x.Address.Compare(y.Address) })
		if lb.Service.Outside.SourceRanges {
			b.notice("Service "+lb.Service.Ref(), "loadBalancerSourceRanges are not enforced yet: every client is served")
		}
	}
}

// wishable says why an address that somebody writes into externalIPs may not be
// his; empty: it may. From the hosts it would hide the pods that have it.
func (b *builder) wishable(a netip.Addr) string {
	for _, n := range b.model.Networks {
		if n.Kind == Custom && covers(n.Subnets, a) {
			return "lies in network " + n.Name
		}
	}
	return ""
}

// claimExternal gives a load balancer an external address, or says why not. It
// may have it already.
func (b *builder) claimExternal(lb *LoadBalancer, a netip.Addr) (*FloatingIP, string) {
	switch owner := b.vips[a]; {
	case owner == lb:
		return nil, ""
	case owner != nil && slices.Contains(owner.Service.VIPs, a):
		return nil, "is the clusterIP of Service " + owner.Service.Ref()
	case owner != nil:
		return nil, "is that of Service " + owner.Service.Ref() + ", which keeps it with all its ports; use another, or put the ports into one Service"
	case b.hosts[a] != "":
		return nil, "is the address of node " + b.hosts[a] + "; use a node port, or another address"
	case b.vital[a] != "":
		return nil, "is an endpoint of Service " + b.vital[a] + ", which everybody needs"
	case !a.IsGlobalUnicast():
		return nil, "is no address that a client can have a route to"
	case covers(b.in.Config.PodSubnets, a), covers(lb.Home.Subnets, a):
		return nil, "lies in the pods' subnet"
	case covers(b.in.Config.ServiceSubnets, a):
		return nil, "lies in the service subnet, whose addresses are clusterIPs"
	case !slices.ContainsFunc(lb.VIPs, func(f *FloatingIP) bool { return f.Address.Is6() == a.Is6() }):
		return nil, "is of a family in which the service has no clusterIP"
	}
	b.vips[a] = lb
	f := lb.floatingIP(a, lb.Home.VIPs)
	f.External = true
	lb.Externals = append(lb.Externals, f)
	return f, ""
}

// claimNodePort is the port of the nodes that leads to a listener; 0: none.
// Services come in the order of their age.
func (b *builder) claimNodePort(lb *LoadBalancer, p ServicePort, ports map[portMapKey]bool) uint16 {
	if !b.in.Config.NodePorts || p.NodePort == 0 || len(lb.VIPs) == 0 {
		return 0
	}
	k := portMapKey{Protocol: p.Protocol, Port: p.NodePort}
	why := ""
	switch owner := b.nodePorts[k]; {
	case owner == lb, ports[k] && p.NodePort != p.Port: // the kernel leads node ports to the clusterIP
		why = "is another port of the service as well"
	case owner != nil:
		why = "is that of the older Service " + owner.Service.Ref()
	default:
		b.nodePorts[k] = lb
		return p.NodePort
	}
	lb.Errors = append(lb.Errors, fmt.Sprintf("nodePort %d/%s %s; ask for another", p.NodePort, ProtocolName(p.Protocol), why))
	return 0
}
