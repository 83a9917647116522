package forward

import (
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/fragment"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
)

// own hands packets whose flow another worker owns to that worker. Steering in
// the kernel is best effort; this is the check that makes it true.
//
//	reads:  info, keyNH, handed, resolved
//	writes: info.Tuple (ports of fragments), resolved
//	drops:  reason.NoHead, reason.RingFull
func (w *Worker) own() {
	batch := w.batch[:w.n]
	for i := range batch {
		p := &batch[i]
		if !p.live || p.settled {
			continue
		}
		if p.Info.Frag != packet.FragNone && !p.resolved && !w.resolve(p) {
			continue
		}
		if to := w.ownerOf(p); to != w.id {
			w.handOver(p, to)
		}
	}
}

// ownerOf is the worker that keeps the flow of p.
func (w *Worker) ownerOf(p *pkt) int {
	switch {
	case w.workers == 1:
		return 0
	case p.Info.ICMPError:
		return w.owner(&p.Info.Inner)
	}
	return w.owner(&p.Info.Tuple)
}

// resolve finds the ports of a fragment. All fragments of a packet meet at the
// owner of their 3-tuple, where the head leaves its ports for the tails; from
// there they go to the owner of the flow. It reports whether p goes on here.
func (w *Worker) resolve(p *pkt) bool {
	three := p.Info.Tuple
	three.Sport, three.Dport = 0, 0
	if to := w.owner(&three); to != w.id {
		w.handOver(p, to)
		return false
	}
	p.resolved = true
	k := fragment.Key{Src: three.Src, Dst: three.Dst, ID: p.Info.FragID, KeyNH: p.KeyNH, Proto: three.Proto}
	if p.Info.Frag == packet.FragHead {
		w.frags.Put(&k, p.Info.Tuple.Sport, p.Info.Tuple.Dport, w.now)
		return true
	}
	sport, dport, ok := w.frags.Get(&k, w.now, fragTimeout)
	if !ok {
		w.drop(p, reason.NoHead)
		return false
	}
	p.Info.Tuple.Sport, p.Info.Tuple.Dport = sport, dport
	return true
}

// fragTimeout is how long a fragment may follow another, in ticks: as Contrail.
const fragTimeout = 2 * entry.Second
