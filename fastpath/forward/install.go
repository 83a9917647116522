package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// install makes the pair of entries for the decision just taken and sends p on.
//
// The forward entry is ours. NAT makes the reverse tuple another one, which may
// belong to another worker: it gets the entry together with the packet, and
// transmits only when the entry is in.
//
//	drops: reason.VifFlowLimit, reason.FlowTableFull, reason.NATPorts, reason.RingFull
func (w *Worker) install(p *pkt, k *flow.Key) {
	if w.quota[p.KeyNH] >= w.maxVifFlows() && !w.replaceOwn(k) {
		w.drop(p, reason.VifFlowLimit)
		return
	}
	slot, ok := w.insert(k)
	if !ok {
		w.drop(p, reason.FlowTableFull)
		return
	}
	w.quota[p.KeyNH]++
	e := w.flows.Entry(slot)
	w.fill(e, p)
	if d := &w.decide; d.Client != 0 {
		w.view.Clients.Put(d.Client, d.Key, w.view.Now)
	}
	w.pair(p, slot, e)
}

// fill writes the decision into the forward entry.
func (w *Worker) fill(e *flow.Entry, p *pkt) {
	d := &w.decide
	e.Flags = flow.FlagForward
	if d.Hairpin {
		e.Flags |= flow.FlagHairpin
	}
	e.Reverse = flow.NoReverse
	e.NH, e.VRF = uint32(d.NH), uint32(p.VRF)
	w.approve(e, d.Scope)
	e.LabelECMP = flow.PackLabelECMP(d.Push, d.ECMP)
	e.LastSeen, e.Packets, e.Bytes = w.now, 1, uint64(p.Info.Len)
	if e.Proto == packet.ProtoTCP {
		e.TCP = entry.FirstTCP(p.Info.TCPFlags)
	}
	entry.Translate(e, &d.To)
}

// natTries bounds the source ports tried for one flow.
const natTries = 32

// pair puts the reverse entry where its tuple belongs. When another flow to the
// same backend has the same reverse key (a connection to the service and one to
// the pod itself, from one port), the source port is translated too.
func (w *Worker) pair(p *pkt, slot uint32, e *flow.Entry) {
	for ; p.clashes < natTries; p.clashes++ {
		to := e.Translated()
		if w.owner(&to) != w.id {
			e.Flags |= flow.FlagSplit | flow.FlagPending // until its owner has the reverse entry
			w.count.Splits++
			w.sendInstall(p, slot, e)
			return
		}
		rev := w.reverseOf(p, e)
		switch w.insertReverse(&rev, flow.Index(w.id, slot)) {
		case inserted:
			if e.Used == 0 || e.Flags&flow.FlagForward == 0 {
				// The table is so full that the reverse entry took our place.
				w.flows.Delete(at(w.lastReverse))
				w.drop(p, reason.FlowTableFull)
				return
			}
			e.Reverse = w.lastReverse
			w.obey(p, e)
			return
		case full:
			w.removePair(slot, e)
			w.drop(p, reason.FlowTableFull)
			return
		}
		entry.NextPort(e)
	}
	w.removePair(slot, e)
	w.drop(p, reason.NATPorts)
}

// at is the slot of an index.
func at(index uint32) uint32 {
	_, slot := flow.Split(index)
	return slot
}

