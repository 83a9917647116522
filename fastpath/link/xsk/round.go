package xsk

import "sync/atomic"

// rounds tells who brings frames which of them have been taken: a new number says that all
// which waited when the number before was said are gone from the ring.
type rounds struct {
	// Set once by Open.
	number *atomic.Uint32 // nil: nobody asks

	// Owned by the worker.
	until uint32 // index in the RX ring up to which frames waited when the round began
	empty uint32 // looks in vain at the ring
}

// patience is how many looks at an empty ring are between two rounds: frames that were lost
// on their way here do not end one. Not each look, as who brings frames reads the number.
const patience = 16

// over says that the round is, when the worker has taken all frames up to taken.
func (r *rounds) over(taken uint32) bool { return r.number != nil && int32(taken-r.until) >= 0 }

// begin begins a round; frames up to waiting have come.
func (r *rounds) begin(waiting uint32) {
	r.until = waiting
	next := r.number.Load() + 1
	if next == 0 { // which says nothing
		next = 1
	}
	r.number.Store(next)
}

// idle is told that none has come.
func (r *rounds) idle(taken uint32) {
	if r.empty++; r.empty%patience == 0 && r.over(taken) {
		r.begin(taken)
	}
}
