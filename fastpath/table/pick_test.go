package table

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const manyFlows = 100_000

// backends returns a composite of n local members, and a Builder that holds it.
func backends(t testing.TB, n int) (*Builder, NextHop) {
	s := network()
	c := NextHop{ID: 60, Type: NHComposite}
	for i := range n {
		h := fnv.New64a()
		fmt.Fprintf(h, "default/web-%d", i)
		c.Members = append(c.Members, Member{NH: toWeb1, Key: h.Sum64()})
	}
	s.NextHops = append(s.NextHops, c)
	return built(t, s), c
}

// chosen returns the key each of many flows chooses.
func chosen(t testing.TB, b *Builder, c NextHop) []uint64 {
	t.Helper()
	apply(t, b, nhs(c))
	n := b.Tables().NH(c.ID)
	keys := make([]uint64, manyFlows)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range keys {
		at := n.Pick(r.Uint64())
		if at < 0 {
			t.Fatal("no member was picked")
		}
		keys[i] = n.Members[at].Key
	}
	return keys
}

func moved(a, b []uint64) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// near fails unless got is within percent of want.
func near(t *testing.T, what string, got, want, percent float64) {
	t.Helper()
	if math.Abs(got-want) > want*percent/100 {
		t.Errorf("%s: %.0f, want %.0f within %.0f %%", what, got, want, percent)
	}
}

func TestPickIsEven(t *testing.T) {
	for _, n := range []int{1, 2, 5, 16, 100} {
		b, c := backends(t, n)
		share := map[uint64]int{}
		for _, k := range chosen(t, b, c) {
			share[k]++
		}
		want := float64(manyFlows) / float64(n)
		for _, m := range c.Members {
			// Five standard deviations of a fair choice, or 2 % where that is more.
			near(t, fmt.Sprintf("share of one of %d", n), float64(share[m.Key]), want, max(2, 500/math.Sqrt(want)))
		}
	}
}

// Neighbouring hashes and keys choose as evenly as random ones.
func TestPickOfSequentialHashes(t *testing.T) {
	b, c := backends(t, 5)
	for i := range c.Members {
		c.Members[i].Key = uint64(i)
	}
	apply(t, b, nhs(c))
	n := b.Tables().NH(c.ID)
	var share [5]int
	for h := range uint64(manyFlows) {
		share[n.Pick(h)]++
	}
	for i, s := range share {
		near(t, fmt.Sprintf("share of member %d", i), float64(s), manyFlows/5, 3)
	}
}

// A member that goes, drains, becomes a hole or unusable takes its own flows
// along and no other; when it comes back they come back.
func TestPickRemoval(t *testing.T) {
	b, c := backends(t, 5)
	before := chosen(t, b, c)
	gone := c.Members[2].Key
	for what, change := range map[string]func(*NextHop){
		"goes":       func(n *NextHop) { n.Members = append(n.Members[:2], n.Members[3:]...) },
		"hole":       func(n *NextHop) { n.Members[2] = Member{} },
		"drains":     func(n *NextHop) { n.Members[2].Draining = true },
		"unusable":   func(n *NextHop) { n.Members[2].NH, n.Members[2].Label = toNode3, 100 },
		"reorder":    func(n *NextHop) { n.Members[2] = n.Members[4]; n.Members = n.Members[:4] },
		"comes back": func(n *NextHop) {},
	} {
		changed := c
		changed.Members = slices.Clone(c.Members)
		change(&changed)
		after := chosen(t, b, changed)
		for i := range before {
			if stays := before[i] != gone || what == "comes back"; stays != (before[i] == after[i]) {
				t.Fatalf("%s: flow of %#x goes to %#x", what, before[i], after[i])
			}
		}
	}
}

func TestPickAddition(t *testing.T) {
	b, c := backends(t, 6)
	five := c
	five.Members = c.Members[:5]
	before, after := chosen(t, b, five), chosen(t, b, c)
	for i := range before {
		if before[i] != after[i] && after[i] != c.Members[5].Key {
			t.Fatalf("flow of %#x moved to the old %#x", before[i], after[i])
		}
	}
	near(t, "moved", float64(moved(before, after)), manyFlows/6., 3)
}

func TestPickIgnoresPositions(t *testing.T) {
	b, c := backends(t, 7)
	before := chosen(t, b, c)
	r := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		shuffle(r, c.Members)
		if n := moved(before, chosen(t, b, c)); n != 0 {
			t.Errorf("%d flows moved", n)
		}
	}
}

// Nodes decide alike, also those of another release: the choice is part of the
// protocol between them.
func TestPickIsFixed(t *testing.T) {
	b, c := backends(t, 5)
	apply(t, b, nhs(c))
	n := b.Tables().NH(c.ID)
	var got []int
	for h := range uint64(12) {
		got = append(got, n.Pick(h*0x0123456789abcdef))
	}
	if want := "[0 1 2 1 1 3 3 4 3 2 4 1]"; fmt.Sprint(got) != want {
		t.Errorf("picked %v, want %s", got, want)
	}
}

func TestPickOfNone(t *testing.T) {
	b := built(t, network())
	apply(t, b, nhs(
		NextHop{ID: 60, Type: NHComposite},
		NextHop{ID: 61, Type: NHComposite, Members: []Member{{}, {NH: toNode3, Label: 16, Key: 1}, {NH: toWeb1, Key: 2, Draining: true}}}))
	for _, id := range []NextHopID{0, 60, 61, 999, toWeb1} {
		if n := b.Tables().NH(id); n.Pick(1) != -1 {
			t.Errorf("next hop %d picked something", id)
		}
	}
	// The last member becomes usable when its neighbour is found.
	apply(t, b, nhs(tunnel(toNode3, "192.0.2.3", mac(9))))
	if n := b.Tables().NH(61); n.Pick(1) != 1 || !n.Usable {
		t.Errorf("picked %d", n.Pick(1))
	}
}

func TestAllMembersFit(t *testing.T) {
	b, c := backends(t, MaxMembers)
	apply(t, b, nhs(c))
	n := b.Tables().NH(c.ID)
	last := 0
	for h := range uint64(manyFlows) {
		last = max(last, n.Pick(h))
	}
	if last != MaxMembers-1 {
		t.Errorf("the last member picked is %d", last)
	}
}
