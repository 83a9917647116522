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

// TestWorth: searches in vain become rare, one that finds something makes them usual
// again, and others' are not concerned.
func TestWorth(t *testing.T) {
	q := make(Counts, 2)
	searches := 0
	for range 8 * every {
		if q.Worth(0) {
			searches++
			q.Searched(0, false)
		}
		if !q.Worth(1) {
			t.Fatal("nobody searched in vain for next hop 1")
		}
	}
	if want := patience + 7; searches != want {
		t.Errorf("%d searches of %d, want %d", searches, 8*every, want)
	}
	q.Searched(0, true)
	if !q.Worth(0) {
		t.Error("no search although the last one found something")
	}
	if !q.Worth(2) {
		t.Error("no search for a next hop that is not counted")
	}
}
