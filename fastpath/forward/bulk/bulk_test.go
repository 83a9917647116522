package bulk

import "testing"

const (
	us = uint64(1000)
	ms = 1000 * us
)

func TestBulk(t *testing.T) {
	for name, c := range map[string]struct {
		every uint64 // ns between two packets
		size  uint64
		want  bool
	}{
		"requests, polled":        {25 * us, 100, true},
		"requests, by the kernel": {80 * us, 100, true},
		"requests, far away":      {8 * ms, 100, true},
		"keystrokes":              {12 * ms, 60, false},
		"slow and large":          {12 * ms, 1400, false},
		"slow and very large":     {12 * ms, 64000, true},
		"beyond a second":         {16 * ms, 64000, false},
		"100 Mb/s":                {110 * us, 1400, true},
		"1 Gb/s":                  {11 * us, 1400, true},
		"small packets, fast":     {5 * us, 60, true},
		"all in one turn":         {0, 60, true},
	} {
		var m Meter
		got := false
		for n := uint64(Sample); n <= 8*Sample; n += Sample {
			got = m.Bulk(7, 1e12+n*c.every, n, n*c.size)
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
	if m.Bulk(0, 0, 1<<20, 1<<40) {
		t.Error("bulk at first sight")
	}
	if m.Bulk(slots, 1, 1<<21, 1<<41) {
		t.Error("judged by a flow in the same cell")
	}
	if m.Bulk(slots, 2, 64, 1<<10) {
		t.Error("judged by its slot's former flow")
	}
	if !m.Bulk(slots, 3, 128, 1<<20) {
		t.Error("not bulk at second sight")
	}
	m.Rest(slots, 1000)
	for now := uint64(4); now < 1002; now++ {
		if m.Resting(slots, now) != (now < 1000) || m.Bulk(slots, now, now*64, now<<20) != (now >= 1000) {
			t.Fatalf("does not rest until it may, at %d", now)
		}
	}
	if m.Resting(0, 0) {
		t.Error("another flow rests")
	}
}
