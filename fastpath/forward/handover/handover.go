// Package handover is the workers' half of giving a flow to the kernel: which slots
// are in use, what has been sent of the packets that were under way, when a turn is
// over. Turns belong to one worker. It does not know flows, and does not choose any.
package handover

import (
	"math/bits"

	"github.com/vragent/vragent/fastpath/offload"
)

// Each is how many flows of one worker may change hands at one time: 64 workers
// share offload.MaxSlots, and slot 0 is none.
const Each = 32

// patience is how long packets of a turn may be under way, in ns. The kernel takes over
// at the first packet that finds none, and a flow rests every few round trips: when nothing
// came of it by now, a frame was lost and the counts will never agree. The turn of a flow
// that rests waits for its packets, while there are slots for others.
const patience = 10e6

const (
	// yields is for how long a turn rests until it gives way to another flow's, in ns: a flow
	// with a packet a second needs two of them.
	yields = 2500e6
	// mostRest is how many turns may rest: there is always room for flows that do not.
	mostRest = Each * 3 / 4
)

// Turns are one worker's slots.
type Turns struct {
	slots []offload.Slot // of all workers; none: no flow is given
	first uint16
	used  uint32 // bit i: slot first+i is in use
	rests uint32 // bit i: nothing of turns[i] was under way when patience ended, and no frame came up since
	dirty uint32 // bit i: frames of turns[i] came up since its last fence
	turns [Each]turn
}

type turn struct {
	flow   uint32 // slot of its entry
	missed bool   // packets of it came without a mark
	forced bool
	until  uint64 // ns: patience ends
	// Marked frames that came up, and those that were sent down.
	up, down uint32
}

// New returns the turns of a worker.
func New(slots []offload.Slot, worker int) *Turns {
	t := &Turns{slots: slots, first: uint16(1 + worker*Each)}
	if int(t.first)+Each > len(slots) {
		t.slots = nil
	}
	return t
}

// Begin takes a slot for a flow, whose last turn ends. ok is false when all are in use.
func (t *Turns) Begin(flow uint32, now uint64) (m offload.Mark, ok bool) {
	t.End(flow)
	i := bits.TrailingZeros32(^t.used)
	if i >= Each || t.slots == nil {
		return m, false
	}
	t.used |= 1 << i
	t.turns[i] = turn{flow: flow, until: now + patience}
	m.Slot = t.first + uint16(i)
	m.Turn = t.slots[m.Slot].Begin()
	return m, true
}

// Force has the kernel take over at the first packet in the turn that has just begun, which
// lasts until then.
func (t *Turns) Force(m offload.Mark, until uint64) {
	if _, r := t.running(m); r != nil {
		r.forced, r.until = true, until
		t.slots[m.Slot].Force()
	}
}

// Yield ends the turn of a flow that has rested long enough, the one that has for longest,
// and returns that flow, when turns are short. ok is false when there is none. Those that have
// been taken over meanwhile end as well.
func (t *Turns) Yield(now uint64) (flow uint32, ok bool) {
	if bits.OnesCount32(t.rests) < mostRest {
		return 0, false
	}
	longest := -1
	for r := t.rests; r != 0; r &= r - 1 {
		i := bits.TrailingZeros32(r)
		if t.slots[int(t.first)+i].Taken() {
			t.free(i)
		} else if longest < 0 || t.turns[i].until < t.turns[longest].until {
			longest = i
		}
	}
	if longest < 0 || bits.OnesCount32(t.rests) < mostRest || now < t.turns[longest].until+yields {
		return 0, false
	}
	t.void(longest)
	return t.turns[longest].flow, true
}

// End gives up the turn of a flow, if it has one: it is out of the cache, or another
// turn of its begins, or its entry is another's now. What was ordered in it, and may come
// late, is void from here on.
func (t *Turns) End(flow uint32) {
	for u := t.used; u != 0; u &= u - 1 {
		if i := bits.TrailingZeros32(u); t.turns[i].flow == flow {
			t.void(i)
		}
	}
}

