package forward

import (
	"encoding/binary"

	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// replyAt is where the IP packet of an answer or fragment begins in its buffer:
// behind room for the kernel's headroom and for our outer headers.
const replyAt = 256 + 64 // bytes

// emit rewrites every live packet and queues it for the kernel.
//
//	reads:  to, nh, push, rewrite, info
//	writes: packet bytes
//	drops:  reason.TooBig (answered), reason.Unresolved, reason.NoRoute, reason.NoBuffer
func (w *Worker) emit() {
	batch := w.batch[:w.n]
	for i := range batch {
		if p := &batch[i]; p.live {
			w.emitOne(p)
		}
	}
}

func (w *Worker) emitOne(p *pkt) {
	if p.offload != 0 {
		w.emitWhole(p)
		return
	}
	mtu := p.nh.Fits
	if p.Info.Len > mtu && (p.Info.DF || p.Info.V6) && !p.answer {
		w.tooBig(p, mtu)
		if !p.live {
			return
		}
		mtu = p.nh.Fits
	}
	if !p.answer && !w.rewriteOne(p, mtu) {
		return
	}
	w.fit(p, mtu)
}

// fit pushes p, in fragments where it must be.
func (w *Worker) fit(p *pkt, mtu int) {
	switch {
	case p.Info.Len <= mtu:
		w.push(p)
	case p.Info.V6: // our own answer, on a link below what IPv6 asks of one (RFC 8200, 5)
		w.drop(p, reason.TooBig)
	default:
		w.fragment(p, mtu)
	}
}

// rewriteOne translates p and counts the hop. It reports whether p goes on.
func (w *Worker) rewriteOne(p *pkt, mtu int) bool {
	if p.rewrite && p.Info.Frag != packet.FragNone && p.Info.Tuple.Proto == packet.ProtoSCTP &&
		(p.to.Sport != p.Info.Tuple.Sport || p.to.Dport != p.Info.Tuple.Dport) {
		w.drop(p, reason.SCTPFragment)
		return false
	}
	b := p.data()
	if p.rewrite && packet.Rewrite(b, &p.Info, &p.to) {
		w.sctpChecksum(p)
	}
	if p.Info.TCPFlags&packet.SYN != 0 && p.Info.Tuple.Proto == packet.ProtoTCP {
		packet.ClampMSS(b, &p.Info, mtu)
	}
	packet.DecTTL(b, &p.Info)
	return true
}

// sctpChecksum redoes CRC32c over the whole packet (RFC 9260, 6.8).
func (w *Worker) sctpChecksum(p *pkt) {
	w.trim(p)
	var b [maxChunks - 1][]byte
	packet.PutSCTPChecksum(p.data(), p.Info.L4, w.tails(p, &b)...)
}

// push sends p by its next hop, wrapped for it. Every sent packet comes here.
func (w *Worker) push(p *pkt) {
	w.trim(p)
	switch p.nh.Out {
	case table.OutVif:
		if d := w.door(p.nh.To.ID); d.joins && !p.answer {
			d.train.Add(p.data(), &p.Info)
		}
		w.deliver(p, p.nh.To, etherType(p))
	case table.OutTunnel:
		w.pushTunnel(p)
	default:
		w.drop(p, reason.NoRoute)
	}
}

// pushTunnel wraps p in MPLS over UDP (RFC 7510). The outer source port carries
// the flow's hash, alike for both directions, so that the underlay can spread flows.
func (w *Worker) pushTunnel(p *pkt) {
	if p.nh.To == nil || !p.nh.Usable {
		w.drop(p, reason.Unresolved)
		return
	}
	l3 := p.Info.L3 - packet.TunnelLen
	var o packet.Outer // of a literal, a copy is made
	o.Src, o.Dst = p.nh.Src4, p.nh.Dst4
	o.Sport, o.Label = packet.EntropyPort(p.Info.Tuple.Hash()), uint32(p.push)
	packet.PutTunnel(p.chunk[l3:], &o, p.Info.Len)
	p.off = l3 - packet.EthernetLen
	w.queue(p, p.nh.To, &p.nh.DstMAC, packet.TypeIPv4)
}

// deliver sends p to a pod or the host.
func (w *Worker) deliver(p *pkt, v *table.VifEntry, etherType uint16) {
	p.off = p.Info.L3 - packet.EthernetLen
	w.queue(p, v, &v.MAC, etherType)
}

func etherType(p *pkt) uint16 {
	if p.Info.V6 {
		return packet.TypeIPv6
	}
	return packet.TypeIPv4
}

// queue puts the Ethernet header in front of p, which is for the station to, and its
// descriptors where v's frames leave.
func (w *Worker) queue(p *pkt, v *table.VifEntry, to *table.MAC, etherType uint16) {
	d := w.door(v.ID)
	h := (*[packet.EthernetLen]byte)(p.chunk[p.off:])
	*(*table.MAC)(h[:6]) = *to
	d.putSource((*table.MAC)(h[6:12]), v)
	if p.mark.Slot != 0 && d == &w.doors[0] {
		*(*table.MAC)(h[6:12]) = w.admit.Down(p.mark, v.ID)
	}
	binary.BigEndian.PutUint16(h[12:], etherType)
	if d.n+1+p.tails > len(d.tx) {
		w.transmit(d)
	}
	size := p.end - p.off
	d.tx[d.n] = frame.Desc{Addr: p.addr + uint64(p.off), Len: uint32(size), Options: p.offload.Options()}
	for _, t := range p.tail[:p.tails] {
		d.tx[d.n].Options |= frame.Contd
		d.n++
		d.tx[d.n] = frame.Desc{Addr: t.Addr, Len: t.Len}
		size += int(t.Len)
	}
	d.n++
	p.live = false
	w.count.sent(v.ID, 1, size)
}

// fragment cuts an IPv4 packet (RFC 791, 3.2) to at most mtu bytes each.
func (w *Worker) fragment(p *pkt, mtu int) {
	b := p.data()
	hl := int(b[p.Info.L3]&0x0f) * 4
	header := b[p.Info.L3 : p.Info.L3+hl]
	payload := w.flatten(p)[hl:]
	step := packet.FragmentRoom(min(mtu, frame.ChunkSize-replyAt), hl)
	for off := 0; off < len(payload); off += step {
		end := min(off+step, len(payload))
		addr, ok := w.pool.Get()
		if !ok {
			w.drop(p, reason.NoBuffer)
			return
		}
		q := pkt{parcel: parcel{addr: addr}, chunk: w.mem.Chunk(addr), live: true, Packet: p.Packet, nh: p.nh, push: p.push}
		n := packet.PutFragment(q.chunk[replyAt:], header, payload[off:end], off, end < len(payload))
		q.Info.L3, q.Info.L4, q.Info.Len, q.end = replyAt, 0, n, replyAt+n
		w.push(&q)
		w.count.Fragments++
	}
	w.count.Fragments-- // p itself
	w.free(p)
}

// flatten copies the IP packet of p into one piece.
func (w *Worker) flatten(p *pkt) []byte {
	n := copy(w.gather[:], p.data()[p.Info.L3:])
	for _, t := range p.tail[:p.tails] {
		n += copy(w.gather[n:], w.mem.Bytes(t))
	}
	return w.gather[:min(n, p.Info.Len)]
}
