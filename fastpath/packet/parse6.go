package packet

// maxExtensions bounds the walk over IPv6 extension headers. RFC 8200 4.1 has
// at most seven in a sensible packet, fragment header included.
const maxExtensions = 8

func parse6(b []byte, total int, in *Info) Fault {
	h := b[in.L3:]
	if len(h) < IPv6Len || total < IPv6Len {
		return FaultShort
	}
	in.Len = IPv6Len + int(be16(h[4:]))
	if in.Len > total {
		return FaultShort
	}
	in.V6, in.DF, in.TTL = true, true, h[7]
	in.Tuple.Src = Addr(h[ipv6Src : ipv6Src+16])
	in.Tuple.Dst = Addr(h[ipv6Dst : ipv6Dst+16])
	in.Multicast = h[ipv6Dst] == 0xff

	c := chain{proto: h[6], l4: in.L3 + IPv6Len, frag: -1}
	b = b[:min(len(b), in.L3+in.Len)]
	if f := c.walk(b); f != FaultNone {
		return f
	}
	in.Tuple.Proto = c.proto
	if f := martian6(in); f != FaultNone {
		return f
	}
	if c.frag >= 0 {
		word := be16(b[c.frag+2:])
		n := in.L3 + in.Len - (c.frag + 8)
		in.FragID = be32(b[c.frag+4:])
		if f := parseFrag(in, n, int(word&0xfff8), word&1 != 0); f != FaultNone {
			return f
		}
	}
	if in.Frag == FragTail {
		return FaultNone
	}
	return parseL4(b, in, c.l4)
}

// martian6 finds addresses that no packet on a wire has (RFC 4291 2.5). A
// mapped address would pass for the IPv4 address it holds. A node without an
// address may send ICMPv6 to multicast groups from "::" (RFC 4861, 3590).
func martian6(in *Info) Fault {
	src, dst := &in.Tuple.Src, &in.Tuple.Dst
	switch loopback := (Addr{15: 1}); {
	case *src == loopback, src[0] == 0xff, src.is4():
		return FaultSource
	case *src == Addr{} && (!in.Multicast || in.Tuple.Proto != ProtoICMPv6):
		return FaultSource
	case *dst == loopback, *dst == Addr{}, dst.is4():
		return FaultDestination
	}
	return FaultNone
}

// chain is a walk over extension headers.
type chain struct {
	proto uint8 // of what stands at l4
	l4    int
	frag  int // where the fragment header stands; -1: there is none
}

// walk follows the chain to the first header that is no extension header, or
// to the payload of a tail fragment.
func (c *chain) walk(b []byte) Fault {
	for i := range maxExtensions + 1 {
		size := 0
		switch c.proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts:
			if len(b)-c.l4 < 8 {
				return FaultShort
			}
			size = 8 + int(b[c.l4+1])*8
		case ProtoFragment:
			size = 8
		default:
			return FaultNone
		}
		switch h := b[c.l4:]; {
		case i == maxExtensions:
			return FaultExtensions
		case len(h) < size:
			return FaultShort
		case c.proto == ProtoHopByHop && i != 0, c.proto == ProtoFragment && c.frag >= 0:
			return FaultHeader
		case c.proto == ProtoRouting && h[3] != 0:
			return FaultSourceRoute // segments left: the checksum covers another destination
		}
		tail := false
		if c.proto == ProtoFragment {
			c.frag, tail = c.l4, be16(b[c.l4+2:])&0xfff8 != 0
		}
		c.proto, c.l4 = b[c.l4], c.l4+size
		if tail {
			return FaultNone
		}
	}
	return FaultExtensions
}
