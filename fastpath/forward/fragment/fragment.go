// Package fragment remembers the ports of fragmented packets: only the first
// fragment has them. One worker owns a Ports. It holds no packets and does not
// reassemble.
package fragment

import (
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

const slots = 2048

// Ports is a direct-mapped cache; a newer packet takes the place of an older one
// (RFC 6864: ids live for a TTL).
type Ports struct {
	slots [slots]slot
}

// Key is what all fragments of a packet have in common.
type Key struct {
	Src, Dst packet.Addr
	ID       uint32
	KeyNH    table.NextHopID // of the flow: where it was received
	Proto    uint8
}

type slot struct {
	key          Key
	sport, dport uint16
	seen         uint32 // ticks
	used         bool
}

func (p *Ports) slot(k *Key) *slot {
	t := packet.Tuple{Src: k.Src, Dst: k.Dst, Sport: uint16(k.ID >> 16), Dport: uint16(k.ID), Proto: k.Proto}
	return &p.slots[t.Hash()%slots]
}

// Put remembers what the first fragment says.
func (p *Ports) Put(k *Key, sport, dport uint16, now uint32) {
	*p.slot(k) = slot{*k, sport, dport, now, true}
}

// Get finds the ports of a later fragment; limit is how long ago, in ticks, the
// last one may have passed.
func (p *Ports) Get(k *Key, now, limit uint32) (sport, dport uint16, ok bool) {
	s := p.slot(k)
	if !s.used || s.key != *k || now-s.seen > limit {
		return 0, 0, false
	}
	s.seen = now
	return s.sport, s.dport, true
}
