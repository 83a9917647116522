package pace

import (
	"fmt"
	"testing"
)

// Whatever time passes between turns, all slots are visited in Whole, not many more, and
// never more than Most in a turn.
func TestWhole(t *testing.T) {
	for _, slots := range []int{1, 100, 5000, 3 << 18, 5 << 20} {
		for _, step := range []uint32{1, 6, Whole / 4, Whole} {
			t.Run(fmt.Sprint(slots, step), func(t *testing.T) {
				p, visits := Pace{Last: ^uint32(0) - 10}, 0 // ticks begin anew
				for now := p.Last + step; now+11 <= Whole; now += step {
					for again := true; again; again = p.Pending() {
						n := p.Turn(now, slots)
						if n > Most {
							t.Fatalf("%d in one turn", n)
						}
						visits += n
					}
					if n := p.Turn(now, slots); n != 0 {
						t.Fatalf("%d though no time has passed", n)
					}
				}
				if most := slots + Whole; visits < slots || visits > most {
					t.Errorf("%d visits to %d slots, want no more than %d", visits, slots, most)
				}
			})
		}
	}
}

// What is due is not forgotten while time passes, but is never more than the table.
func TestCatchesUp(t *testing.T) {
	const slots = 100 * Most
	var p Pace
	visits := p.Turn(100*Whole, slots)
	for now := uint32(100 * Whole); p.Pending(); {
		now++
		visits += p.Turn(now, slots)
	}
	if visits < slots || visits > 2*slots {
		t.Errorf("%d visits to %d slots", visits, slots)
	}
}

// A sweep goes at once, through all slots, and an empty table needs nothing.
func TestSweep(t *testing.T) {
	const slots = 3*hurry + 1
	var p Pace
	p.Sweep(slots)
	turns := 0
	for ; p.Pending(); turns++ {
		if n := p.Turn(0, slots); n != hurry {
			t.Errorf("turn %d: %d", turns, n)
		}
	}
	if turns != 4 {
		t.Errorf("%d turns for %d slots", turns, slots)
	}
	p.Sweep(slots)
	p.Skip(5)
	if p.Pending() || p.Last != 5 || p.Turn(5, slots) != 0 {
		t.Errorf("an empty table is to be visited: %+v", p)
	}
}
