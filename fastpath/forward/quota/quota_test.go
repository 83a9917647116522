package quota

import "testing"

func TestQuotas(t *testing.T) {
	var q Counts
	q.Grow(4)
	*q.Of(3, false)++
	*q.Of(3, true) += 2
	q.Sub(3, false)
	q.Sub(3, false) // never below none
	q.Sub(9, false) // beyond: not counted
	for _, c := range []struct {
		nh   uint32
		six  bool
		want uint32
	}{{3, false, 0}, {3, true, 2}, {2, true, 0}, {9, false, 0}} {
		if got := q.Held(c.nh, c.six); got != c.want {
			t.Errorf("next hop %d holds %d flows (IPv6: %v), want %d", c.nh, got, c.six, c.want)
		}
	}
	if q.Grow(1); len(q) != 4 {
		t.Errorf("room for %d next hops, want 4", len(q))
	}
}

// TestWorth: a flood has few searches in vain in a tick and as many in the next, and
// others are not concerned.
func TestWorth(t *testing.T) {
	c := make(Counts, 2)
	for tick := range uint32(3) {
		searches := 0
		for range 1000 {
			if c.Worth(0, tick) {
				searches++
				c.Searched(0, tick, false)
			}
			if !c.Worth(1, tick) {
				t.Fatal("nobody searched in vain for next hop 1")
			}
		}
		if searches != patience {
			t.Errorf("%d searches in tick %d, want %d", searches, tick, patience)
		}
	}
	if !c.Worth(2, 0) || c.Searched(2, 0, false) || !c.Searched(2, 0, true) {
		t.Error("a next hop that is not counted is searched for as the first time")
	}
}
