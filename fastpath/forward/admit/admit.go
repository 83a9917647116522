// Package admit chooses which flows of a worker the kernel forwards, and orders it
// of the offloader. An Admission belongs to one worker. It does not change flow
// entries but for the flags that say what was ordered.
package admit

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/bulk"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/handover"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Mode says which established flows the kernel forwards.
type Mode uint8

const (
	Off   Mode = iota // none
	Auto              // those that go on: for the others the entries cost more than they save
	Force             // all that it can
)

// ParseMode reads off, auto or force; empty is off.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "off", "":
		return Off, nil
	case "auto":
		return Auto, nil
	case "force":
		return Force, nil
	}
	return Off, fmt.Errorf("offload %q is not known: want off, auto or force", s)
}

func (m Mode) String() string { return [...]string{"off", "auto", "force"}[m] }

const (
	// oneWay is after how many packets UDP that is never answered counts as established.
	oneWay = 2 * bulk.Sample
	// refused is how long a flow rests that the cache did not take. ns.
	refused = 5e9
	// left is how long a flow rests whose packets the kernel leaves to the worker, or
	// seems to: an order that is late looks like that. ns.
	left = 100e6
	// drainFor is how long after a forced hand-over packets may still be under way. ns.
	drainFor = 50e6
)

// mostTurns is how many may fail before a flow is forced over: it never rests, or loses packets
// all the time, as what floods a worker does. A connection that loses what was under way sends
// it again within a round trip or two; with 64 turns, one in five that came from another node stayed
// with its worker for 0.6 s, at a tenth of its rate.
const mostTurns = 8

// Admission is one worker's.
type Admission struct {
	// Set once by New.
	desk   *desk.Desk
	mode   Mode
	flows  *flow.Table
	worker int

	// Owned by the worker.
	turns   *handover.Turns
	meter   bulk.Meter
	tries   [256]try
	fences  [handover.Each]frame.Desc
	ordered bool // since End
}

// try is what was tried with one flow.
type try struct {
	slot   uint32
	failed uint16 // turns, in a row
	// After it was forced over: its packets are dropped, because later ones are not
	// behind them. ns; 0: it was not.
	until uint64
}

// Config says which flows are given to the kernel, and how. The zero Config gives none.
type Config struct {
	Mode  Mode
	Desks []*desk.Desk   // one per worker
	Slots []offload.Slot // shared with the kernel
}

// New returns the admission of a worker to whom the flows belong, nil if none is admitted.
func New(c *Config, flows *flow.Table, worker int) *Admission {
	if c.Mode == Off {
		return nil
	}
	return &Admission{desk: c.Desks[worker], mode: c.Mode, flows: flows, worker: worker, turns: handover.New(c.Slots, worker)}
}

// Mask says when a flow is looked at: when its number of packets has none of these bits.
func (m Mode) Mask() uint32 {
	switch m {
	case Auto:
		return bulk.Sample - 1
	case Force:
		return 0
	}
	return ^uint32(0)
}

// Packet is a packet of an established flow, as it came.
type Packet struct {
	*decide.Packet
	Data  []byte // its first buffer
	Off   int    // where Ethernet begins there
	Total int    // bytes, of all its buffers

	Mark *offload.Mark // written by Consider: it goes down with this
}

func (p *Packet) frame() []byte { return p.Data[p.Off:] }

// Verdict is what becomes of a packet that the worker was about to send.
type Verdict uint8

const (
	Nothing Verdict = iota
	Ordered         // its flow is given to the kernel from here on: the other direction should be too
	Late            // it must not be sent any more
)

// Consider looks at a packet of the flow in slot, which leaves by nh. mate is the
// slot of the other direction if that is in the same table.
func (a *Admission) Consider(p *Packet, slot uint32, mate uint32, nh *table.NH, now uint64) Verdict {
	e := a.flows.Entry(slot)
	switch {
	case p.Info.Frag != packet.FragNone:
	case e.Flags&flow.FlagOffloaded != 0:
		if a.cameUp(p, slot, e, now) {
			return Late
		}
	case steered(p.frame()) && a.wants(slot, e, mate, now) && a.order(p, slot, e, nh, now):
		return Ordered
	}
	return Nothing
}

// steered says that a frame came by the kernel's steering, which looks flows up: what
// comes by a link of its own never meets the cache.
func steered(frame []byte) bool {
	return offload.MarkOf(frame).Slot != 0 || [6]byte(frame[6:12]) == [6]byte{}
}

// wants says that the kernel should forward e from now on.
func (a *Admission) wants(slot uint32, e *flow.Entry, mate uint32, now uint64) bool {
	if a.desk.Full.Load() || e.Flags&(flow.FlagPending|flow.FlagHairpin) != 0 || !a.established(slot, e, mate) {
		return false
	}
	if a.mode == Force || e.Flags&flow.FlagBulk != 0 {
		return !a.meter.Resting(slot, now)
	}
	return a.meter.Bulk(slot, now, a.flows.Packets(slot))
}

