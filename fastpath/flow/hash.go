package flow

import (
	"encoding/binary"
	"math/bits"

	"github.com/vragent/vragent/fastpath/packet"
)

// Place is where in the table a key's entry is, or would be, and what it looks like.
type Place struct {
	ends         uint64 // as in Entry
	KeyNH        uint32
	Sport, Dport uint16
	Proto        uint8
	six          bool   // IPv6
	home         uint32 // the first cell of its family that it may be in
}

// Locate finds out where the entry of a key would be, without a look at the memory there.
func (t *Table) Locate(keyNH uint32, tuple *packet.Tuple, p *Place) {
	p.KeyNH, p.Sport, p.Dport, p.Proto = keyNH, tuple.Sport, tuple.Dport, tuple.Proto
	if p.six = !isFour(&tuple.Src) || !isFour(&tuple.Dst); p.six {
		p.ends = t.ends6(&tuple.Src, &tuple.Dst)
		p.home = t.six.home(t.hash(p))
		return
	}
	p.ends = ends4(&tuple.Src, &tuple.Dst)
	p.home = t.four.home(t.hash(p))
}

// matches compares what is not an address, in the pieces that Locate wrote: a processor
// makes who reads two of them at once wait until both are in the cache, and that is
// after all that came before them, memory of other flows included.
func (p *Place) matches(e *Entry) bool {
	return e.KeyNH == p.KeyNH && e.Sport == p.Sport && e.Dport == p.Dport && e.Proto == p.Proto && e.Used == slotUsed
}

// Touch reads a little of the cells where entries would be. Loads that depend on
// nothing overlap: who touches many places before he looks the first one up waits
// once for the memory, not each time. A third of the entries are not in the first cell
// of their place, so the second is read as well. The sum means nothing; without it
// the compiler would see that nothing is read.
func (t *Table) Touch(places []Place) (sum uint32) {
	for i := range places {
		p := &places[i]
		if p.six {
			sum += uint32(t.six.line(p.home).Used) + uint32(t.six.line(p.home+1).Used)
			continue
		}
		sum += uint32(t.four.lines[p.home].Used) + uint32(t.four.lines[p.home+1].Used)
	}
	return sum
}

// TouchNew is Touch for a key that will be inserted: what is cold of its slot as well.
func (t *Table) TouchNew(p *Place) (sum uint32) {
	part := &t.four
	if p.six {
		part = &t.six
	}
	return uint32(part.line(p.home).Used) + t.cold[part.first+p.home].Gen
}

// hash is the seeded hash of a key, after wyhash (public domain): 128-bit products of
// words masked with secrets, so that nobody outside can choose keys that meet.
func (t *Table) hash(p *Place) uint64 {
	rest := uint64(p.KeyNH)<<32 | uint64(p.Sport)<<16 | uint64(p.Dport)
	return mix(mix(p.ends^t.secrets[0], rest^t.secrets[1])^t.secrets[2], uint64(p.Proto)^t.secrets[3])
}

// ends6 is a hash of two IPv6 addresses in the same manner.
func (t *Table) ends6(src, dst *packet.Addr) uint64 {
	s := &t.secrets
	return mix(word(src[:])^s[4], word(src[8:])^s[5]) ^ mix(word(dst[:])^s[6], word(dst[8:])^s[7])
}

// isFour reports whether a is an IPv4 address.
func isFour(a *packet.Addr) bool { return word(a[:]) == 0 && half(a[8:]) == mapped }

// mapped stands before IPv4 addresses (RFC 4291 2.5.5.2), in the host's byte order.
var mapped = half([]byte{0, 0, 0xff, 0xff})

// home returns the first cell that a key with hash h may be in (Lemire: a
// product instead of a remainder, so that any number of homes will do).
func (p *part) home(h uint64) uint32 {
	hi, _ := bits.Mul64(h, p.homes)
	return uint32(hi)
}

// secrets spreads the seed with splitmix64.
func secrets(seed uint64) (s [8]uint64) {
	for i := range s {
		seed += 0x9E3779B97F4A7C15
		x := seed
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		s[i] = x ^ x>>31
	}
	return s
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func word(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }

func half(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
