package floating

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan/networks"
)

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range s {
		out = append(out, netip.MustParsePrefix(x))
	}
	return out
}

func TestPoolLeavesTheEdgesOut(t *testing.T) {
	for _, c := range []struct {
		subnets, network []netip.Prefix
		want             string
	}{
		{prefixes("192.0.2.0/30"), prefixes("192.0.2.0/30"), "[192.0.2.1 192.0.2.2]"},
		{prefixes("192.0.2.0/31"), prefixes("192.0.2.0/31"), "[192.0.2.0 192.0.2.1]"},
		{prefixes("192.0.2.9/32"), prefixes("192.0.2.9/32"), "[192.0.2.9]"},
		{prefixes("192.0.2.4/30"), prefixes("192.0.2.0/29"), "[192.0.2.4 192.0.2.5 192.0.2.6]"},
		{prefixes("192.0.2.8/30", "192.0.2.0/30", "192.0.2.0/31"), prefixes("192.0.2.0/24"),
			"[192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.8 192.0.2.9 192.0.2.10 192.0.2.11]"},
		{prefixes("255.255.255.252/30"), prefixes("255.255.255.252/30"), "[255.255.255.253 255.255.255.254]"},
	} {
		p := NewPool("demo", "pool", &networks.Network{Subnets: c.network}, c.subnets)
		var got []netip.Addr
		var m *Memory
		for i := 0; ; i++ {
			var all []Request
			for k := range i + 1 {
				all = append(all, Request{Holder: Holder{ID: fmt.Sprint(k)}, Pool: p, V4: true})
			}
			var grants []Grant
			grants, m = Give(all, nil, m, time.Unix(1, 0))
			if len(grants[i].Addresses) == 0 {
				break
			}
			got = append(got, grants[i].Addresses[0])
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v of %v: %v, want %s", c.subnets, c.network, got, c.want)
		}
	}
	six := prefixes("2001:db8::/64")
	if p := NewPool("demo", "pool", &networks.Network{Subnets: six}, six); p.Has(netip.MustParseAddr("2001:db8::")) || !p.Has(netip.MustParseAddr("2001:db8::ffff:ffff:ffff:ffff")) {
		t.Error("of IPv6, the first address is nobody's, and the last is one like any other")
	}
}

// play gives for a while: services come, go, change what they want, and what is
// given is seen by everybody now or later.
func play(seed uint64, check func(requests []Request, reserved map[netip.Addr]Holder, m *Memory, now time.Time, grants []Grant, next *Memory)) {
	r := rand.New(rand.NewPCG(seed, 7))
	network := prefixes("192.0.2.0/29", "192.0.2.16/30", "2001:db8::/126")
	vn := &networks.Network{Subnets: network}
	pools := []*Pool{
		NewPool("demo", "all", vn, network), NewPool("demo", "some", vn, network[:1]), NewPool("demo", "six", vn, network[2:]), nil,
	}
	anywhere := func() netip.Addr {
		if r.IntN(4) == 0 {
			return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(r.IntN(5))})
		}
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(20))})
	}
	var requests []Request
	var m *Memory
	now := time.Unix(1000, 0)
	reserved := map[netip.Addr]Holder{}
	for step := range 40 {
		switch k := r.IntN(len(requests) + 3); {
		case k >= len(requests):
			q := Request{Holder: Holder{fmt.Sprintf("id%d", step), fmt.Sprintf("Service %d", step)}, Pool: pools[r.IntN(len(pools))], V4: r.IntN(4) > 0, V6: r.IntN(2) > 0}
			requests = slices.Insert(slices.Clone(requests), r.IntN(len(requests)+1), q)
		case r.IntN(2) == 0:
			requests = slices.Delete(slices.Clone(requests), k, k+1)
		default:
			requests = slices.Clone(requests)
			requests[k].Pool = pools[r.IntN(len(pools))]
			if requests[k].Wanted = (netip.Addr{}); r.IntN(2) == 0 {
				requests[k].Wanted = anywhere()
			}
			if r.IntN(5) == 0 {
				requests[k].Has = []netip.Addr{anywhere(), anywhere()}
			}
		}
		clear(reserved)
		for range r.IntN(3) {
			reserved[anywhere()] = Holder{ID: fmt.Sprintf("id%d", r.IntN(step+1)), Name: "another"}
		}
		now = now.Add(time.Duration(r.IntN(5)) * time.Minute)
		grants, next := Give(requests, reserved, m, now)
		check(requests, reserved, m, now, grants, next)
		if m = next; r.IntN(10) == 0 {
			m = nil // another controller
		}
		for i := range requests {
			if r.IntN(2) == 0 {
				requests[i].Has = grants[i].Addresses
			}
		}
	}
}

