package packet

import (
	"encoding/binary"
	"math/bits"
)

// add adds b to sum as big-endian 16-bit words (RFC 1071); an odd last byte is
// padded with zero. Fold it to get the one's complement sum. 32 bits are added
// at a time: their carries fold back later, and 2^32 of them fit.
func add(sum uint64, b []byte) uint64 {
	for len(b) >= 8 {
		v := binary.BigEndian.Uint64(b)
		sum += v>>32 + v&0xffffffff
		b = b[8:]
	}
	if len(b) >= 4 {
		sum += uint64(be32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		sum += uint64(be16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

// fold brings a sum to 16 bits with end-around carry. Only zero folds to zero.
func fold(sum uint64) uint16 {
	sum += bits.RotateLeft64(sum, 32) // the upper half is now upper + lower + carry
	r := uint32(sum >> 32)
	r += bits.RotateLeft32(r, 16)
	return uint16(r >> 16)
}

// pseudo is the sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 3.1, RFC 8200 8.1).
func pseudo(src, dst *Addr, proto uint8, length int) uint64 {
	return src.sum() + dst.sum() + uint64(proto) + uint64(length)
}

// change is what replacing words that add up to old by words that add up to new
// adds to a checksum's sum: the ~m + m' of RFC 1624, where ~m is taken from a
// multiple of 0xffff (one's complement zero) large enough for any old.
func change(old, new uint64) uint64 { return 0xffff<<32 - old + new }

// fix applies a change to the checksum at b[at:]: HC' = ~(~HC + ~m + m'), RFC 1624
// equation 3. The result is the one of a full computation, also where that is 0 or
// 0xffff, unless all words under the checksum are 0 (see rewriteEcho).
func fix(b []byte, at int, change uint64) {
	put16(b[at:], ^fold(uint64(^be16(b[at:]))+change))
}

// unfinished is fix for a checksum that is not finished: the field is a sum, not its
// complement, and covers the pseudo-header alone.
func unfinished(b []byte, at int, change uint64) { put16(b[at:], fold(uint64(be16(b[at:]))+change)) }

// checksumAt is where the checksum of TCP or UDP lies in its header.
func checksumAt(proto uint8) int {
	if proto == ProtoUDP {
		return udpChecksum
	}
	return tcpChecksum
}

// fixUDP is fix where 0 means that the sender computed none, and stays; a
// computed 0 is sent as 0xffff (RFC 768).
func fixUDP(b []byte, at int, change uint64) {
	if be16(b[at:]) == 0 {
		return
	}
	fix(b, at, change)
	if be16(b[at:]) == 0 {
		put16(b[at:], 0xffff)
	}
}
