package blocks

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

var prefix = netip.MustParsePrefix

func TestAfter(t *testing.T) {
	for _, x := range []struct {
		a, want string
		length  int
	}{
		{"198.51.100.0", "198.51.100.64", 26},
		{"198.51.100.192", "198.51.101.0", 26},
		{"198.51.255.255", "198.52.0.0", 32},
		{"255.255.255.192", "", 26},
		{"2001:db8::ffc0", "2001:db8::1:0", 122},
	} {
		got := after(netip.MustParseAddr(x.a), x.length)
		if x.want == "" && got.IsValid() || x.want != "" && got != netip.MustParseAddr(x.want) {
			t.Errorf("after %s/%d: %v, want %s", x.a, x.length, got, x.want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Lease{"net", "n1", prefix("198.51.100.0/26")}
	for name, bad := range map[string][]Lease{
		"twice":         {good, good},
		"inside":        {good, {"net", "n2", prefix("198.51.100.32/27")}},
		"of another":    {good, {"other", "n1", good.Prefix}},
		"host bits":     {{"net", "n1", prefix("198.51.100.1/26")}},
		"no node":       {{"net", "", good.Prefix}},
		"no prefix":     {{"net", "n1", netip.Prefix{}}},
		"not the first": {{"net", "n1", prefix("198.51.100.0/24")}, {"net", "n2", prefix("198.51.100.64/26")}},
	} {
		if Check(bad) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Check([]Lease{good, {"ns:own", "n1", good.Prefix}, {"ns:two", "n2", good.Prefix}}); err != nil {
		t.Error(err)
	}
}

// A subnet of a network's own serves eight nodes, or as many as it has addresses.
func TestSmallSubnets(t *testing.T) {
	for _, x := range []struct {
		subnet string
		blocks int // for eight nodes with a pod each
		length int
	}{
		{"192.0.2.0/24", 8, 27},
		{"192.0.2.0/26", 8, 29},
		{"192.0.2.0/27", 8, 30},
		{"192.0.2.0/28", 8, 32},
		{"192.0.2.0/29", 8, 32},
		{"192.0.2.0/30", 4, 32},
		{"192.0.2.1/32", 1, 32},
		{"192.0.0.0/16", 8, 26},
		{"2001:db8::/64", 8, 122},
		{"2001:db8::/126", 4, 128},
	} {
		in := input(Network{"ns:own", []netip.Prefix{prefix(x.subnet)}})
		for n := range 8 {
			in.Needs[Holder{fmt.Sprintf("n%d", n), "ns:own"}] = &Need{Addresses: 1}
		}
		out := Plan(in)
		if len(out.Create) != x.blocks || out.Create[0].Prefix.Bits() != x.length || len(out.Short) != 8-x.blocks {
			t.Errorf("%s: %v, short %v", x.subnet, out.Create, out.Short)
		}
	}
}

func input(networks ...Network) Input {
	return Input{
		Networks: networks, Bits4: 26, Bits6: 122, Table: NewTable(nil),
		Needs:   map[Holder]*Need{},
		State:   func(Lease) State { return Unused },
		Settled: func(Lease) bool { return true },
		Now:     time.Unix(1000, 0),
		Times:   Times{Quarantine: time.Minute, Retirement: 30 * time.Second, Recheck: time.Second},
	}
}

// Blocks of networks that know nothing of each other overlap on one node only
// when there is no other way.
func TestNodesAvoidOverlaps(t *testing.T) {
	subnets := []netip.Prefix{prefix("192.0.2.0/27")} // eight blocks
	in := input(Network{"a:red", subnets}, Network{"b:red", subnets})
	in.Needs[Holder{"n1", "a:red"}] = &Need{Addresses: 9}  // three blocks
	in.Needs[Holder{"n1", "b:red"}] = &Need{Addresses: 18} // six blocks
	out := Plan(in)
	both := map[netip.Prefix]int{}
	for _, l := range out.Create {
		both[l.Prefix]++
	}
	if len(out.Create) != 9 || len(both) != 8 || len(out.Short) != 0 {
		t.Error(out)
	}
}

// Whatever nodes need and give back: leases never overlap in their space, lie in
// their network, no lease in use is ended, none is ended that had no rest, a
// block in reserve comes only when it is needed, and order does not matter.
func TestAnyHistory(t *testing.T) {
	shared := []netip.Prefix{prefix("198.51.100.0/24"), prefix("2001:db8:1::/120")}
	networks := []Network{
		{"pods", shared}, {"own-pods", shared},
		{"a:red", []netip.Prefix{prefix("192.0.2.0/26")}}, {"b:red", []netip.Prefix{prefix("192.0.2.0/27"), prefix("2001:db8:1::/64")}},
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		in := input(networks...)
		in.Bits4 = 26 + r.IntN(4)
		unused := map[Lease]time.Time{}
		for range 40 {
			in.Now = in.Now.Add(time.Duration(r.IntN(60)) * time.Second)
			in.Needs = map[Holder]*Need{}
			for n := range 3 {
				for _, net := range networks {
					if r.IntN(3) > 0 {
						in.Needs[Holder{fmt.Sprintf("n%d", n), net.Name}] = &Need{Addresses: r.IntN(40)}
					}
				}
			}
			states := map[Lease]State{}
			for _, l := range in.Leases {
				if states[l] = State(r.IntN(8)); states[l] > Forlorn {
					states[l] = Unused
				}
				if _, counted := unused[l]; !counted && states[l] != Used {
					unused[l] = in.Now
				} else if states[l] == Used {
					delete(unused, l)
				}
			}
			in.State = func(l Lease) State { return states[l] }
			in.Table = NewTable(in.Leases)
			out := Plan(in)
			for _, l := range out.Delete {
				if states[l] == Used || in.Now.Sub(unused[l]) < in.Quarantine {
					t.Fatalf("seed %d: %v is ended, %v, unused since %v", seed, l, states[l], unused[l])
				}
			}
			again := in
			again.Leases = slices.Clone(in.Leases)
			again.Table = NewTable(in.Leases)
			if !reflect.DeepEqual(out, Plan(again)) {
				t.Fatalf("seed %d: another plan for the same", seed)
			}
			in.Leases = Sorted(append(slices.Clone(in.Leases), out.Create...))
			if err := Check(in.Leases); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			in.Leases = slices.DeleteFunc(in.Leases, func(l Lease) bool { return slices.Contains(out.Delete, l) })
			for _, l := range out.Delete {
				delete(unused, l)
			}
			for _, l := range in.Leases {
				i := slices.IndexFunc(networks, func(n Network) bool { return n.Name == l.Network })
				if subnetOf(networks[i], l.Prefix) < 0 {
					t.Fatalf("seed %d: %v is outside", seed, l)
				}
			}
			in.Resting = out.Resting
		}
	}
}

// A lease ends in steps, and each can be undone.
func TestGivingBack(t *testing.T) {
	l := Lease{"a:red", "n1", prefix("192.0.2.0/28")}
	in := input(Network{"a:red", []netip.Prefix{prefix("192.0.2.0/25")}})
	in.Leases, in.Table = []Lease{l}, NewTable([]Lease{l})
	settled := false
	in.Settled = func(Lease) bool { return settled }
	step := func(wait time.Duration) Output {
		in.Now = in.Now.Add(wait)
		out := Plan(in)
		in.Resting = out.Resting
		return out
	}
	if out := step(0); out.Again != in.Now.Add(time.Minute) || len(out.Delete) != 0 {
		t.Fatal(out)
	}
	if out := step(time.Minute); out.Resting[l].Retired != in.Now || out.Again != in.Now.Add(30*time.Second) {
		t.Fatal("not retired", out)
	}
	if out := step(30 * time.Second); !out.Resting[l].Awaited || len(out.Delete) != 0 || out.Again != in.Now.Add(time.Second) {
		t.Fatal("not awaited", out)
	}
	if out := step(time.Second); len(out.Delete) != 0 {
		t.Fatal("ended before its node has let go", out)
	}
	in.State = func(Lease) State { return Used }
	if out := step(0); len(out.Resting) != 0 {
		t.Fatal("in use again, and resting", out)
	}
	in.State, settled = func(Lease) State { return Unused }, true
	for range 2 {
		if out := step(time.Minute); len(out.Delete) != 0 {
			t.Fatal("ended early", out)
		}
	}
	step(30 * time.Second)
	if out := step(0); !slices.Equal(out.Delete, []Lease{l}) {
		t.Fatal("not ended", out)
	}
	// Until the lease is really gone nobody else gets an address of it.
	in.Needs[Holder{"n2", "a:red"}] = &Need{Addresses: 1}
	if out := step(0); len(out.Create) != 1 || out.Create[0].Prefix.Overlaps(l.Prefix) {
		t.Fatal(out)
	}
	// Nor for some time after that.
	in.Leases, in.Table = nil, NewTable(nil)
	for _, wait := range []time.Duration{0, 29 * time.Second} {
		if out := step(wait); out.Create[0].Prefix.Overlaps(l.Prefix) || out.Again.IsZero() {
			t.Fatal(out)
		}
		in.Table = NewTable(nil)
	}
	if out := step(time.Second); out.Create[0].Prefix != l.Prefix || len(out.Resting) != 0 {
		t.Fatal(out)
	}
}
