package forward

import (
	"cmp"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/quota"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// install makes the pair of entries that the decision asks for and sends p on.
//
// The forward entry is ours. NAT makes the reverse tuple another one, which may
// belong to another worker: it gets the entry together with the packet, and
// transmits only when the entry is in.
//
//	drops: reason.VifFlowLimit, reason.FlowTableFull, reason.NATPorts, reason.RingFull
func (w *Worker) install(p *pkt, at *flow.Place, d *decide.Decision) {
	if why := w.mayBegin(p, at); why != reason.None {
		w.drop(p, why)
		return
	}
	slot, ok := w.add(&p.Info.Tuple, at, at.KeyNH)
	if !ok {
		w.drop(p, reason.FlowTableFull)
		return
	}
	*w.quota.Of(uint32(p.KeyNH), p.Info.V6)++
	var r flow.Record
	w.forwardOf(p, d, &r)
	w.flows.Set(slot, &r)
	w.flows.Entry(slot).View = w.views
	if d.Client != 0 {
		w.view.Clients.Put(d.Client, d.Key, w.view.Now)
	}
	w.pair(p, slot, &r, d)
}

// forwardOf makes r the forward entry that the decision asks for.
func (w *Worker) forwardOf(p *pkt, d *decide.Decision, r *flow.Record) {
	in := &p.Info.Tuple
	*r = flow.Record{
		Src: in.Src, Dst: in.Dst, Sport: in.Sport, Dport: in.Dport, Proto: in.Proto, KeyNH: uint32(p.KeyNH),
		Flags: flow.FlagForward, Reverse: flow.NoReverse, NH: uint32(d.NH), VRF: uint32(p.VRF),
		Scope: uint32(d.Scope), Gen: w.view.NH(d.Scope).Gen, LabelECMP: flow.PackLabelECMP(d.Push, d.ECMP),
		Holder: uint32(p.KeyNH), LastSeen: w.now, Packets: 1, Bytes: uint64(p.Info.Len),
	}
	if d.Hairpin {
		r.Flags |= flow.FlagHairpin
	}
	if r.Proto == packet.ProtoTCP {
		r.TCP = entry.FirstTCP(p.Info.TCPFlags)
	}
	entry.Translate(r, &d.To)
}

// natTries bounds the source ports tried for one flow.
const natTries = 32

// pair puts the reverse entry where its tuple belongs. When another flow to the
// same backend has the same reverse key (a connection to the service and one to
// the pod itself, from one port), the source port is translated too.
func (w *Worker) pair(p *pkt, slot uint32, r *flow.Record, d *decide.Decision) {
	var rev flow.Record
	for ; p.clashes < natTries; p.clashes++ {
		e := w.flows.Entry(slot)
		to := r.Translated()
		if w.owner(&to) != w.id {
			e.Flags |= flow.FlagSplit | flow.FlagPending // until its owner has the reverse entry
			w.count.Splits++
			w.sendInstall(p, slot, e)
			return
		}
		w.reverseOf(p, r, d, &rev)
		switch w.insertReverse(&rev, flow.Index(w.id, slot)) {
		case inserted:
			if e.Used == 0 || e.Flags&flow.FlagForward == 0 {
				// The table is so full that the reverse entry took our place.
				w.flows.Delete(flow.Slot(w.lastReverse))
				w.drop(p, reason.FlowTableFull)
				return
			}
			w.flows.Cold(slot).Reverse = w.lastReverse
			w.obey(p, slot, e)
			return
		case full:
			w.removePair(slot, e)
			w.drop(p, reason.FlowTableFull)
			return
		}
		w.nextPort(slot, r)
	}
	w.removePair(slot, w.flows.Entry(slot))
	w.drop(p, reason.NATPorts)
}

// nextPort gives the flow of a slot, whose record is r, another source port.
func (w *Worker) nextPort(slot uint32, r *flow.Record) {
	entry.NextPort(r)
	w.flows.Set(slot, r)
}

// reverseOf makes r the entry for the replies of f, whose way back d says.
func (w *Worker) reverseOf(p *pkt, f *flow.Record, d *decide.Decision, r *flow.Record) {
	to := f.Translated()
	key := to.Reverse()
	*r = flow.Record{
		Src: key.Src, Dst: key.Dst, Sport: key.Sport, Dport: key.Dport, Proto: key.Proto,
		KeyNH: uint32(d.KeyNH), NH: uint32(d.Back.NH), VRF: uint32(p.VRF),
		Scope: uint32(d.Back.Scope), Gen: w.view.NH(d.Back.Scope).Gen, LabelECMP: flow.PackLabelECMP(d.Back.Push, -1),
		Flags: f.Flags & (flow.FlagSplit | flow.FlagHairpin), TCP: f.TCP.Reverse(), Holder: f.KeyNH, LastSeen: w.now,
	}
	back := entry.Reversed(f)
	entry.Translate(r, &back)
}

type insertion uint8

const (
	inserted insertion = iota
	clash              // another flow has this key
	full
)

// insertReverse puts r into this worker's table for the forward entry of that
// index and leaves the slot's index in lastReverse. Saying it again is harmless: an
// entry that makes the same of packets is of the same conversation, and r takes its
// place, also when that came another way before or its end was not heard of.
func (w *Worker) insertReverse(r *flow.Record, forward uint32) insertion {
	k := packet.Tuple{Src: r.Src, Dst: r.Dst, Sport: r.Sport, Dport: r.Dport, Proto: r.Proto}
	w.flows.Locate(r.KeyNH, &k, &w.back)
	slot, ok := w.flows.Find(&k, &w.back)
	if ok {
		e := w.flows.Record(slot)
		alike := e.VRF == r.VRF && e.Translated() == r.Translated()
		if e.Flags&flow.FlagForward != 0 || !alike && !w.orphan(slot) {
			return clash
		}
		w.cancel(slot)
		if alike {
			r.TCP, r.Packets, r.Bytes = entry.MergeTCP(e.TCP, r.TCP), e.Packets, e.Bytes
		} else {
			w.flows.Cold(slot).Life++
		}
	} else if slot, ok = w.add(&k, &w.back, r.Holder); !ok {
		return full
	}
	r.Reverse = forward
	w.flows.Set(slot, r)
	w.lastReverse = flow.Index(w.id, slot)
	return inserted
}

// orphan says that a reverse entry's forward entry, if ours, is gone.
func (w *Worker) orphan(slot uint32) bool {
	reverse := w.flows.Cold(slot).Reverse
	owner, at := flow.Split(reverse)
	if reverse == flow.NoReverse {
		return true
	}
	if owner != w.id {
		return false
	}
	return w.flows.Entry(at).Used == 0 || w.flows.Cold(at).Reverse != flow.Index(w.id, slot)
}

// add finds room for k, evicting by rule in a full table. by: in whose quota it counts.
func (w *Worker) add(k *packet.Tuple, at *flow.Place, by uint32) (uint32, bool) {
	if slot, ok := w.flows.Add(k, at); ok {
		return slot, true
	}
	if !w.quota.Worth(by, w.now) || !w.quota.Searched(by, w.now, w.evict(at, by)) {
		return 0, false
	}
	return w.flows.Add(k, at)
}

// evict makes room: a flow that is over goes, or one of who holds more.
func (w *Worker) evict(at *flow.Place, by uint32) bool {
	slot, ok := w.flows.Victim(at)
	e, six := w.flows.Entry(slot), w.flows.Six(slot)
	if ok = ok && (e.TCP.Over() || w.quota.Yields(w.flows.Cold(slot).Holder, by, w.flows.Cap(), six)); ok {
		w.removePair(slot, e)
	}
	return ok
}

// mayBegin says why who sent p may not begin another flow: it has its quota, or has searched
// a full table for room often enough.
func (w *Worker) mayBegin(p *pkt, at *flow.Place) Reason {
	worth := w.quota.Worth(at.KeyNH, w.now)
	switch {
	case w.quota.Held(at.KeyNH, p.Info.V6) >= w.maxVifFlows(p.Info.V6):
		if !worth || !w.quota.Searched(at.KeyNH, w.now, w.replaceOwn(p, at)) {
			return reason.VifFlowLimit
		}
	case !worth && w.flows.Full(p.Info.V6):
		return reason.FlowTableFull
	}
	return reason.None
}

// replaceOwn makes room in the quota of a vif that opens and closes many connections:
// one that is over goes before its time. Where many senders share a quota, as those of
// other nodes do, so does one that has not begun: none of them shuts the others out.
func (w *Worker) replaceOwn(p *pkt, at *flow.Place) bool {
	slot, ok := w.flows.Victim(at)
	e := w.flows.Entry(slot)
	if !ok || w.flows.Cold(slot).Holder != at.KeyNH || e.Flags&flow.FlagForward == 0 && w.remote(slot) ||
		!e.TCP.Over() && (e.Begun() || !p.Fabric && p.FromPod()) {
		return false
	}
	w.removePair(slot, e)
	return true
}

// removePair deletes an entry and the other direction's, wherever that is.
func (w *Worker) removePair(slot uint32, e *flow.Entry) {
	mine := flow.Index(w.id, slot)
	other := w.flows.Cold(slot).Reverse
	w.forget(slot, e)
	if other == flow.NoReverse {
		return
	}
	owner, at := flow.Split(other)
	if owner != w.id {
		w.tell(owner, &message{kind: msgDelete, index: other, peer: mine})
		return
	}
	if r := w.flows.Linked(at, mine); r != nil {
		w.forget(at, r)
	}
}

// forget deletes one entry.
func (w *Worker) forget(slot uint32, e *flow.Entry) {
	if e.Flags&flow.FlagForward != 0 {
		w.quota.Sub(e.KeyNH, w.flows.Six(slot))
	}
	w.cancel(slot)
	w.flows.Delete(slot)
}

func (w *Worker) maxVifFlows(six bool) uint32 {
	return cmp.Or(uint32(w.s.opts.MaxVifFlows), quota.Most(w.flows.Cap(), six))
}

// adopt rebuilds the quotas from a table that a predecessor left, and forgets
// entries whose links or next hops name what there cannot be. What the kernel still
// forwards, the offloader says when it is asked for the first time.
func (w *Worker) adopt() {
	w.flows.Scan(w.flows.Slots(), func(slot uint32, e *flow.Entry) {
		reverse := w.flows.Cold(slot).Reverse
		owner, other := flow.Split(reverse)
		if e.KeyNH > table.MaxID || reverse != flow.NoReverse && (owner >= w.workers || int(other) >= w.flows.Slots()) {
			w.flows.Delete(slot)
			return
		}
		e.View = 0 // the predecessor's numbers
		if w.admit == nil {
			e.Flags &^= flow.FlagBulk | flow.FlagOffloaded
		}
		if e.Flags&flow.FlagForward == 0 {
			return
		}
		w.quota.Grow(int(e.KeyNH) + 1)
		*w.quota.Of(e.KeyNH, w.flows.Six(slot))++
	})
}
