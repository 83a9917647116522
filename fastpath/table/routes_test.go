package table

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

// However many routes a change has, the VRF gives what a map and a scan give, and older
// snapshots are left alone.
func TestRoutes(t *testing.T) {
	b := built(t, network())
	r := rand.New(rand.NewPCG(8, 9))
	all := map[netip.Prefix]Route{}
	for _, route := range network().Routes {
		all[route.Prefix] = route
	}
	check := func(tab *Tables, all map[netip.Prefix]Route) {
		t.Helper()
		if n := tab.VRF(red).routes.Len(); n != len(all) {
			t.Fatalf("%d routes, want %d", n, len(all))
		}
		for range 50 {
			a := randomAddr(r)
			hop, _ := tab.Lookup(red, packet.AddrFrom(a))
			if want := longest(all, a); hop != want {
				t.Fatalf("%v leads to %+v, want %+v", a, hop, want)
			}
		}
	}
	for _, changes := range []int{3000, 1, 1, 2, 800, 1, 40, 1, 1} {
		old, before := b.Tables(), maps.Clone(all)
		var d Delta
		for range changes {
			p, _ := randomAddr(r).Prefix(16 + r.IntN(17))
			route := Route{VRF: red, Prefix: p, NH: pick(mutator{r}, []NextHopID{0, toWeb1, toWeb2, nowhere})}
			if _, twice := find(d.Upsert.Routes, p); !twice {
				d.Upsert.Routes = append(d.Upsert.Routes, route)
				all[p] = route
			}
		}
		for p := range all {
			if len(d.Remove.Routes) < changes/3 || changes == 1 && len(d.Remove.Routes) == 0 {
				d.Remove.Routes = append(d.Remove.Routes, RouteKey{red, p})
				delete(all, p)
			}
		}
		if err := b.Apply(&d); err != nil {
			t.Fatal(err)
		}
		check(b.Tables(), all)
		check(old, before)
	}
	consistent(t, b)
}

func randomAddr(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, byte(r.IntN(4)), byte(r.IntN(256))})
}

func find(routes []Route, p netip.Prefix) (Route, bool) {
	for _, r := range routes {
		if r.Prefix == p {
			return r, true
		}
	}
	return Route{}, false
}

func longest(routes map[netip.Prefix]Route, a netip.Addr) (hop Hop) {
	bits := -1
	for p, r := range routes {
		if p.Contains(a) && p.Bits() > bits {
			bits = p.Bits()
			hop = Hop{NH: r.NH, Label: r.Label, Bits: uint8(bits)}
		}
	}
	return hop
}
