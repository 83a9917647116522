package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// track finds the flow of every live packet, or settles a new one, and names the
// next hop and the tuple the packet leaves with.
//
//	reads:  keyNH, info, tables, flows
//	writes: to, nh, push, rewrite; flows
//	drops:  DropNoRoute … DropNATPorts; refusals are answered
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
			w.refuse(p, DropTTLExpired)
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
	if r := w.decide.reason; r != none {
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

// obey copies the entry's decision into the packet.
func (w *Worker) obey(p *pkt, e *flow.Entry) {
	p.nh = w.tables.NH(table.NextHopID(e.NH))
	p.push = e.Label()
	p.rewrite = e.NAT != 0
	p.to = packet.Tuple{Src: e.NatSrc, Dst: e.NatDst, Sport: e.NatSport, Dport: e.NatDport, Proto: e.Proto}
}

// current says that e still holds: the next hop it was decided under has not
// changed since. A stale forward entry is decided again and keeps its backend
// while that serves; a stale reverse entry only finds its way back again. When it
// returns false, e is gone, and p too if it was refused.
func (w *Worker) current(p *pkt, slot uint32, e *flow.Entry) bool {
	gen := w.tables.NH(table.NextHopID(e.Scope)).Gen
	if gen == e.Gen {
		return true
	}
	if e.Flags&flow.FlagForward == 0 {
		return w.reroute(p, slot, e)
	}
	d := &w.decide
	if w.keeps(p, e) {
		e.Gen = gen
		return true
	}
	decide(w.tables, p, d)
	switch {
	case d.reason != none:
		w.removePair(slot, e)
		w.refuse(p, d.reason)
		return false
	case d.ecmp < 0 && d.to == e.Translated() && e.Member() < 0:
		e.NH, e.Scope, e.Gen = uint32(d.nh), uint32(d.scope), w.tables.NH(d.scope).Gen
		e.LabelECMP = flow.PackLabelECMP(d.push, -1)
		return true
	case e.Proto == packet.ProtoTCP && p.info.TCPFlags&tcpSYN == 0 && e.Member() >= 0:
		w.removePair(slot, e)
		w.refuse(p, DropBackendRemoved)
		return false
	}
	w.removePair(slot, e)
	return false // decided afresh: UDP and new connections find another backend
}

// keeps says that the backend e is pinned to is still a member of its service,
// serving or draining, and updates its position.
func (w *Worker) keeps(p *pkt, e *flow.Entry) bool {
	if e.Member() < 0 {
		return false
	}
	t := w.tables
	nh := t.NH(table.NextHopID(e.Scope))
	if nh.Type == table.NHService {
		id, ok := nh.Listener(p.info.Tuple.Proto, p.info.Tuple.Dport)
		if !ok {
			return false
		}
		nh = t.NH(id)
	}
	if nh.Type != table.NHComposite {
		return false
	}
	pos := position(nh.Members, e)
	if pos < 0 || !w.stillMapped(e) {
		return false
	}
	e.LabelECMP = flow.PackLabelECMP(e.Label(), pos)
	return true
}

// position finds the member e is pinned to, first where it was: the next hop and
// label name a VMI; a backend that is no VMI is named by its address.
func position(members []table.Member, e *flow.Entry) int {
	if i := e.Member(); i >= 0 && i < len(members) && pinned(&members[i], e) {
		return i
	}
	for i := range members {
		if pinned(&members[i], e) {
			return i
		}
	}
	return -1
}

func pinned(m *table.Member, e *flow.Entry) bool {
	if uint32(m.NH) != e.NH || m.Label != e.Label() || m.NH == 0 {
		return false
	}
	return !m.DNAT.IsValid() || packet.AddrFrom(m.DNAT.Addr()) == e.NatDst && m.DNAT.Port() == e.NatDport
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

// reroute finds the way back of a reverse entry again.
func (w *Worker) reroute(p *pkt, slot uint32, e *flow.Entry) bool {
	t := w.tables
	switch nh := t.NH(table.NextHopID(e.NH)); nh.Type {
	case table.NHEncap, table.NHHost:
		if v := t.Vif(nh.Vif); v != nil && (nh.Type == table.NHHost || v.Owns(e.NatDst)) {
			e.Gen = t.NH(table.NextHopID(e.Scope)).Gen
			return true
		}
	default:
		hop, ok := t.Lookup(table.VRFID(e.VRF), e.NatDst)
		if nh := t.NH(hop.NH); ok && nh.Type == table.NHTunnel {
			e.NH, e.Scope, e.Gen = uint32(hop.NH), uint32(hop.NH), nh.Gen
			e.LabelECMP = flow.PackLabelECMP(hop.Label, -1)
			return true
		}
	}
	w.removePair(slot, e)
	w.refuse(p, DropNoFlow)
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
		w.drop(p, DropICMPNoFlow)
		return
	}
	if in.TTL <= 1 {
		w.drop(p, DropTTLExpired)
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
