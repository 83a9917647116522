package forward

import (
	"github.com/vragent/vragent/fastpath/forward/card"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Pods on taps leave to us what they would leave to a network card. Their packets pass
// whole to other such pods; where they leave by a link that is no card, and so for
// everything into a tunnel, package card finishes them.

// believe holds what a card is asked against the packet's headers.
//
//	reads:  info, offload
//	writes: info.Partial, offload
//	drops:  reason.InvalidFrame
func (w *Worker) believe(p *pkt) Reason {
	var b [maxChunks - 1][]byte
	var ok bool
	if p.offload, ok = card.Believe(p.data(), p.off, w.tails(p, &b), p.offload, &p.Info); !ok {
		return reason.InvalidFrame
	}
	return reason.None
}

// emitWhole is emitOne for what a card was asked to finish. What counts against the
// MTU is the largest segment.
//
//	reads:  to, nh, push, rewrite, info, offload
//	writes: packet bytes
//	drops:  reason.TooBig (answered), reason.NoBuffer, reason.TooManyChunks
func (w *Worker) emitWhole(p *pkt) {
	mtu := p.nh.Fits
	size := card.Largest(p.data(), p.offload, &p.Info)
	if size > mtu && (p.Info.DF || p.Info.V6) {
		if w.tooBig(p, mtu); p.live {
			w.emitOne(p) // the answer, in p's place
		}
		return
	}
	switch {
	case !w.rewriteOne(p, mtu):
	case size <= mtu && w.toCard(p.nh):
		w.push(p)
	case p.offload.Size() == 0 && p.tails == 0: // nothing to cut
		w.trim(p)
		packet.PutChecksum(p.data(), &p.Info)
		p.offload, p.Info.Partial = 0, false
		w.fit(p, mtu)
	default:
		w.segment(p, mtu)
	}
}

// toCard says that nh's packets leave by a link that finishes them.
func (w *Worker) toCard(nh *table.NH) bool {
	return nh.Out == table.OutVif && w.door(nh.Vif).card
}

// segment pushes what p is cut into.
func (w *Worker) segment(p *pkt, mtu int) {
	w.trim(p)
	c, s := &w.cutter, &w.segmented
	c.Begin(p.data(), p.tail[:p.tails], p.offload, &p.Info)
	for c.More() {
		if w.pool.Len() < c.Chunks() {
			w.flush() // one packet fills 45 chunks; those of others come back
		}
		if r := c.Next(s); r != reason.None {
			w.drop(p, r)
			return
		}
		q := pkt{chunk: w.mem.Chunk(s.First.Addr), live: true, Packet: p.Packet, nh: p.nh, push: p.push}
		q.addr, q.tail, q.tails, q.Info = frame.Base(s.First.Addr), s.Tail, s.Tails, s.Info
		q.off, q.end = s.Info.L3-packet.EthernetLen, s.Info.L3+int(s.First.Len)
		w.fit(&q, mtu)
		w.count.Fragments++
	}
	w.count.Fragments-- // p itself
	w.free(p)
}
