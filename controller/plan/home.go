package plan

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan/endpoints"
	"github.com/vragent/vragent/controller/plan/floating"
)

// balancing is what the stages about services share.
type balancing struct {
	// Set once
	attached map[spot]*Interface   // by address
	hosts    map[netip.Addr]string // nodes, by their addresses
	shared   map[string]bool       // services that every network may use
	vital    map[netip.Addr]string // those services, by the addresses behind them

	// Growing
	users     map[*Network][]*Network // by home; of shared services by nil
	vips      map[netip.Addr]*LoadBalancer
	nodePorts map[portMapKey]*LoadBalancer
	pools     *floating.Pools
	statuses  []Status
}

func (b *builder) newBalancing() balancing {
	n := balancing{
		attached: make(map[spot]*Interface, len(b.model.Interfaces)), hosts: map[netip.Addr]string{}, shared: map[string]bool{},
		users: map[*Network][]*Network{}, vips: map[netip.Addr]*LoadBalancer{}, nodePorts: map[portMapKey]*LoadBalancer{},
	}
	for _, v := range b.model.Interfaces {
		for _, a := range v.Addresses {
			n.attached[spot{AddressSpace(v.Network.Name), a}] = v
		}
	}
	for i := range b.idx.Nodes {
		o := &b.idx.Nodes[i]
		for _, a := range append(slices.Clone(o.Others), o.Address, b.tunnel(o.Name)) {
			if a.IsValid() {
				n.hosts[a] = o.Name
			}
		}
	}
	for _, ref := range b.in.Config.SharedServices {
		n.shared[ref] = true
	}
	n.vital = b.vitalAddresses(n.shared)
	return n
}

// vitalAddresses are the endpoints of services which every network may use, as far
// as they are no pods: the API server above all. Who claimed one as externalIP
// would cut everybody off.
func (b *builder) vitalAddresses(shared map[string]bool) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for k, list := range b.idx.Slices {
		ref := k.Namespace + "/" + k.Name
		if !shared[ref] {
			continue
		}
		for i := range list {
			for j := range list[i].Endpoints {
				a := list[i].Endpoints[j].Address
				if old, taken := out[a]; !taken || ref < old {
					out[a] = ref
				}
			}
		}
	}
	return out
}

// home is the network of a service's backends: the one network that all its
// pods are in, else that of its namespace. Pods that are no backends now count
// where there are no others, so that a service without backends stays at home.
func (b *builder) home(s *Service) (home, own *Network) {
	own, _ = b.networkOfNamespace(s.Namespace)
	if own == nil {
		own = b.hostNetwork()
	}
	var all, alive mixture
	for _, slice := range b.idx.Slices[podKey{Namespace: s.Namespace, Name: s.Name}] {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			v := b.interfaceOf(s, e, own)
			if v == nil {
				continue
			}
			all.add(v.Network)
			if endpoints.Serve(e, s.PublishNotReady) {
				alive.add(v.Network)
			}
		}
	}
	switch {
	case alive.only != nil:
		return alive.only, own
	case alive.several || all.only == nil:
		return own, own
	}
	return all.only, own
}

// mixture is what a set of networks amounts to.
type mixture struct {
	only    *Network // nil: none, or several
	several bool
}

func (s *mixture) add(n *Network) {
	switch {
	case s.several:
	case s.only == nil:
		s.only = n
	case s.only != n:
		*s = mixture{several: true}
	}
}

// usersOf are the networks whose pods may use a service:
//
//	home in everybody's network: all but custom ones;
//	in an isolated one: that one, and if its services are open all but custom ones;
//	in a custom one: that one;
//	a shared service: all.
func (b *builder) usersOf(home *Network, shared bool) []*Network {
	k := home
	if shared {
		k = nil
	}
	users, known := b.users[k]
	if !known {
		users = slices.DeleteFunc(slices.Clone(b.model.Networks), func(n *Network) bool {
			open := home.Kind == DefaultPods || home.Kind == Isolated && home.OpenServices
			return !n.HasPods() || !shared && n != home && (!open || n.Kind == Custom)
		})
		b.users[k] = users
	}
	return users
}

// interfaceOf finds the VMI behind an endpoint, if the service may lead to it:
// who writes Services and slices in a namespace opens no other namespace's
// network by that, least of all to the node ports.
func (b *builder) interfaceOf(s *Service, e *Endpoint, own *Network) *Interface {
	v := b.behind(s, e, own)
	if v != nil && v.Pod.Namespace != s.Namespace && v.Network != own && v.Network.Kind != DefaultPods {
		return nil
	}
	return v
}

// behind finds a VMI by its pod, never by its address alone: other networks may
// have that too. Where a slice names no pod, somebody has written it by hand, and
// means the network of the service's namespace.
func (b *builder) behind(s *Service, e *Endpoint, own *Network) *Interface {
	if e.Pod == nil {
		return b.attached[spot{AddressSpace(own.Name), e.Address}]
	}
	k := podKey{Namespace: e.Pod.Namespace, Name: e.Pod.Name}
	if k.Namespace == "" {
		k.Namespace = s.Namespace
	}
	p := b.idx.PodOf[k]
	if p == nil || e.Pod.UID != "" && e.Pod.UID != p.UID {
		return nil
	}
	return b.pods[k]
}
