package forward

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// TraceResult is what would happen to a packet.
type TraceResult struct {
	Steps   []Step
	Verdict string // delivered, forwarded, dropped, answered
	Reason  string // of a drop
}

// Step is one stage's decision.
type Step struct{ Stage, Text string }

// Trace says what the live tables and flows would do with an Ethernet frame, and
// why, without sending or remembering anything. The stages it calls are the ones
// that decide packets.
func (s *Shared) Trace(frame []byte) TraceResult {
	probe := tracer{p: &pkt{parcel: parcel{end: len(frame), total: len(frame)}, chunk: frame, live: true}}
	w := s.workers[0]
	w.Do(func() {
		if examine(w.view.Tables, probe.p) == reason.None {
			w = s.workers[w.ownerOf(probe.p)]
		}
	})
	w.Do(func() { probe.run(w) })
	return probe.out
}

// tracer writes down what each stage decides.
type tracer struct {
	p   *pkt
	t   *table.Tables
	out TraceResult
}

func (r *tracer) say(stage, format string, args ...any) {
	r.out.Steps = append(r.out.Steps, Step{stage, fmt.Sprintf(format, args...)})
}

func (r *tracer) drop(stage string, why Reason) {
	text := reason.All()[why]
	r.say(stage, "%s: %s", text.Name, text.Sentence)
	r.out.Verdict, r.out.Reason = "dropped", text.Name
}

func (r *tracer) run(w *Worker) {
	p := r.p
	r.t = w.view.Tables
	*p = pkt{parcel: p.parcel, chunk: p.chunk, live: true}
	if why := examine(r.t, p); why != reason.None {
		r.drop("classify", why)
		return
	}
	if r.classified(w); p.ask != askNothing {
		r.out.Verdict = "answered"
		return
	}
	if p.Info.TTL <= 1 {
		r.drop("ttl", reason.TTLExpired)
		return
	}
	k := flow.Key{KeyNH: uint32(p.KeyNH), Tuple: p.Info.Tuple}
	if p.Info.ICMPError {
		k.Tuple = p.Info.Inner.Reverse()
	}
	if slot, ok := w.flows.Lookup(&k); ok {
		r.known(w, slot)
		return
	}
	if p.Info.ICMPError {
		r.drop("flow", reason.ICMPNoFlow)
		return
	}
	r.say("flow", "no entry for %s with key next hop %d: this is the first packet", k.Tuple, k.KeyNH)
	r.decide(w, w.view.First)
}

func (r *tracer) classified(w *Worker) {
	p := r.p
	switch {
	case p.ask == askARP:
		r.say("classify", "ARP from vif %d (%s): answered with %s", p.Vif.ID, p.Vif.Name, table.RouterMAC)
		return
	case p.ask == askND:
		r.say("classify", "neighbour solicitation from vif %d (%s): answered with %s", p.Vif.ID, p.Vif.Name, table.RouterMAC)
		return
	case p.Fabric:
		r.say("parse", "tunnel packet from %s, label leads to next hop %d (%s)", p.Peer, p.Label, r.t.NH(p.Label).Type)
	}
	r.say("parse", "%s, %d bytes, ttl %d", p.Info.Tuple, p.Info.Len, p.Info.TTL)
	r.say("classify", "vif %d (%s), VRF %d (%s), key next hop %d", p.Vif.ID, p.Vif.Name, p.VRF, r.vrfName(), p.KeyNH)
	r.say("owner", "worker %d of %d, by the symmetric hash of the tuple", w.ownerOf(p), w.workers)
}

func (r *tracer) vrfName() string {
	if v := r.t.VRF(r.p.VRF); v != nil {
		return v.Name
	}
	return "unknown"
}

