package packet

import (
	"encoding/binary"
	"math/bits"
)

// What a sender leaves to its network card: to cut a large TCP or UDP packet into
// segments, and to finish L4 checksums. A card's driver that is us gets such packets
// whole; these functions do the card's work where the packet goes on without one.
//
// An unfinished checksum field holds the folded sum of the pseudo-header, not
// complemented; the sum over everything from the L4 header on, that field included,
// gives the checksum (Linux: CHECKSUM_PARTIAL).

// PayloadAt returns where the payload of a TCP or UDP packet begins, counted from
// the start of the buffer, and false when the header is cut off or neither.
func PayloadAt(b []byte, in *Info) (at int, ok bool) {
	switch {
	case in.L4 == 0 || in.Frag != FragNone:
		return 0, false
	case in.Tuple.Proto == ProtoTCP && len(b) >= in.L4+TCPLen:
		size := int(b[in.L4+12]>>4) * 4
		return in.L4 + size, size >= TCPLen && len(b) >= in.L4+size && in.L4+size <= in.L3+in.Len
	case in.Tuple.Proto == ProtoUDP && len(b) >= in.L4+UDPLen:
		return in.L4 + UDPLen, in.L4+UDPLen <= in.L3+in.Len
	}
	return 0, false
}

// Segment says which part of a large packet's payload a segment carries.
type Segment struct {
	Index int  // counted from 0
	Off   int  // where its part begins in the payload, bytes
	Len   int  // of its part, bytes
	Last  bool // none follows
}

// PutSegment makes the copied headers of a large packet, in b, those of one of its
// segments: lengths, IPv4 identification and checksum, TCP sequence number and flags.
// CWR belongs to the first segment, FIN and PSH to the last. The L4 checksum is not
// computed. in is of b, and says the segment's length afterwards.
func PutSegment(b []byte, in *Info, s Segment) {
	at, _ := PayloadAt(b, in)
	in.Len = at - in.L3 + s.Len
	h := b[in.L3:]
	if in.V6 {
		put16(h[4:], uint16(in.Len-IPv6Len))
	} else {
		put16(h[2:], uint16(in.Len))
		put16(h[4:], be16(h[4:])+uint16(s.Index))
		put16(h[ipv4Checksum:], 0)
		put16(h[ipv4Checksum:], ^fold(add(0, h[:int(h[0]&0xf)*4])))
	}
	l4 := b[in.L4:]
	if in.Tuple.Proto == ProtoUDP {
		put16(l4[4:], uint16(UDPLen+s.Len))
		return
	}
	put32(l4[4:], be32(l4[4:])+uint32(s.Off))
	if s.Index > 0 {
		l4[13] &^= CWR
	}
	if !s.Last {
		l4[13] &^= FIN | PSH
	}
}

// Push sets PSH in the TCP header h, whose checksum is finished.
func Push(h []byte) {
	old := be16(h[12:])
	h[13] |= PSH
	fix(h, tcpChecksum, change(uint64(old), uint64(be16(h[12:]))))
}

// Unfinished reports whether the checksum of a TCP or UDP packet looks unfinished,
// where nobody says. One that is finished and looks so by chance is the same again
// once it is finished.
func Unfinished(b []byte, in *Info) bool {
	if _, ok := PayloadAt(b, in); !ok {
		return false
	}
	field := be16(b[in.L4+checksumAt(in.Tuple.Proto):])
	if field == 0 && in.Tuple.Proto == ProtoUDP {
		return false // there is none
	}
	sum := fold(pseudo(&in.Tuple.Src, &in.Tuple.Dst, in.Tuple.Proto, in.L3+in.Len-in.L4))
	return field%0xffff == sum%0xffff // zero has two forms
}

// ChecksumOK verifies the checksum of a TCP packet, or of a UDP packet that has one. It
// ends where b ends, and carries no padding.
func ChecksumOK(b []byte, in *Info) bool {
	sum := pseudo(&in.Tuple.Src, &in.Tuple.Dst, in.Tuple.Proto, in.L3+in.Len-in.L4)
	return fold(addLong(sum, b[in.L4:])) == 0xffff
}

// LeaveChecksum makes the checksum of a TCP or UDP packet an unfinished one.
func LeaveChecksum(b []byte, in *Info) {
	length := in.L3 + in.Len - in.L4
	put16(b[in.L4+checksumAt(in.Tuple.Proto):], fold(pseudo(&in.Tuple.Src, &in.Tuple.Dst, in.Tuple.Proto, length)))
}

// PutChecksum computes and stores the checksum of a TCP or UDP packet. It begins
// in b, ends where b ends or goes on in tails, and carries no padding.
func PutChecksum(b []byte, in *Info, tails ...[]byte) {
	LeaveChecksum(b, in)
	FinishChecksum(b, in.L4, in.L4+checksumAt(in.Tuple.Proto), tails...)
}

// FinishChecksum completes an unfinished checksum at b[at:] over everything from
// b[start:] on, tails included, whatever the protocol.
func FinishChecksum(b []byte, start, at int, tails ...[]byte) {
	sum := addLong(0, b[start:])
	odd := (len(b)-start)%2 != 0
	for _, t := range tails {
		if odd && len(t) > 0 { // its first byte is the lower half of a word
			sum += uint64(t[0])
			t = t[1:]
			odd = false
		}
		sum = addLong(sum, t)
		odd = odd != (len(t)%2 != 0)
	}
	c := ^fold(sum)
	if c == 0 && at-start == udpChecksum {
		c = 0xffff // RFC 768: 0 says there is none; for others it means the same
	}
	put16(b[at:], c)
}

// addLong is add for payloads: 64 bytes at a time, in one chain of carries. That takes
// a third of the time.
func addLong(sum uint64, b []byte) uint64 {
	var s, c uint64
	for ; len(b) >= 64; b = b[64:] {
		w := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[0:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(w[56:]), c)
	}
	return add(sum+s>>32+s&0xffffffff+c, b)
}
