package build

import (
	"encoding/binary"
	"fmt"

	"github.com/vragent/vragent/fastpath/packet"
)

// Verify checks every checksum of the IP packet b by full computation: IP header,
// L4, and those of a packet in a tunnel. L4 checksums of fragments cannot be checked;
// a UDP checksum of 0 is accepted over IPv4. It is the slow twin of the incremental
// updates and shares no code with them.
func Verify(b []byte) error {
	if len(b) < packet.IPv4Len {
		return fmt.Errorf("verify: %d bytes are no IP packet", len(b))
	}
	if b[0]>>4 == 6 {
		return verify6(b)
	}
	ihl, length := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || ihl < packet.IPv4Len || length < ihl || length > len(b) {
		return fmt.Errorf("verify: malformed IP header % x", b[:packet.IPv4Len])
	}
	if got := sum(b[:ihl]); got != 0xffff {
		return fmt.Errorf("verify: IPv4 header checksum: sum is %#04x", got)
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return nil
	}
	return verifyL4(b[9], b[12:16], b[16:20], b[ihl:length])
}

func verify6(b []byte) error {
	if len(b) < packet.IPv6Len || packet.IPv6Len+int(binary.BigEndian.Uint16(b[4:])) > len(b) {
		return fmt.Errorf("verify: IPv6 packet is cut off at %d bytes", len(b))
	}
	proto, l4 := b[6], b[packet.IPv6Len:packet.IPv6Len+int(binary.BigEndian.Uint16(b[4:]))]
	for extensionHeader(proto) {
		size := 8
		if len(l4) < size {
			return fmt.Errorf("verify: extension header %d is cut off", proto)
		}
		if proto != packet.ProtoFragment {
			size += int(l4[1]) * 8
		} else if binary.BigEndian.Uint16(l4[2:])&0xfff9 != 0 {
			return nil
		}
		if len(l4) < size {
			return fmt.Errorf("verify: extension header %d is cut off", proto)
		}
		proto, l4 = l4[0], l4[size:]
	}
	return verifyL4(proto, b[8:24], b[24:40], l4)
}

func extensionHeader(proto uint8) bool {
	switch proto {
	case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDestOpts, packet.ProtoFragment:
		return true
	}
	return false
}

func verifyL4(proto uint8, src, dst, l4 []byte) error {
	name := packet.ProtoName(proto)
	if !checksummed(proto, len(src) == 16) {
		return nil
	}
	if len(l4) < 8 || len(l4) < checksumAt(proto)+2 {
		return fmt.Errorf("verify: %s header is cut off", name)
	}
	if proto == packet.ProtoUDP {
		size := int(binary.BigEndian.Uint16(l4[4:]))
		if size < packet.UDPLen || size > len(l4) {
			return fmt.Errorf("verify: UDP length is %d of %d", size, len(l4))
		}
		return verifyUDP(src, dst, l4[:size])
	}
	got := uint16(0xffff)
	switch proto {
	case packet.ProtoSCTP:
		return verifySCTP(l4)
	case packet.ProtoICMP:
		got = sum(l4)
	default:
		got = sum(pseudo(src, dst, proto, len(l4)), l4)
	}
	if got != 0xffff {
		return fmt.Errorf("verify: %s checksum: sum is %#04x", name, got)
	}
	return nil
}

func verifyUDP(src, dst, l4 []byte) error {
	none := binary.BigEndian.Uint16(l4[6:]) == 0
	if none && len(src) == 16 {
		return fmt.Errorf("verify: UDP checksum is missing, over IPv6")
	}
	if got := sum(pseudo(src, dst, packet.ProtoUDP, len(l4)), l4); !none && got != 0xffff {
		return fmt.Errorf("verify: UDP checksum: sum is %#04x", got)
	}
	const tunnelled = packet.UDPLen + packet.MPLSLen
	if binary.BigEndian.Uint16(l4[2:]) != packet.TunnelPort || len(l4) <= tunnelled {
		return nil
	}
	if err := Verify(l4[tunnelled:]); err != nil {
		return fmt.Errorf("inner packet: %w", err)
	}
	return nil
}

func verifySCTP(l4 []byte) error {
	if len(l4) < packet.SCTPLen {
		return fmt.Errorf("verify: SCTP header is cut off")
	}
	zeroed := append([]byte(nil), l4...)
	copy(zeroed[8:12], []byte{0, 0, 0, 0})
	if got, want := binary.LittleEndian.Uint32(l4[8:]), crc32c(zeroed); got != want {
		return fmt.Errorf("verify: SCTP checksum is %#08x, should be %#08x", got, want)
	}
	return nil
}

// checksummed reports whether we know the checksum of proto in this family.
func checksummed(proto uint8, v6 bool) bool {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		return true
	}
	return proto == packet.ProtoICMP && !v6 || proto == packet.ProtoICMPv6 && v6
}

func checksumAt(proto uint8) int {
	switch proto {
	case packet.ProtoTCP:
		return 16
	case packet.ProtoUDP:
		return 6
	case packet.ProtoSCTP:
		return 8
	}
	return 2 // ICMP, ICMPv6
}

func pseudo(src, dst []byte, proto uint8, length int) []byte {
	b := append(append([]byte(nil), src...), dst...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}

// Fix makes every checksum of the IP packet b right by full computation, in
// place; a UDP checksum of 0 stays, and so does the L4 checksum of a fragment or
// of a packet that cannot be parsed.
func Fix(b []byte) {
	if len(b) >= packet.IPv4Len && b[0]>>4 == 4 && int(b[0]&0xf)*4 <= len(b) {
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^sum(b[:int(b[0]&0xf)*4]))
	}
	var in packet.Info
	if packet.ParseIP(b, 0, len(b), &in) != packet.FaultNone || in.L4 == 0 || in.Frag != packet.FragNone {
		return
	}
	src, dst, proto, l4 := b[12:16], b[16:20], in.Tuple.Proto, b[in.L4:in.Len]
	if in.V6 {
		src, dst = b[8:24], b[24:40]
	}
	if proto == packet.ProtoUDP {
		l4 = l4[:binary.BigEndian.Uint16(l4[4:])]
	}
	at := checksumAt(proto)
	if proto == packet.ProtoUDP && l4[at] == 0 && l4[at+1] == 0 {
		return
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	if proto == packet.ProtoSCTP {
		binary.LittleEndian.PutUint32(l4[at:], 0)
		binary.LittleEndian.PutUint32(l4[at:], crc32c(l4))
		return
	}
	putChecksum(l4, proto, src, dst)
}

// putChecksum fills the checksum, now 0, of a TCP, UDP, ICMP or ICMPv6 packet.
func putChecksum(l4 []byte, proto uint8, src, dst []byte) {
	c := ^sum(l4)
	if proto != packet.ProtoICMP {
		c = ^sum(pseudo(src, dst, proto, len(l4)), l4)
	}
	if c == 0 && proto == packet.ProtoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(l4[checksumAt(proto):], c)
}

// sum is the one's complement sum of RFC 1071, word by word. Parts but the last
// have an even length.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, p := range parts {
		for i, v := range p {
			if i%2 == 0 {
				s += uint32(v) << 8
			} else {
				s += uint32(v)
			}
			s = s>>16 + s&0xffff
		}
	}
	return uint16(s)
}

// crc32c is RFC 9260 appendix A, bit by bit.
func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, v := range b {
		crc ^= uint32(v)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	return ^crc
}
