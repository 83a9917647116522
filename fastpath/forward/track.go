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
//	drops:  reason.NoRoute … reason.NATPorts; refusals are answered
func (w *Worker) track() {
	for i := 0; i < w.n; i++ {
		p := &w.batch[i]
		if !p.live || p.settled {
			continue
		}
		if p.info.ICMPError {
			w.trackError(p)
			continue
		}
		if p.info.TTL <= 1 {
			w.refuse(p, reason.TTLExpired)
			continue
		}
		w.trackOne(p)
	}
}

func (w *Worker) trackOne(p *pkt) {
	k := flow.Key{KeyNH: uint32(p.keyNH), Tuple: p.info.Tuple}
	slot, ok := w.flows.Lookup(&k)
	if ok {
		e := w.flows.Entry(slot)
		if ok = w.current(p, slot, e); ok {
			w.hit(p, slot, e)
			return
		}
		if !p.live || p.answer {
			return
		}
	}
	decide(w.tables, p, &w.decide)
	if r := w.decide.reason; r != reason.None {
		w.refuse(p, r)
		return
	}
	w.install(p, &k)
}

// hit sends p as its flow entry says.
func (w *Worker) hit(p *pkt, slot uint32, e *flow.Entry) {
	e.LastSeen = w.now
	e.Packets++
	e.Bytes += uint64(p.info.Len)
	if e.Proto == packet.ProtoTCP {
		w.tcp(slot, e, p.info.TCPFlags)
	}
	if e.Flags&flow.FlagPending != 0 {
		// The reverse entry is on its way to its owner; packets take the same
		// road, so that no reply can come before it.
		w.sendInstall(p, slot, e)
		return
	}
	w.obey(p, e)
}

// tcp moves the state of a pair. Nothing is sent to another worker unless the state
// changed, which is a handful of times in a connection.
func (w *Worker) tcp(slot uint32, e *flow.Entry, flags uint8) {
	next := entry.NextTCP(e.TCP, flags)
	if next == e.TCP {
		return
	}
	e.TCP = next
	w.mirrorTCP(slot, e)
}

// obey copies the entry's decision into the packet.
func (w *Worker) obey(p *pkt, e *flow.Entry) {
	p.nh = w.tables.NH(table.NextHopID(e.NH))
	p.push = e.Label()
	p.rewrite = e.NAT != 0
	p.to = packet.Tuple{Src: e.NatSrc, Dst: e.NatDst, Sport: e.NatSport, Dport: e.NatDport, Proto: e.Proto}
}

// current says that e still holds: the next hop it was decided under has not changed
// since, and p does not begin another connection. A stale forward entry is decided
// again and keeps its backend while that serves; a stale reverse entry only finds its
// way back again. When it returns false, e does not hold, and p is gone if it was
// refused.
func (w *Worker) current(p *pkt, slot uint32, e *flow.Entry) bool {
	forward := e.Flags&flow.FlagForward != 0
	if forward && e.TCP&flow.DEAD != 0 && p.info.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN {
		w.removePair(slot, e)
		return false
	}
	if w.tables.NH(table.NextHopID(e.Scope)).Gen == e.Gen {
		return true
	}
	if !forward {
		return w.reroute(p, slot, e)
	}
	if w.keeps(p, e) {
		return true
	}
	d := &w.decide
	decide(w.tables, p, d)
	switch {
	case d.reason == reason.Unresolved: // the neighbour may be back in a moment: the flow waits for it
		w.drop(p, d.reason)
		return false
	case d.reason != reason.None:
		w.removePair(slot, e)
		w.refuse(p, d.reason)
		return false
	case e.Member() >= 0 && e.Proto == packet.ProtoTCP && p.info.TCPFlags&packet.SYN == 0 && way.IsService(w.tables.NH(d.scope)):
		w.removePair(slot, e)
		w.refuse(p, reason.BackendRemoved)
		return false
	case w.alike(e, d):
		e.NH, e.LabelECMP = uint32(d.nh), flow.PackLabelECMP(d.push, d.ecmp)
		w.approve(e, d.scope)
		return true
	}
	w.removePair(slot, e)
	return false // decided afresh: UDP and new connections find another backend
}

// approve says that e holds as things stand with the next hop scope.
func (w *Worker) approve(e *flow.Entry, scope table.NextHopID) {
	e.Scope, e.Gen = uint32(scope), w.tables.NH(scope).Gen
}

// alike says that d fits the reverse entry that e has: packets become the same, and
// replies are received as before. A source port translated because of a clash stays.
func (w *Worker) alike(e *flow.Entry, d *decision) bool {
	to := e.Translated()
	to.Sport = d.to.Sport
	tunnels := w.tables.NH(table.NextHopID(e.NH)).Type == table.NHTunnel && w.tables.NH(d.nh).Type == table.NHTunnel
	return to == d.to && (e.NH == uint32(d.nh) || tunnels)
}

// keeps says that the member e is pinned to is still one of what the route or label
// leads to now, serving or draining, and updates its position.
func (w *Worker) keeps(p *pkt, e *flow.Entry) bool {
	hop, ok := root(w.tables, p)
	if !ok || e.Member() < 0 {
		return false
	}
	id, ok := w.tables.NH(hop.NH).Listener(e.Proto, e.Dport)
	if !ok {
		return false
	}
	pos := entry.Position(w.tables.NH(id).Members, e)
	if pos < 0 || !w.stillMapped(e) {
		return false
	}
	e.LabelECMP = flow.PackLabelECMP(e.Label(), pos)
	w.approve(e, hop.NH)
	return true
}

// stillMapped says that a local backend's port map translates as it did.
func (w *Worker) stillMapped(e *flow.Entry) bool {
	nh := w.tables.NH(table.NextHopID(e.NH))
	if nh.Type != table.NHEncap {
		return nh.Type != table.NHDiscard
	}
	fixed, target, ok := w.tables.PortMap(nh.Vif, e.Dst, e.Proto, e.Dport)
	return ok && fixed == e.NatDst && target == e.NatDport
}

// reroute finds the way back of a reverse entry again: to the interface it came
// from, or by the same tunnel if that still leads there, or else by another.
func (w *Worker) reroute(p *pkt, slot uint32, e *flow.Entry) bool {
	t := w.tables
	nh := t.NH(table.NextHopID(e.NH))
	switch v := t.Vif(nh.Vif); nh.Type {
	case table.NHEncap, table.NHHost:
		if nh.Type == table.NHHost || v != nil && v.Owns(e.NatDst) {
			w.approve(e, table.NextHopID(e.Scope))
			return true
		}
	default:
		r, why := way.Behind(t, table.VRFID(e.VRF), e.NatDst, packet.AddrFrom(nh.Dip))
		if why != reason.None {
			r, why = way.Behind(t, table.VRFID(e.VRF), e.NatDst, packet.Addr{})
		}
		if why == reason.None {
			e.NH, e.LabelECMP = uint32(r.NH), flow.PackLabelECMP(r.Push, -1)
			w.approve(e, r.Scope)
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
	in := &p.info
	k := flow.Key{KeyNH: uint32(p.keyNH), Tuple: in.Inner.Reverse()}
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
	e.Packets++
	e.Bytes += uint64(in.Len)
	w.obey(p, e)
	p.rewrite = false
	if e.NAT != 0 {
		packet.RewriteInner(p.data(), in, p.to.Reverse())
		outer := in.Tuple
		if outer.Src == e.Src {
			outer.Src = e.NatSrc
		}
		outer.Dst = e.NatDst
		packet.Rewrite(p.data(), in, outer)
	}
	p.to = in.Tuple
}
