package forward

import (
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// decision is what the first packet of a flow settles for all that follow.
type decision struct {
	// reason is not none when the packet is refused.
	reason Reason

	// Forward direction: where it goes and as what.
	to    packet.Tuple    // after NAT
	nh    table.NextHopID // encap, host or tunnel
	push  table.Label
	scope table.NextHopID // decided under: the next hop of the route or label
	ecmp  int             // chosen member, -1: none

	// Reverse direction: what a reply is received as, and how it goes back.
	keyNH   table.NextHopID
	back    way.Back
	hairpin bool
}

// maxChain bounds the next hops of one decision: service, composite, end.
const maxChain = 3

// decide settles the flow of p: route, service, member, NAT, and the way back. It
// reads p and the tables, and writes only d; a trace calls it as a packet does.
func decide(t *table.Tables, p *pkt, d *decision) {
	*d = decision{to: p.info.Tuple, ecmp: -1}
	hop, ok := root(t, p)
	if !ok || p.info.Tuple.Dst.IsLinkLocal() {
		d.reason = reason.NoRoute
		return
	}
	d.scope, d.push = hop.NH, hop.Label
	if d.reason = follow(t, p, d, hop.NH); d.reason != reason.None {
		return
	}
	if d.reason = translate(t, p, d); d.reason != reason.None {
		return
	}
	d.reason = wayBack(t, p, d)
}

// root finds what a decision begins with: the next hop of the label, or of the
// route in the VRF, or in the VRF which that leads to.
func root(t *table.Tables, p *pkt) (hop table.Hop, ok bool) {
	hop, ok = table.Hop{NH: p.label}, true
	if !p.fabric {
		hop, ok = t.Lookup(p.vrf, p.info.Tuple.Dst)
	}
	if nh := t.NH(hop.NH); ok && nh.Type == table.NHVRFTranslate {
		hop, ok = t.Lookup(nh.VRF, p.info.Tuple.Dst)
	}
	return hop, ok
}

// follow walks next hops until one that sends.
func follow(t *table.Tables, p *pkt, d *decision, id table.NextHopID) Reason {
	for range maxChain {
		nh := t.NH(id)
		switch nh.Type {
		case table.NHEncap, table.NHHost:
			d.nh = id
			return reason.None
		case table.NHTunnel, table.NHResolve:
			d.nh = id
			if p.fabric {
				return reason.PacketLoop
			}
			if !nh.Usable {
				return reason.Unresolved
			}
			return reason.None
		case table.NHService:
			next, ok := nh.Listener(d.to.Proto, d.to.Dport)
			if !ok {
				return reason.NoListener
			}
			id = next
		case table.NHComposite:
			m, r := choose(t, p, d, nh)
			if r != reason.None {
				return r
			}
			id, d.push = m.NH, m.Label
		default:
			return reason.NoRoute
		}
	}
	return reason.PacketLoop
}

// choose picks the member of a composite by a consistent hash of the 5-tuple.
func choose(t *table.Tables, p *pkt, d *decision, nh *table.NH) (table.Member, Reason) {
	if nh.Port != 0 && (nh.Proto != d.to.Proto || nh.Port != d.to.Dport) {
		return table.Member{}, reason.NoListener
	}
	hash := entry.ChoiceHash(&p.info.Tuple)
	if p.fabric {
		d.ecmp = t.PickLocal(nh, hash)
	} else {
		d.ecmp = nh.Pick(hash)
	}
	if d.ecmp < 0 {
		return table.Member{}, reason.NoBackend
	}
	m := nh.Members[d.ecmp]
	if m.DNAT.IsValid() {
		d.to.Dst, d.to.Dport = packet.AddrFrom(m.DNAT.Addr()), m.DNAT.Port()
	}
	return m, reason.None
}

// translate applies the port map of the vif the packet is delivered to: what is
// still addressed to a floating IP becomes the pod's own (DNAT, DPAT). A pod that
// reaches itself sees the floating IP as the source, or it would answer itself.
func translate(t *table.Tables, p *pkt, d *decision) Reason {
	nh := t.NH(d.nh)
	v := t.Vif(nh.Vif)
	switch {
	case nh.Type == table.NHHost && p.vif.Kind != table.VifHost && way.ToUnderlay(t, &d.to):
		return reason.TunnelFromPod // as a backend that somebody named
	case nh.Type == table.NHHost && v == p.vif:
		return turnBack(p, d)
	case nh.Type != table.NHEncap:
		return reason.None
	case v == nil:
		return reason.NoRoute
	case v.Owns(d.to.Dst):
		return reason.None
	}
	fixed, target, ok := t.PortMap(v.ID, d.to.Dst, d.to.Proto, d.to.Dport)
	if !ok {
		return reason.NoPortMap
	}
	if d.to.Src == fixed {
		d.to.Src, d.hairpin = d.to.Dst, true
	}
	d.to.Dst, d.to.Dport = fixed, target
	return reason.None
}

// turnBack is for what the host sends to a backend that is no VMI: it gets that
// back to send it on. The kernel takes nothing from its own address, and replies
// must come back here, so the source becomes the floating IP. What nothing
// translates would go round for ever.
func turnBack(p *pkt, d *decision) Reason {
	if d.to == p.info.Tuple {
		return reason.PacketLoop
	}
	d.to.Src, d.hairpin = p.info.Tuple.Dst, true
	return reason.None
}

// wayBack settles how replies are received and sent.
func wayBack(t *table.Tables, p *pkt, d *decision) (why Reason) {
	d.keyNH = d.nh
	if t.NH(d.nh).Type == table.NHTunnel {
		d.keyNH = p.keyNH
	}
	if p.fabric {
		d.back, why = way.Behind(t, p.vrf, p.info.Tuple.Src, p.peer)
		return why
	}
	d.back = way.Back{NH: p.vif.NH, Scope: p.vif.NH}
	return impostor(t, p)
}

// impostor finds TCP replies of a backend whose flow is not here: sent on as they
// are, with the pod's own address, they would break the client's connection. Other
// protocols do not tell a reply from a first packet, and a pod may send those from
// the port it serves.
func impostor(t *table.Tables, p *pkt) Reason {
	in := &p.info.Tuple
	if in.Proto != packet.ProtoTCP || p.vif.Kind != table.VifVirtual || p.info.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN {
		return reason.None
	}
	if t.Target(p.vif.ID, in.Proto, in.Sport) {
		return reason.NoFlow
	}
	return reason.None
}
