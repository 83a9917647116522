package floating

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan/networks"
)

// Pool is a floating-ip-pool: addresses of an external network that services
// of type LoadBalancer are given.
type Pool struct {
	UUID      string // the model's
	Namespace string
	Name      string
	Network   *networks.Network
	Subnets   []netip.Prefix // sorted; none overlap

	edges map[netip.Addr]bool // of the network's subnets: nobody's
}

// NewPool is of subnets that lie in those of a network. What names a subnet as a
// whole is left out: its first address, of IPv4 also its last (RFC 919; RFC 4291
// section 2.6.1), but in a subnet of one or two addresses (RFC 3021, RFC 6164).
func NewPool(namespace, name string, network *networks.Network, subnets []netip.Prefix) *Pool {
	p := &Pool{Namespace: namespace, Name: name, Network: network, edges: map[netip.Addr]bool{}}
	sorted := slices.Clone(subnets)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, s := range sorted {
		if n := len(p.Subnets); n == 0 || !p.Subnets[n-1].Overlaps(s) { // of two, the larger comes first
			p.Subnets = append(p.Subnets, s)
		}
	}
	for _, n := range network.Subnets {
		if n.Addr().BitLen()-n.Bits() < 2 {
			continue
		}
		p.edges[n.Addr()] = true
		if n.Addr().Is4() {
			p.edges[last(n)] = true
		}
	}
	return p
}

func (p *Pool) String() string { return "FloatingIPPool " + p.Namespace + "/" + p.Name }

// FQName is Contrail's path of names.
func (p *Pool) FQName() []string { return append(p.Network.FQName(), p.Name) }

// Has tells whether an address may be given.
func (p *Pool) Has(a netip.Addr) bool { return p.Covers(a) && !p.edges[a] }

// Covers tells whether an address lies in the pool.
func (p *Pool) Covers(a netip.Addr) bool {
	return slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return s.Contains(a) })
}

func (p *Pool) family(v6 bool) bool {
	return slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return s.Addr().Is6() == v6 })
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
