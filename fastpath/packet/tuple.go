package packet

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
)

// Tuple names a conversation in one direction. Ports are in host byte order;
// see Info.Tuple for what they hold in ICMP and fragments.
type Tuple struct {
	Src, Dst     Addr
	Sport, Dport uint16
	Proto        uint8
}

// Reverse returns the tuple of the replies.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, Sport: t.Dport, Dport: t.Sport, Proto: t.Proto}
}

// Hash is equal for t and t.Reverse(). The steering program (fastpath/link/steer)
// computes the same function, so no bit of it may change alone.
func (t *Tuple) Hash() uint32 {
	a, b := t.Src.fold(), t.Dst.fold()
	x, y := a^b, a+b
	z := uint32(t.Sport^t.Dport)<<16 | uint32(t.Sport+t.Dport)
	h := x * 0x9E3779B1
	h ^= y * 0x85EBCA6B
	h = bits.RotateLeft32(h, 13)*5 + 0xE6546B64
	h ^= z * 0xCC9E2D51
	h ^= uint32(t.Proto)
	h ^= h >> 16
	h *= 0x85EBCA6B
	h ^= h >> 13
	h *= 0xC2B2AE35
	return h ^ h>>16
}

// Owner returns which of workers owns hash.
func Owner(hash uint32, workers int) int {
	return int(uint64(hash) * uint64(workers) >> 32)
}

// String prints "192.0.2.1:1000 > 192.0.2.2:53 UDP".
func (t Tuple) String() string {
	switch t.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		src, dst := netip.AddrPortFrom(t.Src.Netip(), t.Sport), netip.AddrPortFrom(t.Dst.Netip(), t.Dport)
		return fmt.Sprintf("%v > %v %s", src, dst, ProtoName(t.Proto))
	}
	return fmt.Sprintf("%v > %v %s", t.Src, t.Dst, ProtoName(t.Proto))
}

// ProtoName returns "TCP" for 6, and the number in decimal for protocols this
// package does not read.
func ProtoName(proto uint8) string {
	switch proto {
	case ProtoTCP:
		return "TCP"
	case ProtoUDP:
		return "UDP"
	case ProtoSCTP:
		return "SCTP"
	case ProtoICMP:
		return "ICMP"
	case ProtoICMPv6:
		return "ICMPv6"
	}
	return strconv.Itoa(int(proto))
}
