package packet

import (
	"encoding/binary"
	"math/bits"
)

// Almost all packets are plain: IP without options, whole, TCP or UDP. ParseIP and
// ParseTunnel recognize those at half the cost, with few loads and one comparison for
// several fields, and leave all others, good or bad, to the functions that can say
// what is wrong. On what they accept they agree with those to the bit (plain_test.go).

// The first eight bytes of an IPv4 header as load4 reads them.
const (
	plainMask = 0xff3f<<48 | 0xff // version, header length, more fragments, fragment offset
	plainHead = 0x45              // version 4, 20 bytes, all of the datagram
	plainDF   = 0x40 << 48
)

// ParseIP reads the IP packet at b[off:]. total is how many bytes there are from
// off in all buffers of the packet: b may hold only the first chunk, as long as
// that has all headers. Ethernet padding may follow the packet (in.Len says).
// When it returns FaultNone, all offsets in in are good for their fixed headers
// within b, and L4 checksums are not verified: they are the receiver's business.
func ParseIP(b []byte, off, total int, in *Info) Fault {
	if uint(off) > uint(len(b)) {
		return parseAny(b, off, total, in)
	}
	h := b[off:]
	if len(h) < IPv4Len+UDPLen {
		return parseAny(b, off, total, in)
	}
	x, y, z := load4(h)
	if uint8(x)>>4 == 6 { // of x: after a load of h[0], the compiler would load x byte by byte
		return plain6(b, off, total, in)
	}
	size := int(be16(h[2:]))
	if x&plainMask != plainHead || size > total || sum4(x, y, z) != 0xffff || !plainNet(uint8(y>>32)) || !plainNet(uint8(z)) {
		return parseAny(b, off, total, in)
	}
	flags, ok := plainL4(h[IPv4Len:], size-IPv4Len, uint8(y>>8))
	if !ok {
		return parseAny(b, off, total, in)
	}
	*in = Info{}
	in.L3, in.L4, in.Len = off, off+IPv4Len, size
	in.DF, in.TTL, in.TCPFlags = x&plainDF != 0, uint8(y), flags
	in.Tuple.Src.setWord(uint32(y >> 32))
	in.Tuple.Dst.setWord(z)
	in.Tuple.Sport, in.Tuple.Dport, in.Tuple.Proto = be16(h[IPv4Len:]), be16(h[IPv4Len+2:]), uint8(y>>8)
	return FaultNone
}

// plain6 is ParseIP for what says it is IPv6. Plain addresses are not of ::/64, where the
// unspecified one lies, loopback and IPv4's, nor multicast.
func plain6(b []byte, off, total int, in *Info) Fault {
	h := b[off:]
	if len(h) < IPv6Len+UDPLen {
		return parseAny(b, off, total, in)
	}
	src, dst := binary.LittleEndian.Uint64(h[ipv6Src:]), binary.LittleEndian.Uint64(h[ipv6Dst:])
	size := IPv6Len + int(be16(h[4:]))
	if size > total || src == 0 || dst == 0 || uint8(src) == 0xff || uint8(dst) == 0xff {
		return parseAny(b, off, total, in)
	}
	flags, ok := plainL4(h[IPv6Len:], size-IPv6Len, h[6])
	if !ok {
		return parseAny(b, off, total, in)
	}
	*in = Info{}
	in.L3, in.L4, in.Len = off, off+IPv6Len, size
	in.V6, in.DF, in.TTL, in.TCPFlags = true, true, h[7], flags
	in.Tuple.Src, in.Tuple.Dst = Addr(h[ipv6Src:ipv6Src+16]), Addr(h[ipv6Dst:ipv6Dst+16])
	in.Tuple.Sport, in.Tuple.Dport, in.Tuple.Proto = be16(h[IPv6Len:]), be16(h[IPv6Len+2:]), h[6]
	return FaultNone
}

// plainL4 says that h begins with a good TCP or UDP header, and which flags TCP has. n is
// how much the IP packet has behind its own header; less of it may be here.
func plainL4(h []byte, n int, proto uint8) (flags uint8, ok bool) {
	size, least := 0, UDPLen
	switch proto {
	case ProtoTCP:
		if len(h) < TCPLen {
			return 0, false
		}
		size, least, flags = int(h[12]>>4)*4, TCPLen, h[13]
	case ProtoUDP:
		size = int(be16(h[4:]))
	}
	return flags, size >= least && size <= n
}

// ParseTunnel reads the Ethernet, IPv4, UDP and MPLS headers of frame b; total is
// the frame's length over all its buffers. A frame that is something else is
// FaultNotTunnel. Who may send tunnels is the caller's question. Plain here is what
// PutTunnel writes, without a UDP checksum.
func ParseTunnel(b []byte, total int, t *Tunnel) Fault {
	const headers = EthernetLen + TunnelLen
	if len(b) < headers {
		return t.parseAny(b, total)
	}
	h := b[EthernetLen:headers]
	x, y, z := load4(h)
	udp := binary.BigEndian.Uint64(h[IPv4Len:]) // ports, length, checksum
	entry := be32(h[IPv4Len+UDPLen:])
	length, size := int(be16(h[2:])), int(udp>>16&0xffff)
	if EtherType(b) != TypeIPv4 || x&plainMask != plainHead || uint8(y>>8) != ProtoUDP || sum4(x, y, z) != 0xffff ||
		udp&(0xffff<<32|0xffff) != TunnelPort<<32 || length > total-EthernetLen || size < UDPLen+MPLSLen || size > length-IPv4Len ||
		entry&0x100 == 0 || entry&0xff == 0 {
		return t.parseAny(b, total)
	}
	t.Src.setWord(uint32(y >> 32))
	t.Dst.setWord(z)
	t.Label, t.Sport = entry>>12, uint16(udp>>48)
	t.Inner, t.Len = headers, size-UDPLen-MPLSLen
	return FaultNone
}

// load4 reads an IPv4 header of 20 bytes in three words, in little-endian order.
func load4(h []byte) (x, y uint64, z uint32) {
	h = h[:IPv4Len]
	return binary.LittleEndian.Uint64(h), binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint32(h[16:])
}

// sum4 is the one's complement sum of what load4 read: if the words of a header add up to
// 0xffff, they do in any byte order.
func sum4(x, y uint64, z uint32) uint16 {
	s, c := bits.Add64(x, y, 0)
	s, c = bits.Add64(s, uint64(z), c)
	return fold(s + c)
}

// plainNet says that an address that begins with byte a is not of 0.0.0.0/8,
// 127.0.0.0/8, 224.0.0.0/4 or beyond.
func plainNet(a uint8) bool { return a-1 < 0xdf && a != 127 }
