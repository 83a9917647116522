package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// track finds the flow of every live packet, or settles a new one, and names the
// next hop and the tuple the packet leaves with.
//
//	reads:  keyNH, info, tables, flows
//	writes: to, nh, push, rewrite; flows
//	drops:  reason.VifFlowLimit, reason.FlowTableFull, reason.NoRoute … reason.NATPorts; refusals are answered
func (w *Worker) track() {
	w.locate()
	w.missed = 0
	batch := w.batch[:w.n]
	for i := range batch {
		p := &batch[i]
		if !p.live || p.settled {
			continue
		}
		if p.Info.ICMPError {
			w.trackError(p)
			continue
		}
		if p.Info.TTL <= 1 {
			w.refuse(p, reason.TTLExpired)
			continue
		}
		if !w.known(p, &w.places[i]) && p.live && !p.answer {
			if why := w.mayBegin(p, &w.places[i]); why != reason.None { // before the decision: a flood must not buy one with each packet
				w.drop(p, why)
				continue
			}
			w.misses[w.missed] = uint8(i)
			w.missed++
		}
	}
	w.settle()
}

// locate finds out where the flows of all packets are before the first is looked at,
// so that the batch waits once for the memory and not each packet for its own.
func (w *Worker) locate() {
	batch := w.batch[:w.n]
	for i := range batch {
		if p := &batch[i]; p.live && !p.settled {
			w.flows.Locate(uint32(p.KeyNH), &p.Info.Tuple, &w.places[i])
		}
	}
	w.touched = w.flows.Touch(w.places[:w.n]) // also where packets that have left were: old places harm nobody
}

// known sends p as the entry of its flow says, if there is one that holds. When it
// returns false, p may be gone: refused.
func (w *Worker) known(p *pkt, at *flow.Place) bool {
	slot, ok := w.flows.Find(&p.Info.Tuple, at)
	if !ok {
		return false
	}
	e := w.flows.Entry(slot)
	if (e.View != w.views || e.TCP&flow.DEAD != 0) && !w.current(p, slot, e) {
		return false
	}
	w.hit(p, slot, e)
	return true
}

// settle begins the flows of packets that have none. As in locate, the batch waits
// once for the memory: of the entries to be made, which are known when all is decided.
func (w *Worker) settle() {
	for j, i := range w.misses[:w.missed] {
		p, d := &w.batch[i], &w.decisions[j]
		if w.view.First(&p.Packet, d); d.Reason == reason.None {
			back := d.To.Reverse()
			w.flows.Locate(uint32(d.KeyNH), &back, &w.back)
			w.touched += w.flows.TouchNew(&w.places[i]) + w.flows.TouchNew(&w.back)
		}
	}
	for j, i := range w.misses[:w.missed] {
		p, d := &w.batch[i], &w.decisions[j]
		switch {
		case w.known(p, &w.places[i]) || !p.live || p.answer: // a packet before it began the flow
		case d.Reason != reason.None:
			w.refuse(p, d.Reason)
		default:
			w.install(p, &w.places[i], d)
		}
	}
}

// hit sends p as its flow entry says.
func (w *Worker) hit(p *pkt, slot uint32, e *flow.Entry) {
	e.LastSeen = w.now
	w.flows.Count(slot, e, 1, uint64(p.Info.Len))
	if e.Proto == packet.ProtoTCP {
		w.tcp(slot, e, p.Info.TCPFlags)
	}
	if e.Flags&flow.FlagPending != 0 {
		// The reverse entry is on its way to its owner; packets take the same
		// road, so that no reply can come before it.
		w.sendInstall(p, slot, e)
		return
	}
	w.obey(p, slot, e)
	if e.Every(w.look) || e.Flags&(flow.FlagBulk|flow.FlagOffloaded) != 0 {
		w.offload(p, slot, e)
	}
}

// tcp moves the state of a pair. Nothing is sent to another worker unless the state
// changed, which is a handful of times in a connection.
func (w *Worker) tcp(slot uint32, e *flow.Entry, flags uint8) {
	next := entry.NextTCP(e.TCP, flags)
	if next == e.TCP {
		return
	}
	w.setTCP(slot, e, next)
	w.mirrorTCP(slot, e)
}

// setTCP moves the state of one direction. What is over leaves the kernel at once: the
// same ports may soon be another connection's, with another backend.
func (w *Worker) setTCP(slot uint32, e *flow.Entry, s flow.TCPState) {
	e.TCP = s
	if s.Over() {
		w.cancel(slot)
	}
}

// obey copies the entry's decision into the packet.
func (w *Worker) obey(p *pkt, slot uint32, e *flow.Entry) {
	p.nh = w.view.NH(table.NextHopID(e.NH))
	p.push = e.Label()
	if p.rewrite = e.NAT != 0; p.rewrite {
		w.flows.Translate(slot, e, &p.to)
	}
}