// reverseOf is the entry for the replies of e.
func (w *Worker) reverseOf(p *pkt, e *flow.Entry) flow.Entry {
	d := decide.Decision{NH: table.NextHopID(e.NH)}
	w.view.WayBack(&p.Packet, &d)
	to := e.Translated()
	key := to.Reverse()
	r := flow.Entry{
		Src: key.Src, Dst: key.Dst, Sport: key.Sport, Dport: key.Dport, Proto: key.Proto,
		KeyNH: uint32(d.KeyNH), NH: uint32(d.Back.NH), VRF: uint32(p.VRF),
		LabelECMP: flow.PackLabelECMP(d.Back.Push, -1),
		Flags:     e.Flags &^ (flow.FlagForward | flow.FlagPending), TCP: e.TCP.Reverse(), LastSeen: w.now,
	}
	w.approve(&r, d.Back.Scope)
	back := entry.Reversed(e)
	entry.Translate(&r, &back)
	return r
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
func (w *Worker) insertReverse(r *flow.Entry, forward uint32) insertion {
	k := r.Key()
	slot, ok := w.flows.Lookup(&k)
	if ok {
		e := w.flows.Entry(slot)
		alike := e.VRF == r.VRF && e.Translated() == r.Translated()
		if e.Flags&flow.FlagForward != 0 || !alike && !w.orphan(slot, e) {
			return clash
		}
		if alike {
			r.TCP, r.Packets, r.Bytes = entry.MergeTCP(e.TCP, r.TCP), e.Packets, e.Bytes
		}
	} else if slot, ok = w.insert(&k); !ok {
		return full
	}
	e := w.flows.Entry(slot)
	used := e.Used
	*e = *r
	e.Used, e.Reverse = used, forward
	w.lastReverse = flow.Index(w.id, slot)
	return inserted
}

// orphan says that a reverse entry's forward entry, if ours, is gone.
func (w *Worker) orphan(slot uint32, e *flow.Entry) bool {
	owner, at := flow.Split(e.Reverse)
	if e.Reverse == flow.NoReverse {
		return true
	}
	if owner != w.id {
		return false
	}
	f := w.flows.Entry(at)
	return f.Used == 0 || f.Reverse != flow.Index(w.id, slot)
}

// insert finds room for k, evicting by rule when the table is full.
func (w *Worker) insert(k *flow.Key) (uint32, bool) {
	if slot, ok := w.flows.Insert(k); ok {
		return slot, true
	}
	slot, ok := w.flows.Victim(k)
	if !ok {
		return 0, false
	}
	w.removePair(slot, w.flows.Entry(slot))
	return w.flows.Insert(k)
}

// replaceOwn makes room in the quota of a vif that opens and closes many connections:
// one that is over goes before its time.
func (w *Worker) replaceOwn(k *flow.Key) bool {
	slot, ok := w.flows.Victim(k)
	e := w.flows.Entry(slot)
	from := e.KeyNH
	if e.Flags&flow.FlagForward == 0 {
		from = e.NH
		ok = ok && !w.remote(e)
	}
	if !ok || from != k.KeyNH || !e.TCP.Over() {
		return false
	}
	w.removePair(slot, e)
	return true
}

// removePair deletes an entry and the other direction's, wherever that is.
func (w *Worker) removePair(slot uint32, e *flow.Entry) {
	mine := flow.Index(w.id, slot)
	other := e.Reverse
	w.forget(slot, e)
	if other == flow.NoReverse {
		return
	}
	owner, at := flow.Split(other)
	if owner != w.id {
		w.tell(owner, &message{kind: msgDelete, index: other, peer: mine})
		return
	}
	if r := w.linked(at, mine); r != nil {
		w.forget(at, r)
	}
}

// linked returns the entry at slot if its other direction is peer.
func (w *Worker) linked(slot, peer uint32) *flow.Entry {
	if int(slot) >= w.flows.Slots() {
		return nil
	}
	if e := w.flows.Entry(slot); e.Used != 0 && e.Reverse == peer {
		return e
	}
	return nil
}

// forget deletes one entry.
func (w *Worker) forget(slot uint32, e *flow.Entry) {
	if e.Flags&flow.FlagForward != 0 && int(e.KeyNH) < len(w.quota) && w.quota[e.KeyNH] > 0 {
		w.quota[e.KeyNH]--
	}
	w.flows.Delete(slot)
}

func (w *Worker) maxVifFlows() uint32 {
	if m := w.s.opts.MaxVifFlows; m > 0 {
		return uint32(m)
	}
	return uint32(w.flows.Cap() / 4) // with their reverse entries, half of the table
}

// adopt rebuilds the quotas from a table that a predecessor left, and forgets
// entries whose links or next hops name what there cannot be.
func (w *Worker) adopt() {
	w.flows.Scan(w.flows.Slots(), func(slot uint32, e *flow.Entry) {
		owner, other := flow.Split(e.Reverse)
		if e.KeyNH > table.MaxID || e.Reverse != flow.NoReverse && (owner >= w.workers || int(other) >= w.flows.Slots()) {
			w.flows.Delete(slot)
			return
		}
		if e.Flags&flow.FlagForward == 0 {
			return
		}
		if n := int(e.KeyNH) + 1; n > len(w.quota) {
			w.quota = append(w.quota, make([]uint32, n-len(w.quota))...)
		}
		w.quota[e.KeyNH]++
	})
}
