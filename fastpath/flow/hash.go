package flow

import (
	"encoding/binary"
	"math/bits"

	"github.com/vragent/vragent/fastpath/packet"
)

// Place is where in the table a key's entry is, or would be.
type Place struct {
	ends uint64 // as in Entry
	home uint32 // the first cell of its family that it may be in
	six  bool   // IPv6
}

// Locate finds out where k's entry would be, without a look at the memory there.
func (t *Table) Locate(k *Key) Place {
	var p Place
	part := &t.four
	if isFour(&k.Src) && isFour(&k.Dst) {
		p.ends = ends4(&k.Src, &k.Dst)
	} else {
		p.ends, p.six, part = t.ends6(&k.Src, &k.Dst), true, &t.six
	}
	p.home = part.home(t.hash(p.ends, k))
	return p
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
		at := t.four.lines[p.home : p.home+2 : p.home+2]
		sum += uint32(at[0].Used) + uint32(at[1].Used)
	}
	return sum
}

// hash is the seeded hash of k, after wyhash (public domain): 128-bit products of
// words masked with secrets, so that nobody outside can choose keys that meet.
func (t *Table) hash(ends uint64, k *Key) uint64 {
	rest := uint64(k.KeyNH)<<32 | uint64(k.Sport)<<16 | uint64(k.Dport)
	return mix(mix(ends^t.secrets[0], rest^t.secrets[1])^t.secrets[2], uint64(k.Proto)^t.secrets[3])
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