func FuzzGive(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		play(seed, func(requests []Request, reserved map[netip.Addr]Holder, m *Memory, now time.Time, grants []Grant, next *Memory) {
			want := dull(requests, reserved, m, now)
			owner := map[netip.Addr]bool{}
			for i, g := range grants {
				if !slices.Equal(g.Addresses, want[i]) {
					t.Fatalf("%v\nreserved %v\n%+v\ngiven %v, want %v", requests, reserved, m, g, want[i])
				}
				r := &requests[i]
				for _, a := range g.Addresses {
					if owner[a] {
						t.Fatalf("%v is given twice", a)
					}
					owner[a] = true
				}
				for _, v6 := range []bool{false, true} {
					has := slices.ContainsFunc(g.Addresses, func(a netip.Addr) bool { return a.Is6() == v6 })
					if r.Pool != nil && r.wants(v6) && !has && g.Problem == "" && g.Notice == "" {
						t.Fatalf("%v has no %s address, and nobody says why", r, family(v6))
					}
				}
			}
			again, _ := Give(requests, reserved, next, now)
			for i := range again {
				if !slices.Equal(again[i].Addresses, grants[i].Addresses) {
					t.Fatalf("asked again, %v has %v, and had %v", requests[i], again[i], grants[i])
				}
			}
		})
	})
}

// dull is Give by looking at every address each time.
func dull(requests []Request, reserved map[netip.Addr]Holder, m *Memory, now time.Time) [][]netip.Addr {
	if m == nil {
		m = &Memory{}
	}
	held := make([][]netip.Addr, len(requests))
	has := func(a netip.Addr) bool {
		return slices.ContainsFunc(held, func(h []netip.Addr) bool { return slices.Contains(h, a) })
	}
	lacks := func(i int, v6 bool) bool {
		r := requests[i]
		return (v6 && r.V6 || !v6 && r.V4) && !slices.ContainsFunc(held[i], func(a netip.Addr) bool { return a.Is6() == v6 })
	}
	others := func(i int, a netip.Addr) bool {
		h, is := reserved[a]
		return is && h.ID != requests[i].ID
	}
	take := func(i int, a netip.Addr) {
		inPool := requests[i].Pool == nil || slices.Contains(every(requests[i].Pool), a)
		if !has(a) && lacks(i, a.Is6()) && inPool {
			held[i] = append(held[i], a)
		}
	}
	keep := func(i int, had []netip.Addr) {
		w, insists := requests[i].Wanted, requests[i].Pool != nil && requests[i].Wanted.IsValid()
		if insists && slices.Contains(had, w) {
			take(i, w)
		}
		if insists && !slices.Contains(held[i], w) {
			return
		}
		for _, a := range had {
			take(i, a)
		}
	}
	keepGiven := func(i int) {
		for _, a := range m.given[requests[i].ID] {
			if requests[i].Pool != nil && !others(i, a) {
				keep(i, []netip.Addr{a})
			}
		}
	}
	for i, r := range requests {
		keep(i, r.Has)
	}
	for i := range requests {
		keepGiven(i)
		keepGiven(i) // what was wanted may come second
	}
	refused := make([]bool, len(requests))
	for i, r := range requests {
		if w := r.Wanted; r.Pool != nil && w.IsValid() && !slices.Contains(held[i], w) {
			if !others(i, w) {
				take(i, w)
			}
			refused[i] = !slices.Contains(held[i], w)
			keep(i, r.Has)
			keepGiven(i)
		}
	}
	for i, r := range requests {
		for _, v6 := range []bool{false, true} {
			if r.Pool == nil || refused[i] || !lacks(i, v6) {
				continue
			}
			var best netip.Addr
			var since time.Time
			for _, a := range every(r.Pool) {
				if _, is := reserved[a]; is || has(a) || a.Is6() != v6 {
					continue
				}
				if s := restsSince(m, a, now); !best.IsValid() || s.Before(since) {
					best, since = a, s
				}
			}
			if best.IsValid() {
				held[i] = append(held[i], best)
			}
		}
		slices.SortFunc(held[i], netip.Addr.Compare)
	}
	return held
}

// restsSince is the zero Time of an address that may be given to anybody.
func restsSince(m *Memory, a netip.Addr, now time.Time) time.Time {
	for _, given := range m.given {
		if slices.Contains(given, a) {
			return now
		}
	}
	if since, rests := m.resting[a]; rests && now.Sub(since) < Rest {
		return since
	}
	return time.Time{}
}

// every address of a pool, in order.
func every(p *Pool) []netip.Addr {
	var out []netip.Addr
	for _, s := range p.Subnets {
		for a := s.Addr(); s.Contains(a); a = a.Next() {
			if p.Has(a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func TestGiveChangesNothingItIsGiven(t *testing.T) {
	play(1, func(requests []Request, reserved map[netip.Addr]Holder, m *Memory, now time.Time, _ []Grant, _ *Memory) {
		if m == nil {
			return
		}
		before := fmt.Sprint(m.given, m.resting)
		one, _ := Give(requests, reserved, m, now)
		two, _ := Give(requests, reserved, m, now)
		if !reflect.DeepEqual(one, two) || before != fmt.Sprint(m.given, m.resting) {
			t.Fatal("the same question has another answer")
		}
	})
}

// A large pool that is nearly used up is looked through once, not once for each.
func BenchmarkGive(b *testing.B) {
	network := prefixes("198.18.0.0/18")
	pool := NewPool("demo", "pool", &networks.Network{Subnets: network}, network)
	requests := make([]Request, 16000)
	for i := range requests {
		requests[i] = Request{Holder: Holder{ID: fmt.Sprint(i)}, Pool: pool, V4: true}
	}
	for b.Loop() {
		Give(requests, nil, nil, time.Unix(1, 0))
	}
}
