// Package floating finds the floating IP pools and gives their addresses to
// services. It owns no state: Give is a function of its arguments, one of which
// is the Memory that the last Give returned. It decides nothing about who may
// use an address, and writes nothing.
package floating

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Rest is how long an address that was given back is given to nobody else, as
// long as there are others.
const Rest = 10 * time.Minute

// Holder is who has an address.
type Holder struct {
	ID   string
	Name string // Service demo/web
}

// Request is of one holder, for an address of each family it has.
type Request struct {
	Holder
	Pool   *Pool // nil: there is none, it keeps what it has
	V4, V6 bool
	Wanted netip.Addr   // if there is a pool, this one or none; the zero Addr: any
	Has    []netip.Addr // as everybody was told; in the order of preference
}

// Grant answers a Request.
type Grant struct {
	Addresses []netip.Addr // sorted, at most one of each family
	Problem   string       // why it has none, or none of a family
	Notice    string       // why it needs none of a family
}

// Memory is what one Give must tell the next. It is immutable.
type Memory struct {
	given   map[string][]netip.Addr // by holder
	resting map[netip.Addr]time.Time
}

// Knows tells whether a holder has been given addresses.
func (m *Memory) Knows(id string) bool { return m != nil && m.given[id] != nil }

// Give answers requests, which come in order of age. In this order of
// importance:
//
//	who was seen with an address keeps it, of two the older;
//	who was given one that nobody has seen yet keeps it;
//	who wants a certain one gets it, if it is free;
//	the others get the lowest free one that has rested, else the one that has rested longest.
//
// Nobody is given an address that is reserved for another.
func Give(requests []Request, reserved map[netip.Addr]Holder, m *Memory, now time.Time) ([]Grant, *Memory) {
	if m == nil {
		m = &Memory{resting: map[netip.Addr]time.Time{}}
	}
	g := &giver{
		requests: requests, reserved: reserved, old: m, now: now,
		resting: maps.Clone(m.resting), owner: map[netip.Addr]*Request{}, held: make([][2]netip.Addr, len(requests)), search: map[*Pool]*search{},
	}
	grants := make([]Grant, len(requests))
	for i := range requests {
		g.keep(i, requests[i].Has)
	}
	for i := range requests {
		g.keepGiven(i)
	}
	for i := range requests {
		grants[i].Problem = g.wanted(i)
	}
	g.rest()
	for i := range requests {
		if r := &requests[i]; r.Pool != nil && grants[i].Problem == "" {
			grants[i] = g.fill(i)
		}
	}
	for i := range requests {
		for _, a := range g.held[i] {
			if a.IsValid() {
				grants[i].Addresses = append(grants[i].Addresses, a)
			}
		}
	}
	return grants, g.memory(grants)
}

// giver is one Give at work.
type giver struct {
	requests []Request
	reserved map[netip.Addr]Holder
	old      *Memory
	now      time.Time
	resting  map[netip.Addr]time.Time // since when
	owner    map[netip.Addr]*Request
	held     [][2]netip.Addr // by request: IPv4, IPv6
	search   map[*Pool]*search
}

// keep lets a request have what it had. Who insists on an address has that, or
// nothing.
func (g *giver) keep(i int, had []netip.Addr) {
	r := &g.requests[i]
	if r.insists() {
		if slices.Contains(had, r.Wanted) {
			g.take(i, r.Wanted)
		}
		if !g.satisfied(i) {
			return
		}
	}
	for _, a := range had {
		g.take(i, a)
	}
}

// keepGiven is keep of what nobody need have seen.
func (g *giver) keepGiven(i int) {
	if r := &g.requests[i]; r.Pool != nil {
		g.keep(i, slices.DeleteFunc(slices.Clone(g.old.given[r.ID]), func(a netip.Addr) bool { return g.reservedFor(r, a) }))
	}
}

// take gives a request an address that answers it and is free.
func (g *giver) take(i int, a netip.Addr) {
	r := &g.requests[i]
	if r.wants(a.Is6()) && (r.Pool == nil || r.Pool.Has(a)) && g.owner[a] == nil && !g.held[i][index(a)].IsValid() {
		g.owner[a] = r
		g.held[i][index(a)] = a
	}
}

func (g *giver) satisfied(i int) bool {
	w := g.requests[i].Wanted
	return g.held[i][index(w)] == w
}

func (r *Request) insists() bool { return r.Pool != nil && r.Wanted.IsValid() }

func (r *Request) wants(v6 bool) bool { return v6 && r.V6 || !v6 && r.V4 }

// reservedFor another one.
func (g *giver) reservedFor(r *Request, a netip.Addr) bool {
	h, is := g.reserved[a]
	return is && h.ID != r.ID
}

