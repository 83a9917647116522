package packet

// ReplyLen is the capacity every function that writes a reply needs.
const ReplyLen = 640 // bytes, IP packet

// How much of the offending packet an ICMP error quotes.
const (
	quote4 = 128              // bytes behind the IP header; RFC 792 wants 8, RFC 1812 4.3.2.3 as much as fits 576
	error6 = 1280 - IPv6Len   // bytes of ICMPv6, header and quotation (RFC 4443 2.4 c)
	quote6 = error6 - ICMPLen // bytes from the IPv6 header on
)

// precedence6 is Internetwork Control, which ICMP errors carry (RFC 1812 4.3.2.5).
const precedence6 = 6 << 5

// Unreach says why a destination is unreachable.
type Unreach uint8

const (
	UnreachNet   Unreach = iota // no route
	UnreachHost                 // a route, but nobody there
	UnreachPort                 // nobody listens
	UnreachAdmin                // forbidden
)

var (
	unreachCode4 = [...]uint8{UnreachNet: 0, UnreachHost: 1, UnreachPort: 3, UnreachAdmin: 13} // RFC 1812 5.2.7.1
	unreachCode6 = [...]uint8{UnreachNet: 0, UnreachHost: 3, UnreachPort: 4, UnreachAdmin: 1}  // RFC 4443 3.1
)

// MayAnswer reports whether the packet may be answered with an ICMP error or a
// RST: errors, redirects, multicast, tail fragments and packets from nobody must
// not (RFC 1122 3.2.2, RFC 4443 2.4 e).
func MayAnswer(in *Info) bool {
	switch {
	case in.Multicast, in.Frag == FragTail, in.ICMPError, in.Tuple.Src.IsUnspecified():
		return false
	case in.L4 == 0:
		return true
	case in.Tuple.Proto == ProtoICMP:
		return in.ICMPType != icmpRedirect && in.ICMPType != icmpSourceQuench
	case in.Tuple.Proto == ProtoICMPv6:
		return in.ICMPType >= icmp6EchoRequest && in.ICMPType != icmp6Redirect
	}
	return true
}

// TimeExceeded writes "TTL exceeded in transit" about the packet at
// orig[in.L3:] to dst (capacity ReplyLen) and returns its length. The packet
// should be quoted as it arrived, so before any rewrite. src is our address.
func TimeExceeded(dst, orig []byte, in *Info, src Addr) int {
	if in.V6 {
		return putError(dst, orig, in, src, icmpHeader{kind: icmp6TimeExceeded})
	}
	return putError(dst, orig, in, src, icmpHeader{kind: icmpTimeExceeded})
}

// FragNeeded writes "fragmentation needed" or, for IPv6, "packet too big"; mtu
// is in bytes, IP header included.
func FragNeeded(dst, orig []byte, in *Info, src Addr, mtu int) int {
	if in.V6 {
		return putError(dst, orig, in, src, icmpHeader{kind: icmp6TooBig, rest: uint32(mtu)})
	}
	return putError(dst, orig, in, src, icmpHeader{kind: icmpUnreachable, code: 4, rest: uint32(min(mtu, 65535))})
}

// Unreachable writes "destination unreachable" with the code that says why.
func Unreachable(dst, orig []byte, in *Info, src Addr, why Unreach) int {
	if in.V6 {
		return putError(dst, orig, in, src, icmpHeader{kind: icmp6Unreachable, code: unreachCode6[why]})
	}
	return putError(dst, orig, in, src, icmpHeader{kind: icmpUnreachable, code: unreachCode4[why]})
}

// icmpHeader is the header of an ICMP error without its checksum.
type icmpHeader struct {
	kind, code uint8
	rest       uint32 // the second word
}

// putError writes IP header, ICMP header and quotation to dst.
func putError(dst, orig []byte, in *Info, src Addr, icmp icmpHeader) int {
	dst = dst[:max(len(dst), ReplyLen)]
	quote := orig[in.L3:min(len(orig), in.L3+in.Len)]
	l4, proto := IPv4Len, ProtoICMP
	if in.V6 {
		l4, proto = IPv6Len, ProtoICMPv6
		quote = quote[:min(len(quote), quote6)]
	} else {
		quote = quote[:min(len(quote), int(quote[0]&0xf)*4+quote4)]
	}
	h := dst[l4:]
	put32(h[0:], uint32(icmp.kind)<<24|uint32(icmp.code)<<16)
	put32(h[4:], icmp.rest)
	n := ICMPLen + copy(h[icmpQuote:], quote)
	putReplyIP(dst, proto, n, src, in)
	sum := add(0, h[:n])
	if in.V6 {
		sum += pseudo(&src, &in.Tuple.Src, proto, n)
	} else {
		dst[1] = precedence6
		fix(dst, ipv4Checksum, precedence6)
	}
	put16(h[icmpChecksum:], ^fold(sum))
	return l4 + n
}

// putReplyIP writes the IP header of a packet of n payload bytes from src to the
// sender of in.
func putReplyIP(dst []byte, proto uint8, n int, src Addr, in *Info) {
	if in.V6 {
		putIPv6(dst, n, proto, originTTL, Tuple{Src: src, Dst: in.Tuple.Src})
		return
	}
	putIPv4(dst, IPv4Len+n, proto, src.As4(), in.Tuple.Src.As4())
}

// putIPv6 writes an IPv6 header into b[:IPv6Len].
func putIPv6(b []byte, payload int, proto, hops uint8, t Tuple) {
	put32(b[0:], 6<<28)
	put16(b[4:], uint16(payload))
	b[6], b[7] = proto, hops
	copy(b[ipv6Src:], t.Src[:])
	copy(b[ipv6Dst:], t.Dst[:])
}
