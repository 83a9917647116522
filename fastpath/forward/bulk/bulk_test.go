package bulk

import "testing"

const (
	us = uint64(1000)
	ms = 1000 * us
)

func TestBulk(t *testing.T) {
	for name, c := range map[string]struct {
		every uint64 // ns between two packets
		want  bool
	}{
		"all in one turn":     {0, true},
		"10 Gb/s":             {us, true},
		"requests":            {25 * us, true},
		"requests, far away":  {80 * ms, true},
		"keystrokes":          {300 * ms, true},
		"a packet a second":   {1000 * ms, true},
		"less":                {1010 * ms, false},
		"kept alive, no more": {15000 * ms, false},
	} {
		var m Meter
		got := false
		for n := uint64(Sample); n <= 8*Sample; n += Sample {
			got = m.Bulk(7, 1e12+n*c.every, n)
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A flow is not judged by another's history, by its own former life in the slot, nor
// at first sight.
func TestNoHistory(t *testing.T) {
	var m Meter
	if m.Bulk(0, 0, 1<<20) {
		t.Error("bulk at first sight")
	}
	if m.Bulk(slots, 1, 1<<21) {
		t.Error("judged by a flow in the same cell")
	}
	if m.Bulk(slots, 2, 64) {
		t.Error("judged by its slot's former flow")
	}
	if !m.Bulk(slots, 3, 128) {
		t.Error("not bulk at second sight")
	}
	m.Rest(slots, 1000)
	for now := uint64(4); now < 1002; now++ {
		if m.Resting(slots, now) != (now < 1000) || m.Bulk(slots, now, now*64) != (now >= 1000) {
			t.Fatalf("does not rest until it may, at %d", now)
		}
	}
	if m.Resting(0, 0) {
		t.Error("another flow rests")
	}
}
