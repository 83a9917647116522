package forward

import (
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// classify names the vif, the VRF and the key next hop of every live packet, and
// answers ARP and neighbour discovery.
//
//	reads:  chunk, off, end, total
//	writes: vif, fabric, peer, label, vrf, keyNH, info
//	drops:  reason.UnknownVif … reason.TunnelFromPod, reason.Invalid…
func (w *Worker) classify() {
	batch := w.batch[:w.n]
	for i := range batch {
		p := &batch[i]
		if !p.live {
			continue
		}
		r := w.examine(p)
		if p.offload != 0 && r == reason.None {
			r = w.believe(p)
		}
		w.countReceived(p)
		switch {
		case r != reason.None:
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

// examine classifies one packet. It reads the tables and writes p; a trace
// calls it as a packet does.
func (w *Worker) examine(p *pkt) Reason {
	t := w.view.Tables
	id, ok := fromVif(p)
	if !ok {
		return reason.InvalidFrame
	}
	if p.Vif = t.Vif(id); p.Vif == nil {
		return reason.UnknownVif
	}
	if p.Vif.Fabric {
		return w.fromFabric(t, p)
	}
	return fromNode(t, p)
}

func (w *Worker) countReceived(p *pkt) {
	if p.handed || p.Vif == nil {
		return
	}
	c := w.count.vif(p.Vif.ID)
	c.RxPackets++
	c.RxBytes += uint64(p.total)
}

// fromNode takes a packet from a pod or the host.
func fromNode(t *table.Tables, p *pkt) Reason {
	b := p.data()
	l3 := p.off + packet.EthernetLen
	switch packet.EtherType(b[p.off:]) {
	case packet.TypeIPv4, packet.TypeIPv6:
	case packet.TypeARP:
		p.ask, p.Info = askARP, packet.Info{}
		return reason.None
	default:
		return reason.InvalidProtocol
	}
	if r := reason.Of(packet.ParseIP(b, l3, p.total-packet.EthernetLen, &p.Info)); r != reason.None {
		return r
	}
	p.VRF, p.KeyNH = p.Vif.VRF, p.Vif.NH
	if p.Info.ND != 0 {
		p.ask = askND
		return reason.None
	}
	if p.Info.Multicast { // before the source: a host's own MLD and router solicitations come from :: and fe80::
		return reason.Multicast
	}
	if p.Vif.Pod {
		if !p.Vif.Sends(&p.Info.Tuple.Src) {
			return reason.InvalidSource
		}
		if way.ToUnderlay(t, &p.Info.Tuple) {
			return reason.TunnelFromPod
		}
	}
	p.ports()
	return reason.None
}

// fromFabric takes the packet out of its tunnel (RFC 7510) and finds what its
// label means here. Keys of flows are formed from what the label resolves to: the
// local vif the packet is for, so that both directions of a flow agree.
func (w *Worker) fromFabric(t *table.Tables, p *pkt) Reason {
	p.Fabric = true
	var outer packet.Tunnel
	b := p.data()
	if packet.ParseTunnel(b[p.off:], p.total, &outer) != packet.FaultNone {
		return reason.InvalidTunnel
	}
	from := w.recent.Tunnel(t, w.views, &outer)
	if p.Peer = from.Peer; from.Refused != reason.None {
		return from.Refused
	}
	if r := reason.Of(packet.ParseIP(b, p.off+outer.Inner, outer.Len, &p.Info)); r != reason.None {
		return r
	}
	if p.Info.Multicast {
		return reason.Multicast
	}
	p.ports()
	p.VRF, p.Label, p.KeyNH = from.VRF, from.NH, from.NH
	if !from.ByRoute {
		return from.Dead
	}
	nh, r := w.recent.End(t, w.views, p.VRF, &p.Info.Tuple.Dst)
	if nh != 0 {
		p.KeyNH = nh
	}
	return r
}

// answerARP answers every request for an address that is not the sender's own:
// in a routed network everything is behind the router (Contrail's proxy ARP). Who
// asks from 0.0.0.0 whether another has its address (RFC 5227) hears nothing.
func (w *Worker) answerARP(p *pkt) {
	b := p.data()
	arp, f := packet.ParseARP(b, p.off+packet.EthernetLen)
	sender, target := packet.AddrFrom4(arp.SenderIP[:]), packet.AddrFrom4(arp.TargetIP[:])
	if f != packet.FaultNone || arp.Op != packet.ARPRequest || sender.IsUnspecified() || sender == target || p.Vif.Owns(target) ||
		p.Vif.Kind == table.VifVirtual && !p.Vif.Owns(sender) {
		w.drop(p, reason.InvalidARP)
		return
	}
	packet.PutARPReply(b[p.off:], table.RouterMAC)
	w.freeTails(p)
	p.Info.L3 = p.off + packet.EthernetLen
	p.end = p.Info.L3 + packet.ARPLen
	w.deliver(p, p.Vif, packet.TypeARP)
}

// answerND answers neighbour solicitations (RFC 4861) as answerARP does. A pod
// solicits from its own or its link-local address; from none, it asks whether
// another has its address (RFC 4862), and silence is the answer.
func (w *Worker) answerND(p *pkt) {
	target, _, _, f := packet.ParseNS(p.data(), &p.Info)
	src := p.Info.Tuple.Src
	if f != packet.FaultNone || src.IsUnspecified() || p.Vif.Owns(target) ||
		p.Vif.Kind == table.VifVirtual && !p.Vif.Owns(src) && !src.IsLinkLocal() {
		w.drop(p, reason.InvalidND)
		return
	}
	n := packet.PutNA(w.answer[:], target, src, table.RouterMAC)
	w.replace(p, n)
	w.deliver(p, p.Vif, packet.TypeIPv6)
}
