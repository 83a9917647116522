// Package told puts into words what becomes of a packet, stage by stage, for a trace.
// A Teller belongs to whoever traces and is told what the stages decided. It decides
// nothing.
package told

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Result is what would happen to a packet.
type Result struct {
	Steps   []Step
	Verdict string // delivered, forwarded, dropped, answered
	Reason  string // of a drop
}

// Step is one stage's decision.
type Step struct{ Stage, Text string }

// Teller writes down what each stage decides.
type Teller struct {
	P   *decide.Packet
	T   *table.Tables
	Out Result
}

// Say adds a step.
func (r *Teller) Say(stage, format string, args ...any) {
	r.Out.Steps = append(r.Out.Steps, Step{stage, fmt.Sprintf(format, args...)})
}

// Drop says that the packet ends here.
func (r *Teller) Drop(stage string, why reason.Reason) {
	text := reason.All()[why]
	r.Say(stage, "%s: %s", text.Name, text.Sentence)
	r.Out.Verdict, r.Out.Reason = "dropped", text.Name
}

// Asked says that the packet asks the router itself.
func (r *Teller) Asked(nd bool) {
	if r.Out.Verdict = "answered"; nd {
		r.Say("classify", "neighbour solicitation from vif %d (%s): answered with %s", r.P.Vif.ID, r.P.Vif.Name, table.RouterMAC)
		return
	}
	r.Say("classify", "ARP from vif %d (%s): answered with %s", r.P.Vif.ID, r.P.Vif.Name, table.RouterMAC)
}

// Classified says who sent the packet, and which of the workers has its flow.
func (r *Teller) Classified(worker, workers int) {
	p := r.P
	if p.Fabric {
		r.Say("parse", "tunnel packet from %s, label leads to next hop %d (%s)", p.Peer, p.Label, r.T.NH(p.Label).Type)
	}
	r.Say("parse", "%s, %d bytes, ttl %d", p.Info.Tuple, p.Info.Len, p.Info.TTL)
	r.Say("classify", "vif %d (%s), VRF %d (%s), key next hop %d", p.Vif.ID, p.Vif.Name, p.VRF, r.vrfName(), p.KeyNH)
	r.Say("owner", "worker %d of %d, by the symmetric hash of the tuple", worker, workers)
}

func (r *Teller) vrfName() string {
	if v := r.T.VRF(r.P.VRF); v != nil {
		return v.Name
	}
	return "unknown"
}

// Known says what entry the packet has. A stale one is decided again.
func (r *Teller) Known(index uint32, e *flow.Record) (stale bool) {
	action := e.Action.String()
	if e.NAT != 0 {
		action += "(" + e.NAT.String() + ")"
	}
	if e.Proto == packet.ProtoTCP {
		action += ", TCP " + e.TCP.String()
	}
	r.Say("flow", "entry %d, action %s, %d packets", index, action, e.Packets)
	if e.Flags&flow.FlagOffloaded != 0 {
		r.Say("flow", "offloaded: the kernel forwards what it can of it")
	}
	if stale = r.T.NH(table.NextHopID(e.Scope)).Gen != e.Gen; stale {
		r.Say("flow", "it was decided under next hop %d, which has changed since: decided again", e.Scope)
	}
	return stale
}

// Decided follows a decision; owner is the worker of the reverse entry.
func (r *Teller) Decided(d *decide.Decision, owner int) {
	r.route(d)
	if d.Reason != reason.None {
		r.Drop("decide", d.Reason)
		return
	}
	if d.ECMP >= 0 {
		r.member(d)
	}
	r.Send(&d.To, d.NH, d.Push)
	to := d.To
	r.Say("reverse", "replies %s are received with key next hop %d and go back by next hop %d (%s); their entry is worker %d's",
		to.Reverse(), d.KeyNH, d.Back.NH, r.T.NH(d.Back.NH).Type, owner)
}

// route says which route or label the decision began with.
func (r *Teller) route(d *decide.Decision) {
	if d.Scope == 0 {
		r.Say("route", "no route to %s in VRF %d", r.P.Info.Tuple.Dst, r.P.VRF)
		return
	}
	hop, ok := r.T.Lookup(r.P.VRF, r.P.Info.Tuple.Dst)
	if ok && hop.NH == d.Scope {
		r.Say("route", "%s is in a /%d of VRF %d: next hop %d (%s)%s", r.P.Info.Tuple.Dst, hop.Bits, r.P.VRF, d.Scope, r.T.NH(d.Scope).Type, flags(hop))
		return
	}
	r.Say("label", "next hop %d (%s)", d.Scope, r.T.NH(d.Scope).Type)
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
func (r *Teller) member(d *decide.Decision) {
	nh := r.T.NH(d.Composite)
	m := &nh.Members[d.ECMP]
	r.Say("ecmp", "member %d of composite %d: %s, next hop %d, label %d", d.ECMP, d.Composite, nh.MemberName(d.ECMP), m.NH, m.Label)
	if nh.Affinity > 0 {
		r.Say("ecmp", "the client's flows go there until none has begun for %d seconds", nh.Affinity)
	}
}

// Send says how the packet leaves.
func (r *Teller) Send(to *packet.Tuple, id table.NextHopID, push table.Label) {
	if letters := entry.Letters(&r.P.Info.Tuple, to); letters != 0 && !r.P.Info.ICMPError {
		r.Say("nat", "%s: becomes %s", letters, *to)
	}
	nh := r.T.NH(id)
	if mtu := nh.Fits; r.P.Info.Len > mtu && (r.P.Info.DF || r.P.Info.V6) {
		r.Drop("mtu", reason.TooBig)
		return
	} else if r.P.Info.Len > mtu {
		r.Say("mtu", "larger than %d bytes: fragmented", mtu)
	}
	switch nh.Type {
	case table.NHTunnel:
		r.Say("next hop", "%d: tunnel MPLSoUDP %s to %s, label %d, underlay neighbour %s", id, nh.Sip, nh.Dip, push, nh.DstMAC)
		r.Out.Verdict = "forwarded"
	case table.NHHost:
		r.Say("next hop", "%d: host, vif %d", id, nh.Vif)
		r.Out.Verdict = "punted"
	case table.NHEncap:
		r.Say("next hop", "%d: encap, vif %d (%s)", id, nh.Vif, r.T.Vif(nh.Vif).Name)
		r.Out.Verdict = "delivered"
	default:
		r.Drop("next hop", reason.NoRoute)
	}
}
