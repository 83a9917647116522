package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func nodesOf(n int) (*Cluster, map[string]*Report) {
	c, reports := &Cluster{}, map[string]*Report{}
	for i := range n {
		name := fmt.Sprintf("n%03d", i)
		c.Nodes = append(c.Nodes, Node{Meta: Meta{Name: name}})
		reports[name] = (&Report{Node: name, Synced: true}).Clone()
	}
	return c, reports
}

// grow leases what is missing, and says what else is wrong.
func grow(config Config, c *Cluster, leases []Lease, reports map[string]*Report) ([]Lease, []Problem) {
	w := &world{config: config, cluster: *c, reports: reports, leases: slices.Clone(leases), now: time.Unix(1000, 0)}
	w.build()
	return w.leases, w.last.Model.Problems
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
	leases, problems := grow(config, c, nil, reports)
	if len(problems) > 0 || !slices.Equal(prefixes(leases, "n000"), []string{"198.51.100.0/26", "2001:db8:1::/122"}) {
		t.Fatal(leases, problems)
	}
	for _, step := range []struct {
		used uint32
		want int
	}{{0, 1}, {55, 1}, {56, 2}, {64, 2}} {
		r := reports["n000"].Clone()
		r.Blocks[BlockKey{Network: "k8s-default-pod-network", Prefix: netip.MustParsePrefix("198.51.100.0/26")}] = step.used
		reports["n000"] = r
		for range 3 { // saying it again leases nothing more
			leases, _ = grow(config, c, leases, reports)
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
	leases, problems := grow(config, c, nil, reports)
	if len(leases) != 4 || len(problems) != 1 || problems[0].Object != "Node n004" {
		t.Fatal(leases, problems)
	}
	// n001 leaves the cluster but is still heard of: its block stays its own.
	c.Nodes = slices.DeleteFunc(c.Nodes, func(n Node) bool { return n.Name == "n001" })
	if leases, problems = grow(config, c, leases, reports); len(problems) != 1 {
		t.Fatal(leases, problems)
	}
	// Neither in the cluster nor heard of: after the quarantine it goes to n004.
	delete(reports, "n001")
	w := &world{config: config, cluster: *c, reports: reports, leases: leases, now: time.Unix(1000, 0)}
	w.build()
	w.now = w.now.Add(DefaultQuarantine - 1)
	if w.build(); !slices.Equal(prefixes(w.leases, "n001"), []string{"198.51.100.64/26"}) || w.last.Again != w.now.Add(1) {
		t.Fatal(w.leases, w.last.Again)
	}
	w.now = w.now.Add(1)
	w.build()
	w.now = w.now.Add(HoldTime)
	if w.build(); len(w.last.Model.Problems) != 0 || !slices.Equal(prefixes(w.leases, "n004"), []string{"198.51.100.64/26"}) {
		t.Fatal(w.leases, w.last.Model.Problems)
	}
	// It comes back to find another one in its place.
	w.cluster.Nodes = append(w.cluster.Nodes, Node{Meta: Meta{Name: "n001"}})
	reports["n001"] = (&Report{Node: "n001", Synced: true}).Clone()
	if w.build(); len(w.last.Model.Problems) != 1 || w.last.Model.Problems[0].Object != "Node n001" {
		t.Fatal(w.last.Model.Problems)
	}
}

func TestGrowOnlyForNodesOfTheCluster(t *testing.T) {
	_, reports := nodesOf(2)
	if leases, _ := grow(testConfig(), &Cluster{}, nil, reports); len(leases) != 0 {
		t.Error(leases)
	}
}

func TestGrowSaysWhichLeasesAreOutside(t *testing.T) {
	c, reports := nodesOf(1)
	old := []Lease{{Network: "k8s-default-pod-network", Node: "n000", Prefix: netip.MustParsePrefix("192.0.2.0/26")}}
	leases, problems := grow(testConfig(), c, old, reports)
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
			leases, _ = grow(config, c, shuffled, reports)
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
				rep.Blocks[BlockKey{Network: l.Network, Prefix: l.Prefix}] = r.Uint32N(1<<uint(l.Prefix.Addr().BitLen()-l.Prefix.Bits()) + 1)
				reports[l.Node] = rep
			}
		}
	}
}
