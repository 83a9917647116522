package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/pace"
	"github.com/vragent/vragent/fastpath/table"
)

// ageOrphan is how long a reverse entry may wait for its forward entry, in ticks.
const ageOrphan = 2 * entry.Second

// aging visits the table little by little; it belongs to the worker's thread.
type aging struct {
	pace.Pace
	visit func(slot uint32, e *flow.Entry)
}

func (w *Worker) age() {
	if w.flows.Len() == 0 {
		w.aging.Skip(w.now)
		return
	}
	w.flows.Scan(w.aging.Turn(w.now, w.flows.Slots()), w.aging.visit)
}

// Sweep makes the workers forget the flows of interfaces that have left the
// tables within milliseconds instead of at their turn.
func (s *Shared) Sweep() {
	for _, w := range s.workers {
		w.Do(func() { w.aging.Sweep(w.flows.Slots()) })
	}
}

// visit ages one entry. The forward entry speaks for the pair: it goes when both
// directions are idle, or its interface is gone.
func (w *Worker) visit(slot uint32, e *flow.Entry) {
	idle := entry.Idle(w.now, e.LastSeen)
	if e.Flags&flow.FlagForward == 0 {
		w.visitReverse(slot, e, idle)
		return
	}
	limit := entry.Timeout(e.Proto, e.TCP)
	switch {
	case w.gone(e.KeyNH) || w.gone(e.NH) || w.forbidden(slot, e):
		w.removePair(slot, e)
	case idle > limit:
		w.askOther(slot, e, limit)
	case idle <= pace.Whole && w.remote(slot):
		w.ask(slot, e, never) // heals what a lost message broke
	}
}

// gone says that the next hop was removed from the tables.
func (w *Worker) gone(id uint32) bool {
	return w.view.NH(table.NextHopID(id)).ID != table.NextHopID(id)
}

// forbidden says that the flow of a slot, decided under other tables, may not be
// any more.
func (w *Worker) forbidden(slot uint32, e *flow.Entry) bool {
	if !w.stale(slot, e) {
		return false
	}
	r := w.flows.Record(slot)
	return w.view.Forbidden(&r)
}

// remote says that the other direction of a slot's entry is another worker's.
func (w *Worker) remote(slot uint32) bool {
	reverse := w.flows.Cold(slot).Reverse
	owner, _ := flow.Split(reverse)
	return reverse != flow.NoReverse && owner != w.id
}

// askOther deletes the pair if its other direction is idle as well.
func (w *Worker) askOther(slot uint32, e *flow.Entry, limit uint32) {
	if w.remote(slot) {
		w.ask(slot, e, limit)
		return
	}
	r := w.flows.Linked(flow.Slot(w.flows.Cold(slot).Reverse), flow.Index(w.id, slot))
	if r != nil && entry.Idle(w.now, r.LastSeen) <= limit {
		e.LastSeen = r.LastSeen
		return
	}
	w.removePair(slot, e)
}

// visitReverse looks after reverse entries that nobody speaks for any more.
func (w *Worker) visitReverse(slot uint32, e *flow.Entry, idle uint32) {
	switch {
	case idle <= ageOrphan:
	case w.orphan(slot):
		w.forget(slot, e)
	case idle > entry.Timeout(e.Proto, e.TCP) && w.remote(slot):
		w.ask(slot, e, never)
	}
}

// never is the limit of those who only ask whether the other direction is there.
const never = ^uint32(0)

// ask has the other direction, which is another worker's, deleted if it was idle
// for limit; the answer says what became of it. Questions leave half of the ring to
// packets: they come again.
func (w *Worker) ask(slot uint32, e *flow.Entry, limit uint32) {
	reverse := w.flows.Cold(slot).Reverse
	owner, _ := flow.Split(reverse)
	if w.s.rings[w.id][owner].Len() < ringSize/2 {
		w.tell(owner, &message{kind: msgAge, index: reverse, peer: flow.Index(w.id, slot), ticks: limit, tcp: e.TCP.Reverse()})
	}
}

// actAge answers ask.
func (w *Worker) actAge(from int, m *message, slot uint32) {
	e := w.flows.Linked(slot, m.peer)
	if e != nil {
		w.setTCP(slot, e, entry.MergeTCP(e.TCP, m.tcp))
	}
	if e != nil && entry.Idle(w.now, e.LastSeen) <= m.ticks {
		w.tell(from, &message{kind: msgAlive, index: m.peer, peer: m.index, ticks: e.LastSeen, tcp: e.TCP.Reverse()})
		return
	}
	if e == nil && w.flows.Entry(slot).Flags&flow.FlagPending != 0 {
		return // it may wait for the very entry that asks, which the answer would delete; that asks again
	}
	if e != nil {
		w.forget(slot, e)
	}
	w.tell(from, &message{kind: msgDelete, index: m.peer, peer: m.index})
}

// actAlive takes over when the other direction was seen, and what of TCP.
func (w *Worker) actAlive(m *message, slot uint32) {
	e := w.flows.Linked(slot, m.peer)
	if e == nil {
		return
	}
	w.setTCP(slot, e, entry.MergeTCP(e.TCP, m.tcp))
	if int32(m.ticks-e.LastSeen) > 0 {
		e.LastSeen = m.ticks
	}
}