// current says that e still holds: the next hop it was decided under has not changed
// since, and p does not begin another connection. A stale forward entry is decided
// again and keeps its backend while that serves; a stale reverse entry only finds its
// way back again. When it returns false, e does not hold, and p is gone if it was
// refused.
func (w *Worker) current(p *pkt, slot uint32, e *flow.Entry) bool {
	forward := e.Flags&flow.FlagForward != 0
	if forward && e.TCP&flow.DEAD != 0 && p.Info.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN {
		w.removePair(slot, e)
		return false
	}
	if !w.stale(slot, e) {
		return true
	}
	if !forward {
		return w.reroute(p, slot, e)
	}
	r := w.flows.Record(slot)
	if scope, at, ok := w.view.Keeps(&p.Packet, &r); ok {
		e.LabelECMP = flow.PackLabelECMP(e.Label(), at)
		w.approve(slot, e, scope)
		return true
	}
	d := &w.decide
	w.view.Flow(&p.Packet, d)
	switch {
	case d.Reason == reason.Unresolved: // the neighbour may be back in a moment: the flow waits for it
		w.drop(p, d.Reason)
		return false
	case d.Reason != reason.None:
		w.removePair(slot, e)
		w.refuse(p, d.Reason)
		return false
	case r.Member() >= 0 && e.Proto == packet.ProtoTCP && p.Info.TCPFlags&packet.SYN == 0 && way.IsService(w.view.NH(d.Scope)):
		w.removePair(slot, e)
		w.refuse(p, reason.BackendRemoved)
		return false
	case w.view.Alike(&r, d):
		e.NH, e.LabelECMP = uint32(d.NH), flow.PackLabelECMP(d.Push, d.ECMP)
		w.approve(slot, e, d.Scope)
		return true
	}
	w.removePair(slot, e)
	return false // decided afresh: UDP and new connections find another backend
}

// stale says that what e was decided under has changed since. One that holds is
// not asked again under the same tables.
func (w *Worker) stale(slot uint32, e *flow.Entry) bool {
	if e.View == w.views {
		return false
	}
	c := w.flows.Cold(slot)
	if w.view.NH(table.NextHopID(c.Scope)).Gen != c.Gen {
		return true
	}
	e.View = w.views
	return false
}

// approve says that e holds as things stand with the next hop scope.
func (w *Worker) approve(slot uint32, e *flow.Entry, scope table.NextHopID) {
	c := w.flows.Cold(slot)
	c.Scope, c.Gen, e.View = uint32(scope), w.view.NH(scope).Gen, w.views
	if e.Flags&flow.FlagOffloaded != 0 {
		w.admit.Anew(slot, e) // the kernel holds it for stale
	}
}

// reroute finds the way back of a reverse entry again: to the interface it came
// from, or by the same tunnel if that still leads there, or else by another.
func (w *Worker) reroute(p *pkt, slot uint32, e *flow.Entry) bool {
	t := w.view.Tables
	c, to := w.flows.Cold(slot), w.flows.Translated(slot).Dst
	nh := t.NH(table.NextHopID(e.NH))
	switch v := t.Vif(nh.Vif); nh.Type {
	case table.NHEncap, table.NHHost:
		if nh.Type == table.NHHost || v != nil && v.Owns(to) {
			w.approve(slot, e, table.NextHopID(c.Scope))
			return true
		}
	default:
		r, why := way.Behind(t, table.VRFID(c.VRF), to, packet.AddrFrom(nh.Dip))
		if why != reason.None {
			r, why = way.Behind(t, table.VRFID(c.VRF), to, packet.Addr{})
		}
		if why == reason.None {
			e.NH, e.LabelECMP = uint32(r.NH), flow.PackLabelECMP(r.Push, -1)
			w.approve(slot, e, r.Scope)
			return true
		}
	}
	w.removePair(slot, e)
	w.drop(p, reason.NoFlow)
	return false
}

// trackError sends an ICMP error the way of the packet it is about, translated as
// that flow's packets are (RFC 5508 for NAT). The embedded packet travelled the
// other direction: its reversed tuple is the key.
func (w *Worker) trackError(p *pkt) {
	in := &p.Info
	k := flow.Key{KeyNH: uint32(p.KeyNH), Tuple: in.Inner.Reverse()}
	slot, ok := w.flows.Lookup(&k)
	if !ok {
		w.drop(p, reason.ICMPNoFlow)
		return
	}
	if in.TTL <= 1 {
		w.drop(p, reason.TTLExpired)
		return
	}
	e := w.flows.Entry(slot)
	w.flows.Count(slot, e, 1, uint64(in.Len))
	w.obey(p, slot, e)
	p.rewrite = false
	if e.NAT != 0 {
		packet.RewriteInner(p.data(), in, p.to.Reverse())
		outer := in.Tuple
		if outer.Src == w.flows.Key(slot).Src {
			outer.Src = p.to.Src
		}
		outer.Dst = p.to.Dst
		packet.Rewrite(p.data(), in, &outer)
	}
	p.to = in.Tuple
}
