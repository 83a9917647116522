package forward

import (
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// own hands packets whose flow another worker owns to that worker. Steering in
// the kernel is best effort; this is the check that makes it true.
//
//	reads:  info, keyNH, handed, resolved
//	writes: info.Tuple (ports of fragments), resolved
//	drops:  DropNoHead, DropRingFull
func (w *Worker) own() {
	for i := 0; i < w.n; i++ {
		p := &w.batch[i]
		if !p.live || p.settled {
			continue
		}
		if p.info.Frag != packet.FragNone && !p.resolved && !w.resolve(p) {
			continue
		}
		if to := w.ownerOf(p); to != w.id {
			w.handOver(p, to)
		}
	}
}

// ownerOf is the worker that keeps the flow of p.
func (w *Worker) ownerOf(p *pkt) int {
	if p.info.ICMPError {
		return w.owner(&p.info.Inner)
	}
	return w.owner(&p.info.Tuple)
}

// resolve finds the ports of a fragment. All fragments of a packet meet at the
// owner of their 3-tuple, where the head leaves its ports for the tails; from
// there they go to the owner of the flow. It reports whether p goes on here.
func (w *Worker) resolve(p *pkt) bool {
	three := p.info.Tuple
	three.Sport, three.Dport = 0, 0
	if to := w.owner(&three); to != w.id {
		w.handOver(p, to)
		return false
	}
	p.resolved = true
	k := fragKey{three.Src, three.Dst, p.info.FragID, p.keyNH, three.Proto}
	if p.info.Frag == packet.FragHead {
		w.frags.put(&k, p.info.Tuple.Sport, p.info.Tuple.Dport, w.now)
		return true
	}
	sport, dport, ok := w.frags.get(&k, w.now)
	if !ok {
		w.drop(p, DropNoHead)
		return false
	}
	p.info.Tuple.Sport, p.info.Tuple.Dport = sport, dport
	return true
}

// fragments remembers the ports of fragmented packets: a direct-mapped cache; a
// newer packet takes the place of an older one (RFC 6864: ids live for a TTL).
type fragments struct {
	slots [fragSlots]fragSlot
}

const (
	fragSlots   = 2048
	fragTimeout = 2 * Second // ticks, as Contrail
)

type fragKey struct {
	src, dst packet.Addr
	id       uint32
	keyNH    table.NextHopID
	proto    uint8
}

type fragSlot struct {
	key          fragKey
	sport, dport uint16
	seen         uint32 // ticks
	used         bool
}

func (f *fragments) slot(k *fragKey) *fragSlot {
	t := packet.Tuple{Src: k.src, Dst: k.dst, Sport: uint16(k.id >> 16), Dport: uint16(k.id), Proto: k.proto}
	return &f.slots[t.Hash()%fragSlots]
}

func (f *fragments) put(k *fragKey, sport, dport uint16, now uint32) {
	*f.slot(k) = fragSlot{*k, sport, dport, now, true}
}

func (f *fragments) get(k *fragKey, now uint32) (sport, dport uint16, ok bool) {
	s := f.slot(k)
	if !s.used || s.key != *k || now-s.seen > fragTimeout {
		return 0, 0, false
	}
	s.seen = now
	return s.sport, s.dport, true
}
