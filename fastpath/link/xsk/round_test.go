package xsk

import (
	"sync/atomic"
	"testing"
)

// TestRounds: a round ends when all that waited at its beginning has been taken, and not
// before; also where the index of the ring begins anew, and where 0 would be the next.
func TestRounds(t *testing.T) {
	for _, start := range []uint32{0, ^uint32(0) - 20} {
		var number atomic.Uint32
		number.Store(^uint32(0) - 1)
		r := rounds{number: &number, until: start}
		for i, c := range []struct{ taken, waiting, want uint32 }{
			{0, 100, ^uint32(0)}, // begins: up to 100
			{64, 300, ^uint32(0)},
			{99, 300, ^uint32(0)},
			{128, 300, 1}, // up to 300
			{299, 300, 1},
			{300, 300, 2},
			{310, 310, 3}, // nothing had waited
		} {
			if r.over(start + c.taken) {
				r.begin(start + c.waiting)
			}
			if number.Load() != c.want {
				t.Errorf("from %d, %d: round %d when %d are taken, want %d", start, i, number.Load(), c.taken, c.want)
			}
		}
	}
}

// TestRoundsOfNothing: who lost all that it sent in a round on the way gets another.
func TestRoundsOfNothing(t *testing.T) {
	var number atomic.Uint32
	r := rounds{number: &number}
	r.begin(0)
	before := number.Load()
	for range 2 * patience {
		r.idle(0)
	}
	if got := number.Load() - before; got != 2 {
		t.Errorf("%d rounds in %d looks at an empty ring, want 2", got, 2*patience)
	}
	none := rounds{}
	if none.idle(2 * patience); none.over(1) {
		t.Error("nobody asks for rounds")
	}
}
