package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func nodesOf(n int) (*Cluster, map[string]*Report) {
	c, reports := &Cluster{}, map[string]*Report{}
	for i := range n {
		name := fmt.Sprintf("n%03d", i)
		c.Nodes = append(c.Nodes, Node{Meta: Meta{Name: name}})
		reports[name] = (&Report{Node: name}).Clone()
	}
	return c, reports
}

func prefixes(leases []Lease, node string) []string {
	var out []string
	for _, l := range leases {
		if l.Node == node {
			out = append(out, l.Prefix.String())
		}
	}
	return out
}

func TestGrowAtSevenEighths(t *testing.T) {
	c, reports := nodesOf(2)
	config := testConfig()
	leases, problems := Grow(config, c, nil, reports)
	if len(problems) > 0 || !slices.Equal(prefixes(leases, "n000"), []string{"198.51.100.0/26", "2001:db8:1::/122"}) {
		t.Fatal(leases, problems)
	}
	for _, step := range []struct {
		used uint32
		want int
	}{{0, 1}, {55, 1}, {56, 2}, {64, 2}} {
		r := reports["n000"].Clone()
		r.Blocks[BlockKey{"k8s-default-pod-network", netip.MustParsePrefix("198.51.100.0/26")}] = step.used
		reports["n000"] = r
		for range 3 { // saying it again leases nothing more
			leases, _ = Grow(config, c, leases, reports)
		}
		v4 := slices.DeleteFunc(prefixes(leases, "n000"), func(s string) bool { return netip.MustParsePrefix(s).Addr().Is6() })
		if len(v4) != step.want {
			t.Errorf("%d used: %v", step.used, v4)
		}
	}
}

func TestGrowWhenNothingIsLeft(t *testing.T) {
	c, reports := nodesOf(5)
	config := testConfig()
	config.PodSubnets = config.PodSubnets[:1] // four blocks
	leases, problems := Grow(config, c, nil, reports)
	if len(leases) != 4 || len(problems) != 1 || problems[0].Object != "Node n004" {
		t.Fatal(leases, problems)
	}
	// n001 leaves the cluster but is still heard of: its block stays its own.
	c.Nodes = slices.DeleteFunc(c.Nodes, func(n Node) bool { return n.Name == "n001" })
	if leases, problems = Grow(config, c, leases, reports); len(problems) != 1 {
		t.Fatal(leases, problems)
	}
	delete(reports, "n001")
	leases, problems = Grow(config, c, leases, reports)
	if len(problems) != 0 || !slices.Equal(prefixes(leases, "n004"), []string{"198.51.100.64/26"}) {
		t.Fatal(leases, problems)
	}
	// It comes back to find another one in its place.
	c.Nodes = append(c.Nodes, Node{Meta: Meta{Name: "n001"}})
	reports["n001"] = (&Report{Node: "n001"}).Clone()
	if _, problems = Grow(config, c, leases, reports); len(problems) != 1 || problems[0].Object != "Node n001" {
		t.Fatal(problems)
	}
}

func TestGrowOnlyForNodesOfTheCluster(t *testing.T) {
	_, reports := nodesOf(2)
	if leases, _ := Grow(testConfig(), &Cluster{}, nil, reports); len(leases) != 0 {
		t.Error(leases)
	}
}

func TestGrowSaysWhichLeasesAreOutside(t *testing.T) {
	c, reports := nodesOf(1)
	old := []Lease{{"k8s-default-pod-network", "n000", netip.MustParsePrefix("192.0.2.0/26")}}
	leases, problems := Grow(testConfig(), c, old, reports)
	if len(problems) != 1 || len(leases) != 3 {
		t.Error(leases, problems)
	}
}

// Leases never overlap, lie in the subnets, survive, and depend on no order.
func TestGrowProperties(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		c, reports := nodesOf(1 + r.IntN(6))
		config := testConfig()
		var leases []Lease
		for range 10 {
			config.BlockBits4 = 26 + r.IntN(3)
			before := slices.Clone(leases)
			shuffled := slices.Clone(leases)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			leases, _ = Grow(config, c, shuffled, reports)
			if err := CheckLeases(leases); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for _, l := range before {
				if !slices.Contains(leases, l) {
					t.Fatalf("seed %d: %v is lost", seed, l)
				}
			}
			for _, l := range leases {
				if !covers(config.PodSubnets, l.Prefix.Addr()) {
					t.Fatalf("seed %d: %v is outside", seed, l)
				}
				rep := reports[l.Node].Clone()
				rep.Blocks[BlockKey{l.Network, l.Prefix}] = r.Uint32N(uint32(sizeOf(l.Prefix)) + 1)
				reports[l.Node] = rep
			}
		}
	}
}

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

func TestCheckLeases(t *testing.T) {
	good := Lease{"net", "n1", netip.MustParsePrefix("198.51.100.0/26")}
	for name, bad := range map[string][]Lease{
		"twice":     {good, good},
		"inside":    {good, {"net", "n2", netip.MustParsePrefix("198.51.100.32/27")}},
		"host bits": {{"net", "n1", netip.MustParsePrefix("198.51.100.1/26")}},
		"no node":   {{"net", "", good.Prefix}},
		"no prefix": {{"net", "n1", netip.Prefix{}}},
	} {
		if CheckLeases(bad) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := CheckLeases([]Lease{good, {"other", "n1", good.Prefix}}); err != nil {
		t.Error(err)
	}
}
