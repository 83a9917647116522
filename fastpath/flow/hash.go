package flow

import (
	"encoding/binary"
	"math/bits"
)

// Hash returns the seeded hash of k, after wyhash (public domain): 128-bit
// products of words masked with secrets, so that nobody outside can choose keys
// that meet.
func (t *Table) Hash(k *Key) uint64 {
	s := &t.secrets
	h := mix(word(k.Src[:])^s[0], word(k.Src[8:])^s[1])
	h ^= mix(word(k.Dst[:])^s[2], word(k.Dst[8:])^s[3])
	rest := uint64(k.KeyNH)<<32 | uint64(k.Sport)<<16 | uint64(k.Dport)
	return mix(h^rest, uint64(k.Proto)^s[4])
}

// home returns the first cell that a key with hash h may be in (Lemire: a
// product instead of a remainder, so that any number of homes will do).
func (t *Table) home(h uint64) int {
	hi, _ := bits.Mul64(h, t.homes)
	return int(hi)
}

// secrets spreads the seed with splitmix64.
func secrets(seed uint64) (s [5]uint64) {
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