// established says that both directions were seen. A reverse entry is there because
// the forward direction was.
func (a *Admission) established(slot uint32, e *flow.Entry, mate uint32) bool {
	switch e.Proto {
	case packet.ProtoTCP:
		return e.TCP.Established() && e.TCP&(flow.FIN|flow.FINr) == 0
	case packet.ProtoUDP:
		return e.Flags&flow.FlagForward == 0 || a.flows.Packets(slot) >= oneWay ||
			mate != flow.NoReverse && a.flows.Packets(mate) > 0
	}
	return false
}

// order has the kernel forward e. It reports whether that will be tried.
func (a *Admission) order(p *Packet, slot uint32, e *flow.Entry, nh *table.NH, now uint64) bool {
	cold := a.flows.Cold(slot)
	if !nh.Usable || cold.Scope >= offload.MaxScope || nh.Vif >= offload.MaxMarkedVif {
		return false
	}
	to := a.flows.Translated(slot)
	if !possible(p, &to) {
		return false
	}
	order := desk.Order{Vif: uint32(p.Vif.ID), Life: cold.Life, Flow: offload.Flow{
		Key: offload.Key{Tuple: p.Info.Tuple}, To: to,
		NH: e.NH, Scope: cold.Scope, Gen: cold.Gen, Index: flow.Index(a.worker, slot),
	}}
	f := &order.Flow
	order.Flow.From, order.Via = p.origin()
	switch nh.Type {
	case table.NHEncap, table.NHHost:
	case table.NHTunnel:
		f.Push, f.Entropy = uint32(e.Label()), packet.EntropyPort(to.Hash())
	default:
		return false
	}
	try := a.try(slot, now)
	m, ok := a.turns.Begin(slot, now)
	if !ok {
		return false // many change hands just now: it comes again
	}
	f.Handover, f.Turn = m.Slot, m.Turn
	forced := try != nil && try.failed >= mostTurns
	if forced {
		a.turns.Force(m, now+drainFor)
	}
	e.Flags = e.Flags&^flow.FlagBulk | flow.FlagOffloaded // before the offloader can look
	if !a.push(&order) {
		a.turns.End(slot)
		e.Flags = e.Flags&^flow.FlagOffloaded | flow.FlagBulk
		return false
	}
	if forced {
		try.failed, try.until = 0, now+drainFor
	}
	return true
}

// possible says that the kernel forwards packets like p. A sum that is not there
// cannot be changed. What goes to the port of tunnels is looked at packet by
// packet: which addresses are nodes' changes.
func possible(p *Packet, to *packet.Tuple) bool {
	if to.Proto != packet.ProtoUDP {
		return true
	}
	sum := p.Data[p.Info.L4+6 : p.Info.L4+8]
	return to.Dport != packet.TunnelPort && (sum[0]|sum[1] != 0 || *to == p.Info.Tuple)
}

// origin reads where a flow comes from: Key.From, and the next hop that leads to.
func (p *Packet) origin() (from, via uint32) {
	if !p.Fabric {
		return uint32(p.Vif.ID), uint32(p.KeyNH)
	}
	var outer packet.Tunnel
	packet.ParseTunnel(p.frame(), p.Total, &outer) // went well before
	return offload.FromLabel | outer.Label, uint32(p.Label)
}

func (a *Admission) push(o *desk.Order) bool {
	a.ordered = true
	if a.desk.Orders.Push(*o) {
		return true
	}
	a.desk.Lost.Add(1)
	return false
}

// Cancel takes a flow that goes out of the kernel.
func (a *Admission) Cancel(slot uint32) {
	a.turns.End(slot)
	a.drained(slot)
	a.push(&desk.Order{Delete: true, Life: a.flows.Cold(slot).Life, Flow: offload.Flow{Key: offload.Key{Tuple: a.flows.Key(slot).Tuple}, Index: flow.Index(a.worker, slot)}})
}

// cameUp is for a packet of a flow that was given to the kernel: it was under way, or
// is one that the kernel leaves to us, or the kernel does not have the flow. drop:
// it is one of those that must not arrive any more. The first and last packets of a
// connection the kernel leaves to us always: they are never late.
func (a *Admission) cameUp(p *Packet, slot uint32, e *flow.Entry, now uint64) (drop bool) {
	m := offload.MarkOf(p.frame())
	switch {
	case p.Info.TCPFlags&(packet.SYN|packet.FIN|packet.RST) != 0:
	case a.drains(slot, now):
		return true
	case m.Slot != 0:
		if a.turns.Up(m, now) {
			*p.Mark = m
		}
	case a.turns.Miss(slot):
	case e.Every(bulk.Sample-1) && a.meter.Whole(slot, now, a.flows.Packets(slot)):
		again(e)
	}
	return false
}

// again has a flow ordered anew with its next packet.
func again(e *flow.Entry) { e.Flags = e.Flags&^flow.FlagOffloaded | flow.FlagBulk }

