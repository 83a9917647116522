package floating

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan/cluster"
	"github.com/vragent/vragent/controller/plan/networks"
)

// annotation names the pool of a service, or of a namespace's services.
const annotation = "opencontrail.org/fip-pool"

// Pools are all pools.
type Pools struct {
	All      []*Pool // those that can be used
	Problems []networks.Problem

	config   networks.Config
	byName   map[object]*Pool
	unusable map[object]string // and why
}

type object struct{ namespace, name string }

// NewPools makes the pools that can be used, and notes why others cannot. The
// objects are sorted, and each is there once.
func NewPools(c networks.Config, objects []cluster.FloatingIPPool, nets *networks.Networks) *Pools {
	p := &Pools{config: c, byName: map[object]*Pool{}, unusable: map[object]string{}}
	for i := range objects {
		o := &objects[i]
		k := object{o.Namespace, o.Name}
		n, why := p.network(o, nets)
		if why != "" {
			p.unusable[k] = why
			p.Problems = append(p.Problems, networks.Problem{Object: "FloatingIPPool " + o.Ref(), Sentence: "is not used: " + why})
			continue
		}
		subnets := o.Subnets
		if len(subnets) == 0 {
			subnets = n.Subnets
		}
		p.byName[k] = NewPool(o.Namespace, o.Name, n, subnets)
		p.All = append(p.All, p.byName[k])
	}
	return p
}

// network is that of a pool; or why the pool cannot be used.
func (p *Pools) network(o *cluster.FloatingIPPool, nets *networks.Networks) (*networks.Network, string) {
	vn := "VirtualNetwork " + o.Namespace + "/" + o.Network
	n := nets.Named(p.config.VirtualNetwork(o.Namespace, o.Network))
	switch why := nets.Unusable(o.Namespace, o.Network); {
	case len(o.Faults) > 0:
		return nil, o.Faults[0]
	case why != "":
		return nil, vn + " cannot be used: " + why
	case n == nil || n.Closing:
		return nil, vn + " does not exist"
	case n.Kind != networks.External:
		return nil, vn + " is not external"
	}
	for _, s := range o.Subnets {
		if !s.IsValid() || s != s.Masked() || !slices.ContainsFunc(n.Subnets, func(all netip.Prefix) bool {
			return all.Overlaps(s) && all.Bits() <= s.Bits()
		}) {
			return nil, s.String() + " is not a subnet of " + vn
		}
	}
	return n, ""
}

// Covers tells whether an address lies in any of the pools.
func (p *Pools) Covers(a netip.Addr) bool {
	return slices.ContainsFunc(p.All, func(pool *Pool) bool { return pool.Covers(a) })
}

// Of is the pool that a service, else its namespace, else the operator has
// chosen; nil: why there is none. The namespace may be unknown.
func (p *Pools) Of(s *cluster.Service, ns *cluster.Namespace, public *cluster.FQName) (*Pool, string) {
	if s.Outside.Pool != nil {
		return p.named(s.Outside.Pool, s.Namespace, "annotation "+annotation)
	}
	if ns != nil {
		if f := Fault(&ns.Meta); f != "" {
			return nil, "Namespace " + ns.Name + ": " + f
		}
		if ns.Pool != nil {
			return p.named(ns.Pool, ns.Name, "annotation "+annotation+" of Namespace "+ns.Name)
		}
	}
	if public != nil {
		return p.named(public, "default", "networks.publicPool")
	}
	return nil, "no pool is chosen; annotate the Service or its Namespace with " + annotation + ", or configure networks.publicPool"
}

// Fault is what could not be understood of the pool or the address that an
// object asks for; empty: nothing.
func Fault(m *cluster.Meta) string {
	for _, f := range m.Faults {
		if strings.Contains(f, annotation) || strings.Contains(f, "spec.loadBalancerIP") {
			return f
		}
	}
	return ""
}

// named finds the pool that somebody names, from within a namespace.
func (p *Pools) named(fq *cluster.FQName, namespace, who string) (*Pool, string) {
	who += " names "
	switch {
	case fq.Name == "":
		return nil, who + "no pool"
	case fq.Domain != "" && fq.Domain != networks.Domain:
		return nil, who + "the domain " + fq.Domain + "; there is only " + networks.Domain
	}
	namespaces := []string{namespace}
	if fq.Project != "" {
		namespaces = []string{fq.Project}
		if own, ours := strings.CutPrefix(fq.Project, p.config.Cluster+"-"); ours {
			namespaces = []string{own, fq.Project} // as Contrail writes it; or a namespace that is called so
		}
	}
	for _, ns := range namespaces {
		k := object{ns, fq.Name}
		pool, why := p.byName[k], p.unusable[k]
		switch what := who + "FloatingIPPool " + ns + "/" + fq.Name; {
		case why != "":
			return nil, what + ", which cannot be used: " + why
		case pool == nil:
		case fq.Network != "" && p.config.VirtualNetwork(ns, fq.Network) != pool.Network.Name:
			return nil, what + " of network " + fq.Network + "; it is of " + pool.Network.Name
		default:
			return pool, ""
		}
	}
	return nil, who + "FloatingIPPool " + namespaces[0] + "/" + fq.Name + ", which does not exist; create it, or name another"
}
