package compile

import (
	"cmp"
	"net/netip"
	"slices"
)

// Outside is what the kernel does for services, in order: it hands what clients
// outside of the pod networks send to the host's interface, and answers those
// who ask for a service's health.
type Outside struct {
	NodePorts []NodePort
	Externals []External
	Health    []Health
	// APIServers may reach pods by way of the node (proxy, webhooks), which
	// nobody else outside may.
	APIServers []netip.Addr
}

// NodePort leads a port of the node's own addresses to a VIP.
type NodePort struct {
	Proto uint8
	Port  uint16     // of the node, and of the VIP's listener
	VIP   netip.Addr // the family says for which of the node's addresses
	Local bool       // the client's address is kept: only backends here take it
}

// External is an address of a service that clients outside of the cluster use.
type External struct {
	VIP   netip.Addr
	Local bool // likewise
}

// Health is asked by load balancers before they choose this node.
type Health struct {
	Port               uint16
	Namespace, Service string
	Endpoints          int // backends on this node that take new connections
}

// outside notes what the kernel does for a load balancer: all of this is
// kube-proxy's where it runs.
func (c *compiler) outside(lb *LoadBalancer) {
	o := &c.out.Outside
	if lb.Namespace == "default" && lb.Service == "kubernetes" {
		o.APIServers = append(o.APIServers, lb.strangers()...)
	}
	if !c.in.NodePorts {
		return
	}
	for _, vip := range sortedAddrs(lb.ExternalVIPs) {
		o.Externals = append(o.Externals, External{VIP: vip, Local: lb.ExternalLocal})
	}
	for i := range lb.Listeners {
		l := &lb.Listeners[i]
		if l.NodePort == 0 {
			continue
		}
		if !lb.nodePort(l) {
			c.problem("service %s/%s: node port %d is also one of its ports", lb.Namespace, lb.Service, l.NodePort)
			continue
		}
		for _, vip := range sortedAddrs(lb.VIPs) {
			o.NodePorts = append(o.NodePorts, NodePort{Proto: l.Proto, Port: l.NodePort, VIP: vip, Local: lb.ExternalLocal})
		}
	}
	if lb.HealthPort != 0 {
		o.Health = append(o.Health, Health{
			Port: lb.HealthPort, Namespace: lb.Namespace, Service: lb.Service, Endpoints: c.endpointsHere(lb),
		})
	}
}

// strangers are the backends that are no VMIs.
func (lb *LoadBalancer) strangers() (out []netip.Addr) {
	for i := range lb.Listeners {
		for _, m := range lb.Listeners[i].Members {
			if m.VMI == "" {
				out = append(out, m.Address)
			}
		}
	}
	return out
}

// endpointsHere counts the backends on this node that take new flows, each once.
func (c *compiler) endpointsHere(lb *LoadBalancer) int {
	here := map[string]bool{}
	for i := range lb.Listeners {
		for j := range lb.Listeners[i].Members {
			m := &lb.Listeners[i].Members[j]
			if _, ok := c.member(m); ok && m.Node == c.in.Node && !m.Draining {
				here[cmp.Or(m.VMI, m.Address.String())] = true
			}
		}
	}
	return len(here)
}

func (o *Outside) sort() {
	slices.SortFunc(o.NodePorts, func(a, b NodePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), a.VIP.Compare(b.VIP))
	})
	o.APIServers = sortedAddrs(o.APIServers)
	slices.SortFunc(o.Externals, func(a, b External) int { return a.VIP.Compare(b.VIP) })
	slices.SortFunc(o.Health, func(a, b Health) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Namespace+"/"+a.Service, b.Namespace+"/"+b.Service))
	})
}
