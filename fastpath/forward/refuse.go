package forward

import (
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// refuse ends p for a reason its sender is told, where there is a way to tell: an
// answer takes the packet's place in the batch, on its way back.
func (w *Worker) refuse(p *pkt, r Reason) {
	n := 0
	switch r {
	case reason.Isolated:
		if p.Info.Tuple.Proto == packet.ProtoTCP {
			n = w.reset(p)
			break
		}
		n = w.unreachable(p, packet.UnreachAdmin)
	case reason.NoListener, reason.NoBackend, reason.NoPortMap, reason.BackendRemoved:
		if p.Info.Tuple.Proto == packet.ProtoTCP {
			n = w.reset(p)
			break
		}
		n = w.unreachable(p, packet.UnreachPort)
	case reason.NoRoute, reason.PacketLoop, reason.NoClusterAddr:
		n = w.unreachable(p, packet.UnreachNet)
	case reason.TTLExpired:
		if packet.MayAnswer(&p.Info) {
			n = packet.TimeExceeded(w.answer[:], p.data(), &p.Info, w.router(p))
		}
	}
	w.reply(p, r, n)
}

func (w *Worker) reset(p *pkt) int {
	if p.Info.Frag == packet.FragTail {
		return 0
	}
	return packet.Reset(w.answer[:], p.data(), &p.Info)
}

func (w *Worker) unreachable(p *pkt, why packet.Unreach) int {
	if !packet.MayAnswer(&p.Info) {
		return 0
	}
	return packet.Unreachable(w.answer[:], p.data(), &p.Info, w.router(p), why)
}

// tooBig tells the sender the size that fits (RFC 1191, RFC 8201), as it sent the
// packet: before any translation.
func (w *Worker) tooBig(p *pkt, mtu int) {
	n := 0
	if packet.MayAnswer(&p.Info) {
		n = packet.FragNeeded(w.answer[:], p.data(), &p.Info, w.router(p), mtu)
	}
	w.reply(p, reason.TooBig, n)
}

// router is the address our ICMP errors come from. Those to the host come from its
// gateway: the VRF's address may be its own, and from that it believes nothing.
func (w *Worker) router(p *pkt) packet.Addr {
	v := w.view.VRF(p.VRF)
	host := p.Vif.Kind == table.VifHost
	switch {
	case p.Info.V6 && (host || v == nil):
		return packet.Addr{0: 0xfe, 1: 0x80, 15: 1}
	case p.Info.V6:
		return v.Router6
	case host || v == nil:
		return packet.Addr{10: 0xff, 11: 0xff, 12: 169, 13: 254, 14: 1, 15: 1}
	}
	return v.Router4
}

// reply counts the refused packet and sends the n bytes of w.answer back where it
// came from: to the vif, or through the tunnel its source is behind.
func (w *Worker) reply(p *pkt, r Reason, n int) {
	if n == 0 {
		w.drop(p, r)
		return
	}
	back := way.Back{NH: p.Vif.NH}
	if p.Fabric {
		var why Reason
		if back, why = way.Behind(w.view.Tables, p.VRF, p.Info.Tuple.Src, p.Peer); why != reason.None {
			w.drop(p, r)
			return
		}
	}
	w.count.drops[r]++
	w.count.vif(p.Vif.ID).Drops++
	w.count.Answers++
	w.replace(p, n)
	p.nh, p.push, p.rewrite = w.view.NH(back.NH), back.Push, false
}

// replace puts the first n bytes of w.answer in the place of p's packet.
func (w *Worker) replace(p *pkt, n int) {
	w.freeTails(p)
	copy(p.chunk[replyAt:], w.answer[:n])
	p.off, p.end, p.total = replyAt-packet.EthernetLen, replyAt+n, n+packet.EthernetLen
	packet.ParseIP(p.data(), replyAt, n, &p.Info)
	p.Info.L3, p.Info.Len = replyAt, n
	p.offload = 0
	p.answer = true
}