// wanted gives a request the address it insists on, or says why not.
func (g *giver) wanted(i int) string {
	r := &g.requests[i]
	a := r.Wanted
	if !r.insists() || g.satisfied(i) {
		return ""
	}
	why := ""
	switch other := g.owner[a]; {
	case !r.wants(a.Is6()):
		why = "is of a family that the service does not have"
	case !r.Pool.Has(a):
		why = "is not an address of " + r.Pool.String()
	case other != nil:
		why = "is that of " + other.Name
	case g.reservedFor(r, a):
		why = "is that of " + g.reserved[a].Name
	default:
		g.take(i, a)
		g.keep(i, r.Has)
		g.keepGiven(i)
		return ""
	}
	return fmt.Sprintf("gets no address: loadBalancerIP %v %s; ask for another, or for none", a, why)
}

// fill gives a request what it has not got yet.
func (g *giver) fill(i int) (out Grant) {
	r := &g.requests[i]
	for _, v6 := range []bool{false, true} {
		if !r.wants(v6) || g.held[i][familyIndex(v6)].IsValid() {
			continue
		}
		other := r.wants(!v6) && r.Pool.family(!v6)
		switch a := g.next(r.Pool, v6); {
		case a.IsValid():
			g.take(i, a)
		case r.Pool.family(v6):
			out.Problem = fmt.Sprintf("gets no %s address: %s has none left; give it another subnet, or delete a service that has one", family(v6), r.Pool)
		case other:
			out.Notice = fmt.Sprintf("gets no %s address: %s has no %s subnet", family(v6), r.Pool, family(v6))
		default:
			out.Problem = fmt.Sprintf("gets no address: %s has no %s subnet; give it one", r.Pool, family(v6))
		}
	}
	return out
}

// rest lets everything rest that had an owner and has none now.
func (g *giver) rest() {
	for _, addresses := range g.old.given {
		for _, a := range addresses {
			if _, rests := g.resting[a]; !rests {
				g.resting[a] = g.now
			}
		}
	}
	maps.DeleteFunc(g.resting, func(a netip.Addr, since time.Time) bool {
		return g.owner[a] != nil || g.now.Sub(since) >= Rest
	})
}

// memory remembers who has what, and since when nobody has had the rest.
func (g *giver) memory(grants []Grant) *Memory {
	m := &Memory{given: map[string][]netip.Addr{}, resting: g.resting}
	for i := range grants {
		for _, a := range grants[i].Addresses {
			m.given[g.requests[i].ID] = grants[i].Addresses
			delete(m.resting, a)
		}
	}
	return m
}

func index(a netip.Addr) int { return familyIndex(a.Is6()) }

func familyIndex(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// search remembers how far the subnets of a pool have been looked through:
// what is taken or resting stays so in this Give.
type search struct {
	from    [2]netip.Addr   // by family: nothing free and rested before this, the zero Addr: at the subnet's begin
	at      [2]int          // the subnet
	resting [2][]netip.Addr // passed by
	sorted  [2]bool         // everything is passed by; who has rested longest is first
}

// next finds the address to give.
func (g *giver) next(p *Pool, v6 bool) netip.Addr {
	s := g.search[p]
	if s == nil {
		s = &search{}
		g.search[p] = s
	}
	f := familyIndex(v6)
	for ; s.at[f] < len(p.Subnets); s.at[f]++ {
		subnet := p.Subnets[s.at[f]]
		if subnet.Addr().Is6() != v6 {
			continue
		}
		if !s.from[f].IsValid() {
			s.from[f] = subnet.Addr()
		}
		for ; subnet.Contains(s.from[f]); s.from[f] = s.from[f].Next() {
			switch a := s.from[f]; {
			case g.taken(p, a):
			case g.rests(a):
				s.resting[f] = append(s.resting[f], a)
			default:
				return a
			}
		}
		s.from[f] = netip.Addr{}
	}
	return g.rested(s, f)
}

func (g *giver) taken(p *Pool, a netip.Addr) bool {
	_, reserved := g.reserved[a]
	return reserved || p.edges[a] || g.owner[a] != nil
}

func (g *giver) rests(a netip.Addr) bool {
	_, rests := g.resting[a]
	return rests
}

// rested is the free address that has rested longest.
func (g *giver) rested(s *search, f int) netip.Addr {
	if !s.sorted[f] {
		s.sorted[f] = true
		slices.SortStableFunc(s.resting[f], func(a, b netip.Addr) int { return g.resting[a].Compare(g.resting[b]) })
	}
	for ; len(s.resting[f]) > 0; s.resting[f] = s.resting[f][1:] {
		if a := s.resting[f][0]; g.owner[a] == nil { // another pool may have given it
			return a
		}
	}
	return netip.Addr{}
}
