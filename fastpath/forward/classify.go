package forward

import (
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// tunnelPort is the UDP port of MPLS over UDP (RFC 7510).
const tunnelPort = 6635

// classify names the vif, the VRF and the key next hop of every live packet, and
// answers ARP and neighbour discovery.
//
//	reads:  chunk, off, end, total
//	writes: vif, fabric, peer, label, vrf, keyNH, info
//	drops:  DropUnknownVif … DropTunnelFromPod, DropInvalid…
func (w *Worker) classify() {
	for i := 0; i < w.n; i++ {
		p := &w.batch[i]
		if !p.live {
			continue
		}
		r := examine(w.tables, p)
		w.countReceived(p)
		switch {
		case r != none:
			w.drop(p, r)
		case p.ask == askARP:
			w.answerARP(p)
		case p.ask == askND:
			w.answerND(p)
		}
	}
}

// ask says that a packet asks the router itself.
type ask uint8

const (
	askNothing ask = iota
	askARP
	askND
)

// examine classifies one packet. It reads the tables and writes only p; a trace
// calls it as a packet does.
func examine(t *table.Tables, p *pkt) Reason {
	id, ok := fromVif(p)
	if !ok {
		return DropInvalidFrame
	}
	if p.vif = t.Vif(id); p.vif == nil {
		return DropUnknownVif
	}
	if p.vif.Kind == table.VifFabric {
		return fromFabric(t, p)
	}
	return fromNode(t, p)
}

func (w *Worker) countReceived(p *pkt) {
	if p.handed || p.vif == nil {
		return
	}
	c := w.count.vif(p.vif.ID)
	c.RxPackets++
	c.RxBytes += uint64(p.total)
	w.count.RxPackets++
	w.count.RxBytes += uint64(p.total)
}

// fromNode takes a packet from a pod or the host.
func fromNode(t *table.Tables, p *pkt) Reason {
	b := p.data()
	l3 := p.off + ethLen
	switch uint16(b[l3-2])<<8 | uint16(b[l3-1]) {
	case etherIPv4, etherIPv6:
	case etherARP:
		p.ask = askARP
		return none
	default:
		return DropInvalidProtocol
	}
	if r := fault(packet.ParseIP(b, l3, p.total-ethLen, &p.info)); r != none {
		return r
	}
	p.vrf, p.keyNH = p.vif.VRF, p.vif.NH
	if p.info.ND != 0 {
		p.ask = askND
		return none
	}
	if p.vif.Kind == table.VifVirtual && !p.vif.Owns(p.info.Tuple.Src) {
		return DropInvalidSource
	}
	if p.info.Multicast {
		return DropMulticast
	}
	if p.vif.Kind == table.VifVirtual && p.info.Tuple.Proto == packet.ProtoUDP && p.info.Tuple.Dport == tunnelPort &&
		t.Underlay(p.info.Tuple.Dst) {
		return DropTunnelFromPod
	}
	p.ports()
	return none
}

// fromFabric takes the packet out of its tunnel (RFC 7510) and finds what its
// label means here. Keys of flows are formed from what the label resolves to: the
// local vif the packet is for, so that both directions of a flow agree.
func fromFabric(t *table.Tables, p *pkt) Reason {
	p.fabric = true
	var outer packet.Tunnel
	b := p.data()
	if packet.ParseTunnel(b[p.off:], p.total, &outer) != packet.FaultNone {
		return DropInvalidTunnel
	}
	if p.peer = outer.Src; !t.Peer(outer.Src) {
		return DropUnknownPeer
	}
	id, ok := t.Label(table.Label(outer.Label))
	if !ok {
		return DropInvalidLabel
	}
	l3 := p.off + outer.Inner
	if r := fault(packet.ParseIP(b, l3, outer.Len, &p.info)); r != none {
		return r
	}
	if p.info.Multicast {
		return DropMulticast
	}
	nh := t.NH(id)
	p.ports()
	p.label, p.keyNH = id, id
	switch nh.Type {
	case table.NHVRFTranslate:
		p.vrf = nh.VRF
		return fromVRFLabel(t, p)
	case table.NHEncap, table.NHHost:
		p.vrf = t.Vif(nh.Vif).VRF
	case table.NHComposite, table.NHService:
		p.vrf = nh.VRF
	default:
		return DropInvalidLabel
	}
	return none
}

// fromVRFLabel looks the destination up: a VRF label says only the VRF.
func fromVRFLabel(t *table.Tables, p *pkt) Reason {
	hop, ok := t.Lookup(p.vrf, p.info.Tuple.Dst)
	if !ok {
		return none // decide answers: no route
	}
	switch nh := t.NH(hop.NH); nh.Type {
	case table.NHTunnel, table.NHResolve:
		return DropPacketLoop
	case table.NHEncap, table.NHHost, table.NHComposite, table.NHService:
		p.keyNH = hop.NH
	}
	return none
}

// fault translates what packet found wrong.
func fault(f packet.Fault) Reason {
	switch f {
	case packet.FaultNone:
		return none
	case packet.FaultChecksum:
		return DropChecksum
	case packet.FaultSource:
		return DropInvalidSource
	default:
		return DropInvalidPacket
	}
}

// answerARP answers every request for an address that is not the sender's own:
// in a routed network everything is behind the router (Contrail's proxy ARP).
func (w *Worker) answerARP(p *pkt) {
	b := p.data()
	arp, f := packet.ParseARP(b, p.off+ethLen)
	if f != packet.FaultNone || arp.Op != 1 || arp.SenderIP == arp.TargetIP ||
		p.vif.Kind == table.VifVirtual && !p.vif.Owns(packet.AddrFrom4(arp.SenderIP[:])) {
		w.drop(p, DropInvalidARP)
		return
	}
	packet.PutARPReply(b[p.off:], table.RouterMAC)
	w.freeTails(p)
	p.info.L3, p.end = p.off+ethLen, p.off+arpFrame
	w.deliver(p, p.vif, etherARP)
}

const arpFrame = ethLen + 28 // bytes: RFC 826 for IPv4 over Ethernet

// answerND answers neighbour solicitations (RFC 4861) as answerARP does. A pod
// solicits from its own or its link-local address; from none, it asks whether
// another has its address (RFC 4862), and silence is the answer.
func (w *Worker) answerND(p *pkt) {
	target, _, _, f := packet.ParseNS(p.data(), &p.info)
	src := p.info.Tuple.Src
	if f != packet.FaultNone || src.IsUnspecified() || p.vif.Owns(target) ||
		p.vif.Kind == table.VifVirtual && !p.vif.Owns(src) && !src.IsLinkLocal() {
		w.drop(p, DropInvalidND)
		return
	}
	n := packet.PutNA(w.answer[:], target, src, table.RouterMAC)
	w.replace(p, n)
	w.deliver(p, p.vif, etherIPv6)
}
