package forward

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/flow"
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
		if examine(w.tables, probe.p) == reason.None {
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
	r.t = w.tables
	*p = pkt{parcel: p.parcel, chunk: p.chunk, live: true}
	if why := examine(r.t, p); why != reason.None {
		r.drop("classify", why)
		return
	}
	if r.classified(w); p.ask != askNothing {
		r.out.Verdict = "answered"
		return
	}
	if p.info.TTL <= 1 {
		r.drop("ttl", reason.TTLExpired)
		return
	}
	k := flow.Key{KeyNH: uint32(p.keyNH), Tuple: p.info.Tuple}
	if p.info.ICMPError {
		k.Tuple = p.info.Inner.Reverse()
	}
	if slot, ok := w.flows.Lookup(&k); ok {
		r.known(w, slot)
		return
	}
	if p.info.ICMPError {
		r.drop("flow", reason.ICMPNoFlow)
		return
	}
	r.say("flow", "no entry for %s with key next hop %d: this is the first packet", k.Tuple, k.KeyNH)
	r.decide(w)
}

func (r *tracer) classified(w *Worker) {
	p := r.p
	switch {
	case p.ask == askARP:
		r.say("classify", "ARP from vif %d (%s): answered with %s", p.vif.ID, p.vif.Name, table.RouterMAC)
		return
	case p.ask == askND:
		r.say("classify", "neighbour solicitation from vif %d (%s): answered with %s", p.vif.ID, p.vif.Name, table.RouterMAC)
		return
	case p.fabric:
		r.say("parse", "tunnel packet from %s, label leads to next hop %d (%s)", p.peer, p.label, r.t.NH(p.label).Type)
	}
	r.say("parse", "%s, %d bytes, ttl %d", p.info.Tuple, p.info.Len, p.info.TTL)
	r.say("classify", "vif %d (%s), VRF %d (%s), key next hop %d", p.vif.ID, p.vif.Name, p.vrf, r.vrfName(), p.keyNH)
	r.say("owner", "worker %d of %d, by the symmetric hash of the tuple", w.ownerOf(p), w.workers)
}

func (r *tracer) vrfName() string {
	if v := r.t.VRF(r.p.vrf); v != nil {
		return v.Name
	}
	return "unknown"
}

// known follows an existing entry. A stale one would be decided again.
func (r *tracer) known(w *Worker, slot uint32) {
	e := w.flows.Entry(slot)
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
			r.decide(w)
			return
		}
	}
	to := e.Translated()
	r.send(w, &to, table.NextHopID(e.NH), e.Label())
}

func (r *tracer) decide(w *Worker) {
	var d decision
	decide(r.t, r.p, &d)
	r.route(&d)
	if d.reason != reason.None {
		r.drop("decide", d.reason)
		return
	}
	if d.ecmp >= 0 {
		m := r.member(&d)
		r.say("ecmp", "member %d of the composite: %s", d.ecmp, m)
	}
	r.send(w, &d.to, d.nh, d.push)
	to := d.to
	r.say("reverse", "replies %s are received with key next hop %d and go back by next hop %d (%s); their entry is worker %d's",
		to.Reverse(), d.keyNH, d.back.NH, r.t.NH(d.back.NH).Type, w.owner(&to))
}

// route says which route or label the decision began with.
func (r *tracer) route(d *decision) {
	if d.scope == 0 {
		r.say("route", "no route to %s in VRF %d", r.p.info.Tuple.Dst, r.p.vrf)
		return
	}
	hop, ok := r.t.Lookup(r.p.vrf, r.p.info.Tuple.Dst)
	if ok && hop.NH == d.scope {
		r.say("route", "%s is in a /%d of VRF %d: next hop %d (%s)", r.p.info.Tuple.Dst, hop.Bits, r.p.vrf, d.scope, r.t.NH(d.scope).Type)
		return
	}
	r.say("label", "next hop %d (%s)", d.scope, r.t.NH(d.scope).Type)
}

// member names the chosen member.
func (r *tracer) member(d *decision) string {
	id, _ := r.t.NH(d.scope).Listener(r.p.info.Tuple.Proto, r.p.info.Tuple.Dport)
	m := r.t.NH(id).Members[d.ecmp]
	return fmt.Sprintf("%s, next hop %d, label %d", m.Name, m.NH, m.Label)
}

// send says how the packet leaves.
func (r *tracer) send(w *Worker, to *packet.Tuple, id table.NextHopID, push table.Label) {
	if letters := entry.Letters(&r.p.info.Tuple, to); letters != 0 && !r.p.info.ICMPError {
		r.say("nat", "%s: becomes %s", letters, *to)
	}
	nh := r.t.NH(id)
	if mtu := w.mtu(nh); r.p.info.Len > mtu && (r.p.info.DF || r.p.info.V6) {
		r.drop("mtu", reason.TooBig)
		return
	} else if r.p.info.Len > mtu {
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
