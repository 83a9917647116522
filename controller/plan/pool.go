package plan

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan/cluster"
	"github.com/vragent/vragent/controller/plan/floating"
)

// Pool is a floating-ip-pool.
type Pool = floating.Pool

// Status is what status.loadBalancer of a service is to say.
type Status struct {
	Namespace string
	Name      string
	UID       string
	Addresses []netip.Addr // sorted; none: nothing
}

// given is what a service of type LoadBalancer is to have.
type given struct {
	pool      *Pool // nil: not known; it keeps what it has
	addresses []netip.Addr
}

// floatingAddresses decides, by load balancer, about the addresses of services
// of type LoadBalancer, and notes whose status must be written for that.
func (b *builder) floatingAddresses() map[string]given {
	b.pools = floating.NewPools(b.in.Config.networks(), cluster.Unique(b.in.Cluster.Pools, func(p *FloatingIPPool) *Meta { return &p.Meta }), b.nets)
	for _, x := range b.pools.Problems {
		b.problem(x.Object, x.Sentence)
	}
	for _, x := range b.pools.All {
		x.UUID = Derive("floating-ip-pool", x.Network.Name, x.Name)
	}
	b.model.Pools = b.pools.All
	var asking []*LoadBalancer
	var requests []floating.Request
	out := map[string]given{}
	for _, lb := range b.model.LoadBalancers { // the oldest first
		if lb.Service.Outside.LoadBalancer {
			r := b.request(lb)
			asking, requests = append(asking, lb), append(requests, r)
		}
	}
	old := b.in.Memory.floating
	b.clearLeftovers(old)
	grants, memory := floating.Give(requests, b.reserved(), old, b.in.Now)
	b.memory.floating = memory
	for i, lb := range asking {
		g := &grants[i]
		out[lb.UUID] = given{requests[i].Pool, g.Addresses}
		if g.Problem != "" {
			lb.Errors = append(lb.Errors, g.Problem)
		}
		if g.Notice != "" {
			b.notice("Service "+lb.Service.Ref(), g.Notice)
		}
		if told := slices.Compact(sortedAddrs(lb.Service.Outside.Ingress)); !slices.Equal(told, g.Addresses) {
			b.status(lb.Service, g.Addresses)
		}
	}
	return out
}

func (b *builder) status(s *Service, addresses []netip.Addr) {
	b.statuses = append(b.statuses, Status{s.Namespace, s.Name, s.UID, addresses})
}

// clearLeftovers takes our addresses from the status of services that are not of
// type LoadBalancer any more.
func (b *builder) clearLeftovers(old *floating.Memory) {
	for i := range b.idx.Services {
		s := &b.idx.Services[i]
		if s.Outside.LoadBalancer || s.Outside.OtherClass || s.Foreign || len(s.Outside.Ingress) == 0 {
			continue
		}
		if old.Knows(s.UID) || slices.ContainsFunc(s.Outside.Ingress, b.pools.Covers) {
			b.status(s, nil)
		}
	}
}

// reserved are the addresses that no service is given from a pool, but the one
// that has asked for it.
func (b *builder) reserved() map[netip.Addr]floating.Holder {
	out := map[netip.Addr]floating.Holder{}
	for _, lb := range b.model.LoadBalancers {
		for _, a := range lb.Service.Outside.IPs {
			if _, older := out[a]; !older {
				out[a] = holder(lb.Service)
			}
		}
	}
	for a, lb := range b.vips {
		out[a] = floating.Holder{Name: "Service " + lb.Service.Ref()}
	}
	for a, node := range b.hosts {
		out[a] = floating.Holder{Name: "node " + node}
	}
	return out
}

func holder(s *Service) floating.Holder {
	return floating.Holder{ID: s.UID, Name: "Service " + s.Ref()}
}

// request is what a service asks for. Without a pool, it keeps what it has: what
// is not understood takes nothing away.
func (b *builder) request(lb *LoadBalancer) floating.Request {
	s := lb.Service
	is6 := func(v6 bool) bool {
		return slices.ContainsFunc(s.VIPs, func(a netip.Addr) bool { return a.Is6() == v6 })
	}
	r := floating.Request{
		Holder: holder(s), V4: is6(false), V6: is6(true), Wanted: s.Outside.Wanted, Has: s.Outside.Ingress,
	}
	if floating.Fault(&s.Meta) != "" {
		return r // a problem already
	}
	why := ""
	if r.Pool, why = b.pools.Of(s, b.idx.NamespaceOf[s.Namespace], b.in.Config.PublicPool); why != "" {
		what := "gets no address: "
		if len(s.Outside.Ingress) > 0 {
			what = "keeps the address it has: "
		}
		lb.Errors = append(lb.Errors, what+why)
	}
	return r
}

func sortedAddrs(in []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(in), netip.Addr.Compare)
}
