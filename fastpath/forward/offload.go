package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/table"
)

// offload gives the flow of p to the kernel when it is time, its other direction
// along with it. Few packets come here: see hit.
//
//	drops: reason.HandOver
func (w *Worker) offload(p *pkt, slot uint32, e *flow.Entry) {
	if w.admit == nil || w.door(p.Vif.ID).card || w.toCard(w.view.NH(table.NextHopID(e.NH))) {
		return // the kernel never sees what comes from a tap, nor can it deliver there
	}
	other := w.flows.Cold(slot).Reverse
	owner, mate := flow.Split(other)
	if other != flow.NoReverse && owner != w.id {
		mate = flow.NoReverse
	}
	in := admit.Packet{Packet: &p.Packet, Data: p.data(), Off: p.off, Total: p.total, Mark: &p.mark}
	switch w.admit.Consider(&in, slot, mate, w.view.NH(table.NextHopID(e.NH)), w.view.Now) {
	case admit.Late:
		w.drop(p, reason.HandOver)
	case admit.Ordered:
		m := message{kind: msgBulk, index: other, peer: flow.Index(w.id, slot)}
		if mate != flow.NoReverse {
			w.bulk(&m)
		} else if other != flow.NoReverse {
			w.tell(owner, &m)
		}
	}
}

// bulk has the other direction of a flow given to the kernel with its next packet:
// where that comes from, only the packet says.
func (w *Worker) bulk(m *message) {
	_, slot := flow.Split(m.index)
	if e := w.flows.Linked(slot, m.peer); e != nil && e.Flags&flow.FlagOffloaded == 0 {
		e.Flags |= flow.FlagBulk
	}
}

// offloads takes in what the kernel has forwarded, and looks after flows that change hands.
func (w *Worker) offloads() {
	if w.admit == nil {
		return
	}
	w.admit.Look(w.view.Now)
	w.hear()
}

// hear takes in a batch of news, and reports whether there may be more.
func (w *Worker) hear() bool {
	var n desk.News
	for range batchSize {
		if !w.admit.News(&n, w.view.Now) {
			return false
		}
		in, out := w.count.vif(table.VifID(n.Path.In)), w.count.vif(table.VifID(n.Path.Out))
		in.RxPackets, in.RxBytes = in.RxPackets+n.Packets, in.RxBytes+n.Bytes+n.Packets*uint64(n.Path.InBytes)
		out.TxPackets, out.TxBytes = out.TxPackets+n.Packets, out.TxBytes+n.Bytes+n.Packets*uint64(n.Path.OutBytes)
	}
	return true
}

// Hear takes in all that there is to hear from the kernel now, for somebody who is about
// to read counters.
func (w *Worker) Hear() {
	for more := w.admit != nil; more; {
		w.Do(func() { more = w.hear() })
	}
}

// cancel takes a flow out of the kernel, if it is there.
func (w *Worker) cancel(slot uint32) {
	if e := w.flows.Entry(slot); e.Flags&flow.FlagOffloaded != 0 && w.admit != nil {
		e.Flags &^= flow.FlagOffloaded
		w.admit.Cancel(slot)
	}
}
