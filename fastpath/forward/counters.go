package forward

import (
	"github.com/vragent/vragent/fastpath/forward/count"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/room"
	"github.com/vragent/vragent/fastpath/table"
)

// What a worker and a vif count.
type (
	Counters    = count.Worker
	VifCounters = count.Vif
)

// counters belong to the worker's thread; readers ask through Do.
type counters struct {
	Counters
	loops, sleeps uint64
	drops         [reason.Count]uint64
	vifs          []VifCounters // by vif id; 0, which no vif has, takes ids beyond
}

func (c *counters) init() { c.vifs = make([]VifCounters, 1) }

func (c *counters) vif(id table.VifID) *VifCounters {
	if int(id) < len(c.vifs) {
		return &c.vifs[id]
	}
	return &c.vifs[0]
}

// sent counts what a vif sent; negative numbers take back.
func (c *counters) sent(id table.VifID, packets, bytes int) {
	v := c.vif(id)
	v.TxPackets += uint64(packets)
	v.TxBytes += uint64(bytes)
	c.TxPackets += uint64(packets)
	c.TxBytes += uint64(bytes)
}

// grow makes room for the ids of a new view: Publish has laid it ready.
func (w *Worker) grow() {
	have := room.Room{Vifs: w.count.vifs, Quotas: w.quota}
	have.Grow(w.view.Tables, &w.room)
	w.count.vifs, w.quota = have.Vifs, have.Quotas
}

// Counters returns the worker's counters.
func (w *Worker) Counters() Counters {
	var c Counters
	w.Do(func() {
		c = w.count.Counters
		c.Loops, c.Sleeps = w.count.loops, w.count.sleeps
		c.Flows, c.FlowSize, c.FreeFrames = w.flows.Len(), w.flows.Cap().Four, w.pool.Len()
	})
	c.Alive = w.alive.Load()
	return c
}

// Alive is the monotonic time (ns) of the last turn. It answers also when the
// worker hangs.
func (w *Worker) Alive() int64 { return w.alive.Load() }

// Drops returns the drop counters; the index is the Reason.
func (w *Worker) Drops() []uint64 {
	out := make([]uint64, reason.Count)
	w.Do(func() { copy(out, w.count.drops[:]) })
	return out
}

// VifCounters returns the counters of one vif.
func (w *Worker) VifCounters(id table.VifID) VifCounters {
	var c VifCounters
	w.Do(func() {
		if int(id) < len(w.count.vifs) {
			c = w.count.vifs[id]
		}
		if v := w.view.Vif(id); v != nil {
			c.Flows = w.quota.Sum(uint32(v.NH))
		}
	})
	return c
}
