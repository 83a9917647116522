package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Idle times after which a flow is forgotten, in ticks.
const (
	ageDead        = 5 * Second
	ageEmbryonic   = 30 * Second
	ageHalfClosed  = 120 * Second
	ageEstablished = 7440 * Second // RFC 5382, REQ-5: at least 2 h 4 min
	ageUDP         = 180 * Second  // RFC 4787, REQ-5: at least 2 min; Contrail's 180 s
	ageICMP        = 30 * Second
	ageOther       = 900 * Second

	// agePass is the time in which the whole table is visited once.
	agePass = 5 * Second
	// ageOrphan is how long a reverse entry may wait for its forward entry.
	ageOrphan = 2 * Second
	// ageMost bounds the entries visited in one turn.
	ageMost = 8192
)

// aging visits the table little by little; it belongs to the worker's thread.
type aging struct {
	last  uint32 // tick of the last visit
	visit func(slot uint32, e *flow.Entry)
	hurry int // entries to visit without waiting for time to pass
}

// age visits as many entries as the time since the last visit is worth.
func (w *Worker) age() {
	passed := w.now - w.aging.last
	if passed == 0 && w.aging.hurry == 0 {
		return
	}
	w.aging.last = w.now
	if w.flows.Len() == 0 {
		w.aging.hurry = 0
		return
	}
	n := int(min(uint64(w.flows.Slots())*uint64(passed)/agePass+1, ageMost))
	if w.aging.hurry > 0 {
		n = ageMost
		w.aging.hurry = max(0, w.aging.hurry-n)
	}
	w.flows.Scan(n, w.aging.visit)
}

// Sweep makes the workers forget the flows of interfaces that have left the
// tables within milliseconds instead of at their turn.
func (s *Shared) Sweep() {
	for _, w := range s.workers {
		w.Do(func() { w.aging.hurry = w.flows.Slots() })
	}
}

// visit ages one entry. The forward entry speaks for the pair: it goes when both
// directions are idle, or its interface is gone.
func (w *Worker) visit(slot uint32, e *flow.Entry) {
	idle := idleTicks(w.now, e.LastSeen)
	if e.Flags&flow.FlagForward == 0 {
		w.visitReverse(slot, e, idle)
		return
	}
	limit := timeout(e)
	switch {
	case w.gone(e.KeyNH) || w.gone(e.NH):
		w.removePair(slot, e)
	case idle <= limit:
	case e.Reverse == flow.NoReverse:
		w.forget(slot, e)
	default:
		w.askOther(slot, e, limit)
	}
}

// gone says that the next hop was removed from the tables.
func (w *Worker) gone(id uint32) bool {
	return w.tables.NH(table.NextHopID(id)).ID != table.NextHopID(id)
}

// askOther deletes the pair if its other direction is idle as well.
func (w *Worker) askOther(slot uint32, e *flow.Entry, limit uint32) {
	mine := flow.Index(w.id, slot)
	owner, at := flow.Split(e.Reverse)
	if owner != w.id {
		w.tell(owner, &message{kind: msgAge, index: e.Reverse, peer: mine, ticks: limit})
		return
	}
	r := w.linked(at, mine)
	if r != nil && idleTicks(w.now, r.LastSeen) <= limit {
		e.LastSeen = r.LastSeen
		return
	}
	w.removePair(slot, e)
}

// visitReverse looks after reverse entries that nobody speaks for any more.
func (w *Worker) visitReverse(slot uint32, e *flow.Entry, idle uint32) {
	if idle <= ageOrphan {
		return
	}
	owner, _ := flow.Split(e.Reverse)
	switch {
	case w.orphan(slot, e):
		w.forget(slot, e)
	case owner != w.id && idle > timeout(e):
		w.tell(owner, &message{kind: msgAge, index: e.Reverse, peer: flow.Index(w.id, slot), ticks: ^uint32(0)})
	}
}

// actAge answers askOther and visitReverse of another worker.
func (w *Worker) actAge(from int, m *message, slot uint32) {
	e := w.linked(slot, m.peer)
	if e != nil && idleTicks(w.now, e.LastSeen) <= m.ticks {
		w.tell(from, &message{kind: msgAlive, index: m.peer, peer: m.index, ticks: e.LastSeen})
		return
	}
	if e != nil {
		w.forget(slot, e)
	}
	w.tell(from, &message{kind: msgDelete, index: m.peer, peer: m.index})
}

// idleTicks is the time since seen; another worker's clock may be a turn ahead.
func idleTicks(now, seen uint32) uint32 {
	if d := int32(now - seen); d > 0 {
		return uint32(d)
	}
	return 0
}

// timeout is the idle time after which e is forgotten, in ticks.
func timeout(e *flow.Entry) uint32 {
	switch e.Proto {
	case packet.ProtoTCP:
		switch {
		case e.TCP&flow.DEAD != 0:
			return ageDead
		case e.TCP&flow.HALF != 0:
			return ageHalfClosed
		case e.TCP&(flow.EST|flow.ESTr) == 0:
			return ageEmbryonic
		}
		return ageEstablished
	case packet.ProtoUDP:
		return ageUDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return ageICMP
	}
	return ageOther
}
