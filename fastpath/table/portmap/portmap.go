// Package portmap holds the port maps of one vif: what its floating IPs stand for. A List
// belongs to the snapshot of tables it is in, and to the edit that makes that one before. It
// does not translate packets.
package portmap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/vragent/vragent/fastpath/packet"
)

// Entry is one port map; VIP, Proto and Port identify it.
type Entry struct {
	VIP, Fixed   packet.Addr
	Proto        uint8
	Port, Target uint16
}

// List is some port maps, each once. The zero List is empty.
type List struct {
	sorted []Entry // by compare
	// index finds them by hash, where a search in 10,000 would miss the cache a dozen
	// times: position + 1 in sorted, 0 where there is none. Its length is a power of two
	// and twice theirs at least. Set by Index.
	index []uint32
}

// Find returns the port map of (vip, proto, port), nil if there is none. Of changes since
// Index it knows nothing.
func (l *List) Find(vip *packet.Addr, proto uint8, port uint16) *Entry {
	if len(l.index) == 0 {
		return nil
	}
	mask := uint32(len(l.index) - 1)
	for i := hash(vip, proto, port) & mask; l.index[i] != 0; i = (i + 1) & mask {
		if e := &l.sorted[l.index[i]-1]; e.VIP == *vip && e.Port == port && e.Proto == proto {
			return e
		}
	}
	return nil
}

// Has reports whether there is a port map for any port of vip.
func (l *List) Has(vip packet.Addr) bool {
	at, _ := l.search(&Entry{VIP: vip})
	return at < len(l.sorted) && l.sorted[at].VIP == vip
}

// Leads reports whether one of them leads to (proto, target).
func (l *List) Leads(proto uint8, target uint16) bool {
	for i := range l.sorted {
		if e := &l.sorted[i]; e.Proto == proto && e.Target == target {
			return true
		}
	}
	return false
}

// All lists them in order; it is not to be changed.
func (l *List) All() []Entry { return l.sorted }

// Holds reports whether e is one of them, just as it is.
func (l *List) Holds(e *Entry) bool {
	at, there := l.search(e)
	return there && l.sorted[at] == *e
}

// Clone returns a List that can be changed alone.
func (l *List) Clone() List { return List{sorted: slices.Clone(l.sorted), index: l.index} }

// Put adds e, in the place of the one it is identified as.
func (l *List) Put(e *Entry) {
	at, there := l.search(e)
	if !there {
		l.sorted = slices.Insert(l.sorted, at, *e)
	}
	l.sorted[at] = *e
}

// Knows is Find that knows of all changes.
func (l *List) Knows(vip packet.Addr, proto uint8, port uint16) bool {
	_, there := l.search(&Entry{VIP: vip, Proto: proto, Port: port})
	return there
}

// Remove takes one away that is there.
func (l *List) Remove(vip packet.Addr, proto uint8, port uint16) {
	at, _ := l.search(&Entry{VIP: vip, Proto: proto, Port: port})
	l.sorted = slices.Delete(l.sorted, at, at+1)
}

// Index makes Find know what has been put and removed.
func (l *List) Index() {
	l.index = nil
	if len(l.sorted) == 0 {
		return
	}
	l.index = make([]uint32, 1<<bits.Len(uint(2*len(l.sorted)-1)))
	mask := uint32(len(l.index) - 1)
	for at := range l.sorted {
		e := &l.sorted[at]
		i := hash(&e.VIP, e.Proto, e.Port) & mask
		for l.index[i] != 0 {
			i = (i + 1) & mask
		}
		l.index[i] = uint32(at + 1)
	}
}

// hash spreads what identifies a port map (the multiplier is that of MurmurHash3's finalizer).
func hash(vip *packet.Addr, proto uint8, port uint16) uint32 {
	h := binary.LittleEndian.Uint64(vip[:8])*0x9E3779B97F4A7C15 ^ binary.LittleEndian.Uint64(vip[8:]) ^ uint64(proto)<<16 ^ uint64(port)
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	return uint32(h >> 32)
}

// search returns the position of what is identified as want is, or where it would be.
func (l *List) search(want *Entry) (at int, there bool) {
	end := len(l.sorted)
	for at < end {
		if mid := (at + end) / 2; compare(&l.sorted[mid], want) < 0 {
			at = mid + 1
		} else {
			end = mid
		}
	}
	return at, at < len(l.sorted) && compare(&l.sorted[at], want) == 0
}

// compare orders by what identifies a port map.
func compare(a, b *Entry) int {
	if c := bytes.Compare(a.VIP[:], b.VIP[:]); c != 0 {
		return c
	}
	return cmp.Compare(uint32(a.Proto)<<16|uint32(a.Port), uint32(b.Proto)<<16|uint32(b.Port))
}
