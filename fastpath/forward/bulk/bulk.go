// Package bulk tells flows that go on from those that are soon over or say little. A
// Meter belongs to one worker, which shows it a flow now and then; it remembers when it
// saw it last, and nothing of flows that others have pushed out. It does not decide what
// becomes of a flow.
package bulk

// Sample is how often a flow is shown to the meter: each so many packets. A power
// of two.
const Sample = 64

// The line between flows that are worth an entry in the kernel and those that are
// not. Requests and responses are: the kernel forwards a packet where it was sent, on a
// worker's way another processor has to wake up (measured: 7 µs a round trip to 30 at
// best, 100 where processors are shared). Two samples are what the entries cost.
const (
	bytesPerSecond   = 1 << 20
	packetsPerSecond = 100
)

// slots bounds the flows that are watched at once. Two that share a cell push each
// other out, and neither becomes bulk before the other rests.
const slots = 4096

// Meter watches the flows of one worker. The zero Meter is ready.
type Meter struct{ cells [slots]cell }

// cell is when one flow was seen last, and how much of it there had been.
type cell struct {
	at, packets, bytes uint64
	flow               uint32 // slot + 1; 0: none
}

// Bulk says that the flow in slot has carried enough since it was last shown, which is
// at most a second ago. packets and bytes count from the flow's beginning, now is ns.
func (m *Meter) Bulk(slot uint32, now, packets, bytes uint64) bool {
	c := &m.cells[slot%slots]
	last := *c
	if last.flow == slot+1 && now < last.at {
		return false
	}
	*c = cell{flow: slot + 1, at: now, packets: packets, bytes: bytes}
	span := max(now-last.at, 1)
	if last.flow != slot+1 || packets < last.packets || bytes < last.bytes || span > second {
		return false
	}
	return above(packets-last.packets, span, packetsPerSecond) || above(bytes-last.bytes, span, bytesPerSecond)
}

const second = 1e9 // ns

// above says that n in span ns is more than rate a second.
func above(n, span, rate uint64) bool { return n*second > rate*span }

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