// known follows an existing entry. A stale one would be decided again.
func (r *tracer) known(w *Worker, slot uint32) {
	e := w.flows.Record(slot)
	action := e.Action.String()
	if e.NAT != 0 {
		action += "(" + e.NAT.String() + ")"
	}
	if e.Proto == packet.ProtoTCP {
		action += ", TCP " + e.TCP.String()
	}
	r.say("flow", "entry %d, action %s, %d packets", flow.Index(w.id, slot), action, e.Packets)
	if gen := r.t.NH(table.NextHopID(e.Scope)).Gen; gen != e.Gen {
		r.say("flow", "it was decided under next hop %d, which has changed since: decided again", e.Scope)
		if e.Flags&flow.FlagForward != 0 {
			r.decide(w, w.view.Flow)
			return
		}
	}
	to := e.Translated()
	r.send(w, &to, table.NextHopID(e.NH), e.Label())
}

// decide follows a decision: of a packet without an entry, or of one whose entry is stale.
func (r *tracer) decide(w *Worker, settle func(*decide.Packet, *decide.Decision)) {
	var d decide.Decision
	settle(&r.p.Packet, &d)
	r.route(&d)
	if d.Reason != reason.None {
		r.drop("decide", d.Reason)
		return
	}
	if d.ECMP >= 0 {
		r.member(&d)
	}
	r.send(w, &d.To, d.NH, d.Push)
	to := d.To
	r.say("reverse", "replies %s are received with key next hop %d and go back by next hop %d (%s); their entry is worker %d's",
		to.Reverse(), d.KeyNH, d.Back.NH, r.t.NH(d.Back.NH).Type, w.owner(&to))
}

// route says which route or label the decision began with.
func (r *tracer) route(d *decide.Decision) {
	if d.Scope == 0 {
		r.say("route", "no route to %s in VRF %d", r.p.Info.Tuple.Dst, r.p.VRF)
		return
	}
	hop, ok := r.t.Lookup(r.p.VRF, r.p.Info.Tuple.Dst)
	if ok && hop.NH == d.Scope {
		r.say("route", "%s is in a /%d of VRF %d: next hop %d (%s)%s", r.p.Info.Tuple.Dst, hop.Bits, r.p.VRF, d.Scope, r.t.NH(d.Scope).Type, flags(hop))
		return
	}
	r.say("label", "next hop %d (%s)", d.Scope, r.t.NH(d.Scope).Type)
}

// flags says what is special about a route.
func flags(h table.Hop) (s string) {
	if h.Has(table.ReplyOnly) {
		s += ", for replies and the host only"
	}
	if h.Has(table.Translate) {
		s += ", left with the cluster address"
	}
	return s
}

// member names the chosen member.
func (r *tracer) member(d *decide.Decision) {
	nh := r.t.NH(d.Composite)
	m := nh.Members[d.ECMP]
	r.say("ecmp", "member %d of composite %d: %s, next hop %d, label %d", d.ECMP, d.Composite, m.Name, m.NH, m.Label)
	if nh.Affinity > 0 {
		r.say("ecmp", "the client's flows go there until none has begun for %d seconds", nh.Affinity)
	}
}

// send says how the packet leaves.
func (r *tracer) send(w *Worker, to *packet.Tuple, id table.NextHopID, push table.Label) {
	if letters := entry.Letters(&r.p.Info.Tuple, to); letters != 0 && !r.p.Info.ICMPError {
		r.say("nat", "%s: becomes %s", letters, *to)
	}
	nh := r.t.NH(id)
	if mtu := w.mtu(nh); r.p.Info.Len > mtu && (r.p.Info.DF || r.p.Info.V6) {
		r.drop("mtu", reason.TooBig)
		return
	} else if r.p.Info.Len > mtu {
		r.say("mtu", "larger than %d bytes: fragmented", mtu)
	}
	switch nh.Type {
	case table.NHTunnel:
		r.say("next hop", "%d: tunnel MPLSoUDP %s to %s, label %d, underlay neighbour %s", id, nh.Sip, nh.Dip, push, nh.DstMAC)
		r.out.Verdict = "forwarded"
	case table.NHHost:
		r.say("next hop", "%d: host, vif %d", id, nh.Vif)
		r.out.Verdict = "punted"
	case table.NHEncap:
		r.say("next hop", "%d: encap, vif %d (%s)", id, nh.Vif, r.t.Vif(nh.Vif).Name)
		r.out.Verdict = "delivered"
	default:
		r.drop("next hop", reason.NoRoute)
	}
}
