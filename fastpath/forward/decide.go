package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
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
	vrf   table.VRFID

	// Reverse direction: what a reply is received as, and how it goes back.
	keyNH   table.NextHopID
	backNH  table.NextHopID
	backTag table.Label
	hairpin bool
}

// maxChain bounds the next hops of one decision: translate, service, composite, end.
const maxChain = 4

// decide settles the flow of p: route, service, member, NAT, and the way back. It
// reads p and the tables, and writes only d; a trace calls it as a packet does.
func decide(t *table.Tables, p *pkt, d *decision) {
	*d = decision{to: p.info.Tuple, ecmp: -1, vrf: p.vrf}
	if p.info.Tuple.Dst.IsLinkLocal() {
		d.reason = DropNoRoute
		return
	}
	id := p.label
	if nh := t.NH(id); !p.fabric || nh.Type == table.NHVRFTranslate {
		hop, ok := t.Lookup(p.vrf, p.info.Tuple.Dst)
		if !ok {
			d.reason = DropNoRoute
			return
		}
		id, d.push = hop.NH, hop.Label
	}
	d.scope = id
	if d.reason = follow(t, p, d, id); d.reason != none {
		return
	}
	if d.reason = translate(t, p, d); d.reason != none {
		return
	}
	d.reason = wayBack(t, p, d)
}

// follow walks next hops until one that sends.
func follow(t *table.Tables, p *pkt, d *decision, id table.NextHopID) Reason {
	for range maxChain {
		nh := t.NH(id)
		switch nh.Type {
		case table.NHEncap, table.NHHost:
			d.nh = id
			return none
		case table.NHTunnel, table.NHResolve:
			d.nh = id
			if p.fabric {
				return DropPacketLoop
			}
			if !nh.Usable {
				return DropUnresolved
			}
			return none
		case table.NHVRFTranslate:
			hop, ok := t.Lookup(nh.VRF, d.to.Dst)
			if !ok {
				return DropNoRoute
			}
			d.vrf, id, d.push = nh.VRF, hop.NH, hop.Label
		case table.NHService:
			next, ok := nh.Listener(d.to.Proto, d.to.Dport)
			if !ok {
				return DropNoListener
			}
			id = next
		case table.NHComposite:
			m, r := choose(t, p, d, nh)
			if r != none {
				return r
			}
			id, d.push = m.NH, m.Label
		default:
			return DropNoRoute
		}
	}
	return DropPacketLoop
}

// choose picks the member of a composite by a consistent hash of the 5-tuple.
func choose(t *table.Tables, p *pkt, d *decision, nh *table.NH) (table.Member, Reason) {
	if nh.Port != 0 && (nh.Proto != d.to.Proto || nh.Port != d.to.Dport) {
		return table.Member{}, DropNoListener
	}
	hash := choiceHash(&p.info.Tuple)
	if p.fabric {
		d.ecmp = t.PickLocal(nh, hash)
	} else {
		d.ecmp = nh.Pick(hash)
	}
	if d.ecmp < 0 {
		return table.Member{}, DropNoBackend
	}
	m := nh.Members[d.ecmp]
	if m.DNAT.IsValid() {
		d.to.Dst, d.to.Dport = packet.AddrFrom(m.DNAT.Addr()), m.DNAT.Port()
	}
	return m, none
}

// choiceHash spreads flows over members. It is not seeded: every node and every
// restart chooses alike.
func choiceHash(t *packet.Tuple) uint64 {
	h := uint64(t.Hash())
	// The symmetric hash ignores which end is which; a choice need not.
	h ^= uint64(t.Sport)<<48 | uint64(t.Dport)<<32
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// translate applies the port map of the vif the packet is delivered to: what is
// still addressed to a floating IP becomes the pod's own (DNAT, DPAT). A pod that
// reaches itself sees the floating IP as the source, or it would answer itself.
func translate(t *table.Tables, p *pkt, d *decision) Reason {
	nh := t.NH(d.nh)
	if nh.Type != table.NHEncap {
		return none
	}
	v := t.Vif(nh.Vif)
	if v == nil {
		return DropNoRoute
	}
	if v.Owns(d.to.Dst) {
		return none
	}
	fixed, target, ok := t.PortMap(v.ID, d.to.Dst, d.to.Proto, d.to.Dport)
	if !ok {
		return DropNoPortMap
	}
	if d.to.Src == fixed {
		d.to.Src, d.hairpin = d.to.Dst, true
	}
	d.to.Dst, d.to.Dport = fixed, target
	return none
}

// wayBack settles how replies are received and sent.
func wayBack(t *table.Tables, p *pkt, d *decision) Reason {
	d.keyNH = d.nh
	if t.NH(d.nh).Type == table.NHTunnel {
		d.keyNH = p.keyNH
	}
	if !p.fabric {
		d.backNH = p.vif.NH
		return impostor(t, p)
	}
	hop, ok := t.Lookup(p.vrf, p.info.Tuple.Src)
	if !ok {
		return DropInvalidSource
	}
	switch nh := t.NH(hop.NH); nh.Type {
	case table.NHTunnel:
		if packet.AddrFrom(nh.Dip) != p.peer {
			return DropInvalidSource
		}
	case table.NHService, table.NHComposite:
		return DropNoFlow // a reply of a service whose flow is not here (any more)
	default:
		return DropInvalidSource
	}
	d.backNH, d.backTag = hop.NH, hop.Label
	return none
}

// impostor finds replies of a backend whose flow is not here: sent on as they are,
// with the pod's own address, they would break the client's connection.
func impostor(t *table.Tables, p *pkt) Reason {
	in := &p.info.Tuple
	switch {
	case in.Proto == packet.ProtoTCP && p.info.TCPFlags&(tcpSYN|tcpACK) == tcpSYN:
		return none
	case p.info.ICMPError, p.vif.Kind != table.VifVirtual:
		return none
	}
	if t.Target(p.vif.ID, in.Proto, in.Sport) {
		return DropNoFlow
	}
	return none
}

// natLetters compares the tuple before and after translation.
func natLetters(from, to *packet.Tuple) flow.NAT {
	var n flow.NAT
	if from.Src != to.Src {
		n |= flow.NATSource
	}
	if from.Sport != to.Sport {
		n |= flow.NATSport
	}
	if from.Dst != to.Dst {
		n |= flow.NATDest
	}
	if from.Dport != to.Dport {
		n |= flow.NATDport
	}
	return n
}