// Anew has a flow ordered anew whose entry in the cache does not hold any more.
func (a *Admission) Anew(slot uint32, e *flow.Entry) {
	a.turns.End(slot)
	again(e)
}

// failed is for a flow whose turn came to nothing. Only one that the kernel would
// forward, if it rested, is forced over in the end.
func (a *Admission) failed(slot uint32, how handover.Outcome, now uint64) {
	e := a.flows.Entry(slot)
	switch {
	case e.Used == 0 || e.Flags&flow.FlagOffloaded == 0:
		return
	case how == handover.Rested: // the order is late: it may be forced once more
		if t := a.try(slot, now); t != nil {
			t.failed = mostTurns
		}
		again(e)
		return
	case how == handover.Left:
		e.Flags &^= flow.FlagOffloaded | flow.FlagBulk
		a.meter.Rest(slot, now+left)
		return
	}
	if t := a.try(slot, now); t != nil {
		t.failed++
	}
	again(e)
}

// try is where tries with a flow are remembered, in place of those with another; nil while
// packets of that one drain.
func (a *Admission) try(slot uint32, now uint64) *try {
	t := &a.tries[slot%uint32(len(a.tries))]
	if t.slot != slot {
		if now < t.until {
			return nil
		}
		*t = try{slot: slot}
	}
	return t
}

// drains says that packets of the flow may not be sent any more.
func (a *Admission) drains(slot uint32, now uint64) bool {
	t := &a.tries[slot%uint32(len(a.tries))]
	return t.slot == slot && now < t.until
}

// drained ends that.
func (a *Admission) drained(slot uint32) {
	if t := &a.tries[slot%uint32(len(a.tries))]; t.slot == slot {
		t.until = 0
	}
}

// News takes the next news, into the entry of its flow if that is still there.
func (a *Admission) News(n *desk.News, now uint64) bool {
	if !a.desk.News.Pop(n) {
		return false
	}
	_, slot := flow.Split(n.Index)
	e := a.flows.Entry(slot)
	if e.Used == 0 || a.flows.Key(slot).Tuple != n.Tuple || a.flows.Cold(slot).Life != n.Life {
		return true
	}
	a.flows.Count(slot, e, n.Packets, n.Bytes)
	if seen := uint32(n.Seen >> entry.TickShift); n.Seen != 0 && int32(seen-e.LastSeen) > 0 {
		e.LastSeen = seen
	}
	if n.Out {
		a.out(slot, e, now)
	}
	return true
}

// out is for a flow that the kernel did not take or does not have any more.
func (a *Admission) out(slot uint32, e *flow.Entry, now uint64) {
	e.Flags &^= flow.FlagOffloaded | flow.FlagBulk
	a.meter.Rest(slot, now+refused)
	a.turns.End(slot)
	a.drained(slot)
}

// Told says that there is news.
func (a *Admission) Told() bool { return a.desk.News.Len() > 0 }

// Handing says that a flow changes hands, which Look must see the end of.
func (a *Admission) Handing() bool { return !a.turns.Idle() }

// Look ends the hand-overs that have come to an end, well or not.
func (a *Admission) Look(now uint64) {
	for slot, how := a.turns.Next(now); how != handover.None; slot, how = a.turns.Next(now) {
		a.failed(slot, how, now)
	}
	if slot, ok := a.turns.Yield(now); ok {
		a.failed(slot, handover.Left, now)
	}
}

// Down is the Ethernet source of a frame that goes down marked with m, to leave by vif.
func (a *Admission) Down(m offload.Mark, vif table.VifID) [6]byte {
	a.turns.Down(m)
	return m.Down(uint32(vif))
}

// fence sends what is to follow the marked frames of this turn of the worker. Where memory
// or room is short, a later packet brings another fence, or the hand-over fails.
func (a *Admission) fence(punt link.Link, pool *frame.Pool, mem frame.Memory) {
	n := 0
	for ; n < len(a.fences) && a.turns.Fenced(); n++ {
		addr, ok := pool.Get()
		if !ok {
			break
		}
		f := a.turns.Fence()
		f.Put(mem.Chunk(addr))
		a.fences[n] = frame.Desc{Addr: addr, Len: offload.FenceLen}
	}
	if n == 0 {
		return
	}
	for _, d := range a.fences[punt.Transmit(a.fences[:n]):n] {
		pool.Put(d.Addr)
	}
	punt.Flush()
}

// LeavesBy is the vif that a frame with this Ethernet source, marked or not, leaves by.
func LeavesBy(source []byte) table.VifID {
	id, ok := link.VifOf(source)
	if !ok {
		id, _, _ = offload.ParseDown(source)
	}
	return table.VifID(id)
}

// End closes a turn of the worker, whose frames have been sent. Fences follow them by the punt link.
func (a *Admission) End(punt link.Link, pool *frame.Pool, mem frame.Memory) {
	a.fence(punt, pool, mem)
	if a.ordered {
		a.ordered = false
		a.desk.Ring()
	}
}
