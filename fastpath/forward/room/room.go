// Package room is what a worker keeps for each id of the tables: what a vif has sent
// and received, and how many flows it has begun. A Room belongs to one worker, and is
// made by who publishes tables, because a worker that allocates while garbage is
// collected has to help, and may have to wait. It counts; it does not decide.
package room

import (
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/forward/count"
	"github.com/vragent/vragent/fastpath/forward/quota"
	"github.com/vragent/vragent/fastpath/table"
)

// Room is indexed by ids.
type Room struct {
	Vifs   []count.Vif
	Quotas quota.Counts
}

// New makes room for the ids of t, and for some more.
func New(t *table.Tables) *Room {
	vifs, nhs := t.MaxVif()+1, t.MaxNH()+1
	return &Room{make([]count.Vif, vifs+vifs/2), make(quota.Counts, nhs+nhs/2)}
}

// Holds reports whether there is room for the ids of t.
func (r *Room) Holds(t *table.Tables) bool {
	return t.MaxVif() < len(r.Vifs) && t.MaxNH() < len(r.Quotas)
}

// Grow makes room for the ids of t with what was laid ready.
func (r *Room) Grow(t *table.Tables, laid *atomic.Pointer[Room]) {
	if r.Holds(t) {
		return
	}
	more := laid.Swap(nil)
	if more == nil || !more.Holds(t) { // only before tables were published
		more = New(t)
	}
	r.Move(more)
}

// Move takes what r counts into the empty room more, where that is larger.
func (r *Room) Move(more *Room) {
	if len(more.Vifs) > len(r.Vifs) {
		copy(more.Vifs, r.Vifs)
		r.Vifs = more.Vifs
	}
	if len(more.Quotas) > len(r.Quotas) {
		copy(more.Quotas, r.Quotas)
		r.Quotas = more.Quotas
	}
}
