package packet

// Frag says which part of a datagram a packet holds.
type Frag uint8

const (
	FragNone Frag = iota // all of it
	FragHead             // the first part: has the L4 header
	FragTail             // a later part: has no ports
)

// Info is what ParseIP found. Offsets and lengths are bytes, offsets count from
// the start of the buffer given. More than twelve fields: it is the one record
// of a packet, written once and read by every stage.
type Info struct {
	L3  int // the IP header
	L4  int // the TCP, UDP, SCTP or ICMP header; 0 in a tail fragment and for protocols we do not read
	Len int // of the IP packet: IPv4 total length, 40 + IPv6 payload length

	V6        bool
	DF        bool // routers may not fragment it; always set for IPv6
	Multicast bool // the destination is multicast or the limited broadcast
	TTL       uint8
	Frag      Frag
	FragID    uint32
	FragOff   int // where this part lies in the datagram's payload

	// Tuple has the ports of TCP, UDP and SCTP; for an ICMP echo request
	// (identifier, 0), for a reply (0, identifier); otherwise (0, 0).
	// In an IPv6 tail fragment Proto is what its fragment header says.
	Tuple Tuple

	// Partial: the L4 checksum is unfinished (see segment.go). Set by the caller, who
	// knows; ParseIP clears it.
	Partial bool

	TCPFlags           uint8
	ICMPType, ICMPCode uint8
	ND                 uint8 // ICMPv6 type 133..137: RS, RA, NS, NA, redirect; else 0

	// ICMPError: unreachable, time exceeded, packet too big or parameter problem.
	// The packet it embeds stands at InnerL3 (0: too short to use) and InnerL4 (0: no L4 header there).
	ICMPError        bool
	InnerL3, InnerL4 int
	Inner            Tuple // as it stands there: the direction of the packet that failed
}

// Hash is the hash the packet is steered by: of the 3-tuple for every fragment,
// of the embedded packet for ICMP errors, else of the tuple.
func (in *Info) Hash() uint32 {
	t := in.Tuple
	switch {
	case in.Frag != FragNone:
		t.Sport, t.Dport = 0, 0
	case in.InnerL3 != 0:
		t = in.Inner
	}
	return t.Hash()
}

// parseAny is ParseIP for whatever comes.
func parseAny(b []byte, off, total int, in *Info) Fault {
	*in = Info{L3: off}
	if off < 0 || len(b)-off < IPv4Len || total < IPv4Len {
		return FaultShort
	}
	switch b[off] >> 4 {
	case 4:
		return parse4(b, total, in)
	case 6:
		return parse6(b, total, in)
	}
	return FaultVersion
}

func parse4(b []byte, total int, in *Info) Fault {
	h := b[in.L3:]
	_ = h[IPv4Len-1] // parseAny has looked; the compiler needs to be told
	ihl := int(h[0]&0xf) * 4
	in.Len = int(be16(h[2:]))
	switch {
	case ihl < IPv4Len:
		return FaultHeader
	case in.Len < ihl:
		return FaultLength
	case ihl > len(h) || in.Len > total:
		return FaultShort
	case !intact4(h, ihl):
		return FaultChecksum
	case ihl > IPv4Len && sourceRouted4(h[IPv4Len:ihl]):
		return FaultSourceRoute
	}
	in.TTL = h[8]
	in.Tuple.Src.set4(h[ipv4Src:])
	in.Tuple.Dst.set4(h[ipv4Dst:])
	in.Tuple.Proto = h[9]
	in.Multicast = h[ipv4Dst]&0xf0 == 0xe0 || be32(h[ipv4Dst:]) == 0xffffffff
	if f := martian4(h, in.Multicast); f != FaultNone {
		return f
	}
	word := be16(h[6:])
	in.DF = word&0x4000 != 0
	if word&0x3fff != 0 {
		in.FragID = uint32(be16(h[4:]))
		if f := parseFrag(in, in.Len-ihl, int(word&0x1fff)*8, word&0x2000 != 0); f != FaultNone {
			return f
		}
	}
	if in.Frag == FragTail {
		return FaultNone
	}
	return parseL4(b[:min(len(b), in.L3+in.Len)], in, in.L3+ihl)
}

// intact4 reports whether the checksum of the IPv4 header in h, n bytes, is right.
func intact4(h []byte, n int) bool {
	if n != IPv4Len {
		return fold(add(0, h[:n])) == 0xffff
	}
	return sum4(load4(h)) == 0xffff
}

// martian4 finds addresses that no packet on a wire has (RFC 1122 3.2.1.3).
func martian4(h []byte, multicast bool) Fault {
	_ = h[IPv4Len-1]
	switch src := h[ipv4Src]; {
	case src == 0, src == 127, src&0xf0 == 0xe0, be32(h[ipv4Src:]) == 0xffffffff:
		return FaultSource
	}
	if dst := h[ipv4Dst]; !multicast && (dst == 0 || dst == 127) {
		return FaultDestination
	}
	return FaultNone
}

// sourceRouted4 looks for the loose and strict source route options (RFC 7126 4.3, 4.4).
// Under them the destination is not the one the L4 checksum covers.
func sourceRouted4(opts []byte) bool {
	const end, nop, lsrr, ssrr = 0, 1, 131, 137
	for len(opts) > 0 && opts[0] != end {
		switch opts[0] {
		case nop:
			opts = opts[1:]
			continue
		case lsrr, ssrr:
			return true
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return false // the receiver will complain
		}
		opts = opts[opts[1]:]
	}
	return false
}

// parseFrag classifies a fragment of n payload bytes at off. It refuses those that
// no sender makes: they serve to slip past filters or to overrun reassembly.
func parseFrag(in *Info, n, off int, more bool) Fault {
	switch {
	case more && (n == 0 || n%8 != 0), off+n > 65535:
		return FaultFragment
	case off > 0 && off < TCPLen && in.Tuple.Proto == ProtoTCP:
		return FaultFragment // would overwrite the TCP header (RFC 3128)
	case off > 0:
		in.Frag, in.FragOff = FragTail, off
	case more:
		in.Frag = FragHead
	}
	return FaultNone
}

// parseL4 reads the header at b[l4:]; b ends where the packet ends, or earlier
// when the rest is in another chunk.
func parseL4(b []byte, in *Info, l4 int) Fault {
	h, n := b[l4:], in.Len-(l4-in.L3) // n: payload of the IP packet, in all chunks
	switch in.Tuple.Proto {
	case ProtoTCP:
		if len(h) < TCPLen {
			return FaultShort
		}
		if size := int(h[12]>>4) * 4; size < TCPLen || in.Frag == FragNone && size > n {
			return FaultHeader
		}
		in.TCPFlags = h[13]
	case ProtoUDP:
		if len(h) < UDPLen {
			return FaultShort
		}
		if size := int(be16(h[4:])); size < UDPLen || in.Frag == FragNone && size > n {
			return FaultLength
		}
	case ProtoSCTP:
		if len(h) < SCTPLen {
			return FaultShort
		}
	case ProtoICMP, ProtoICMPv6:
		if in.V6 != (in.Tuple.Proto == ProtoICMPv6) {
			return FaultNone // the other family's: an unknown protocol here
		}
		return parseICMP(b, in, l4)
	default:
		return FaultNone
	}
	in.L4 = l4
	ports := be32(h)
	in.Tuple.Sport, in.Tuple.Dport = uint16(ports>>16), uint16(ports)
	return FaultNone
}
