// Package bulk tells flows that go on from those that are soon over or say next to
// nothing. A Meter belongs to one worker, which shows it a flow now and then; it remembers
// when it saw it last, and nothing of flows that others have pushed out. It does not decide
// what becomes of a flow.
package bulk

// Sample is how often a flow is shown to the meter: each so many packets. A power
// of two.
const Sample = 64

// span is within what a flow that goes on is shown again, in ns: a packet a second is
// enough. The kernel forwards a packet where it was sent; on a worker's way another
// processor has to wake up, which a slow flow pays with each packet (a tenth of a second apart: 180 µs
// against 110; a fast one 30 to 100 against 7). An entry costs what a few packets save, so
// it does not matter how fast a flow is, but that it lasts: two samples say so.
const span = Sample * 1e9

// slots bounds the flows that are watched at once. Two that share a cell push each
// other out, and neither becomes bulk before the other rests.
const slots = 4096

// Meter watches the flows of one worker. The zero Meter is ready.
type Meter struct{ cells [slots]cell }

// cell is when one flow was seen last, and how many packets it had had.
type cell struct {
	at, packets uint64
	flow        uint32 // slot + 1; 0: none
}

// Bulk says that the flow in slot goes on: it was shown a short while ago. packets count
// from the flow's beginning, now is ns.
func (m *Meter) Bulk(slot uint32, now, packets uint64) bool {
	c := &m.cells[slot%slots]
	last := *c
	if last.flow == slot+1 && now < last.at {
		return false
	}
	*c = cell{flow: slot + 1, at: now, packets: packets}
	return last.flow == slot+1 && packets > last.packets && now-last.at <= span
}

// Whole is Bulk of a flow all of whose packets come to the worker.
func (m *Meter) Whole(slot uint32, now, packets uint64) bool {
	c := &m.cells[slot%slots]
	whole := c.flow == slot+1 && packets-c.packets == Sample
	return m.Bulk(slot, now, packets) && whole
}

// Rest keeps the flow from being called bulk until then. It is a hint: another flow
// may push it out.
func (m *Meter) Rest(slot uint32, until uint64) {
	m.cells[slot%slots] = cell{flow: slot + 1, at: until}
}

// Resting says that the flow was told to rest until later than now.
func (m *Meter) Resting(slot uint32, now uint64) bool {
	c := &m.cells[slot%slots]
	return c.flow == slot+1 && now < c.at
}