func (t *Turns) void(i int) {
	t.slots[int(t.first)+i].Void()
	t.free(i)
}

func (t *Turns) free(i int) {
	t.used &^= 1 << i
	t.rests &^= 1 << i
	t.dirty &^= 1 << i
}

// Miss notes a frame of a flow that bore no mark, and tells whether a turn of the flow is
// under way.
func (t *Turns) Miss(flow uint32) (under bool) {
	for u := t.used; u != 0; u &= u - 1 {
		if i := bits.TrailingZeros32(u); t.turns[i].flow == flow {
			t.turns[i].missed, under = true, true
			t.rests &^= 1 << i
		}
	}
	return under
}

// running finds the turn of a mark; nil when it is over, or another worker's.
func (t *Turns) running(m offload.Mark) (i uint16, r *turn) {
	i = m.Slot - t.first
	if i >= Each || t.used&(1<<i) == 0 || uint32(m.Turn) != t.slots[m.Slot].Turn {
		return 0, nil
	}
	return i, &t.turns[i]
}

// Up notes a frame that came up with a mark. counts is false when its turn is over: then it
// goes down as others do.
func (t *Turns) Up(m offload.Mark, now uint64) (counts bool) {
	i, r := t.running(m)
	if r == nil {
		return false
	}
	if t.rests&(1<<i) != 0 {
		t.rests &^= 1 << i
		r.until = now + patience
	}
	r.up++
	r.missed = false
	t.dirty |= 1 << i
	return true
}

// Down notes that a frame goes down with its mark. Frames that leave otherwise, or are
// dropped, are not noted.
func (t *Turns) Down(m offload.Mark) {
	if _, r := t.running(m); r != nil {
		r.down++
	}
}

// Idle says that Next has nothing to do until a packet comes.
func (t *Turns) Idle() bool { return t.used == t.rests }

// Fenced says that there is a fence to be sent behind frames of a turn, once they have been.
func (t *Turns) Fenced() bool { return t.dirty != 0 }

// Fence returns the next, if there is one.
func (t *Turns) Fence() (f offload.Fence) {
	i := bits.TrailingZeros32(t.dirty)
	t.dirty &^= 1 << i
	at := t.first + uint16(i)
	f.Mark = offload.Mark{Slot: at, Turn: uint16(t.slots[at].Turn)}
	f.Up, f.Down = t.turns[i].up, t.turns[i].down
	return f
}

// Outcome says how a turn has failed.
type Outcome uint8

const (
	None   Outcome = iota // none has
	Rested                // the flow was to be forced over, and no packet came
	Busy                  // packets came, and there was always one under way
	Left                  // packets came, and the kernel left them to the worker; or too many flows rest
)

// Next frees the slots of flows that the kernel has taken, but for those that rest, and
// returns a flow whose turn has failed, until there is none.
func (t *Turns) Next(now uint64) (flow uint32, how Outcome) {
	for u := t.used &^ t.rests; u != 0; u &= u - 1 {
		i := bits.TrailingZeros32(u)
		switch {
		case t.slots[int(t.first)+i].Taken():
			t.free(i)
		case now <= t.turns[i].until:
		case t.waits(i) && bits.OnesCount32(t.rests) < mostRest:
			t.rests |= 1 << i
		default:
			how = t.outcome(i)
			t.void(i)
			return t.turns[i].flow, how
		}
	}
	return 0, None
}

// waits says that nothing of a flow is under way. One that is to be forced over does not wait:
// what is under way then may be later than now.
func (t *Turns) waits(i int) bool {
	s, r := &t.slots[int(t.first)+i], &t.turns[i]
	return !r.forced && !r.missed && s.Rests()
}

func (t *Turns) outcome(i int) Outcome {
	switch r, s := &t.turns[i], &t.slots[int(t.first)+i]; {
	case r.forced && !r.missed:
		return Rested
	case !r.forced && s.Met() && !s.Rests():
		return Busy
	}
	return Left
}
