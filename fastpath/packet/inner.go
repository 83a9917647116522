package packet

// ICMP and ICMPv6 types (IANA).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpSourceQuench = 4
	icmpRedirect     = 5
	icmpEchoRequest  = 8
	icmpTimeExceeded = 11
	icmpParameter    = 12

	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6Parameter    = 4
	icmp6EchoRequest  = 128
	icmp6EchoReply    = 129
	icmp6RS           = 133
	icmp6NS           = 135
	icmp6NA           = 136
	icmp6Redirect     = 137
)

// parseICMP reads the ICMP or ICMPv6 header at b[l4:] and, in errors, the
// headers of the packet embedded there.
func parseICMP(b []byte, in *Info, l4 int) Fault {
	h := b[l4:]
	if len(h) < ICMPLen {
		return FaultShort
	}
	in.L4, in.ICMPType, in.ICMPCode = l4, h[0], h[1]
	if in.V6 {
		in.ICMPError = in.ICMPType >= icmp6Unreachable && in.ICMPType <= icmp6Parameter
		if in.ICMPType >= icmp6RS && in.ICMPType <= icmp6Redirect {
			in.ND = in.ICMPType
		}
	} else {
		t := in.ICMPType
		in.ICMPError = t == icmpUnreachable || t == icmpTimeExceeded || t == icmpParameter
	}
	switch id := be16(h[icmpID:]); echo(in.V6, in.ICMPType) {
	case echoRequest:
		in.Tuple.Sport = id
	case echoReply:
		in.Tuple.Dport = id
	}
	if in.ICMPError {
		parseInner(b, in, l4+icmpQuote)
	}
	return FaultNone
}

type echoKind uint8

const (
	echoNone echoKind = iota
	echoRequest
	echoReply
)

// echo tells which port of the tuple holds the identifier.
func echo(v6 bool, icmpType uint8) echoKind {
	switch {
	case !v6 && icmpType == icmpEchoRequest, v6 && icmpType == icmp6EchoRequest:
		return echoRequest
	case !v6 && icmpType == icmpEchoReply, v6 && icmpType == icmp6EchoReply:
		return echoReply
	}
	return echoNone
}

// parseInner reads the embedded packet at b[off:]. It is a quotation: cut off
// anywhere, its lengths and checksums mean little. What cannot be used is left 0.
func parseInner(b []byte, in *Info, off int) {
	h := b[off:]
	var t Tuple
	var l4 int
	switch {
	case !in.V6 && len(h) >= IPv4Len && h[0]>>4 == 4:
		t = Tuple{Src: AddrFrom4(h[ipv4Src:]), Dst: AddrFrom4(h[ipv4Dst:]), Proto: h[9]}
		if ihl := int(h[0]&0xf) * 4; ihl < IPv4Len || ihl > len(h) {
			return
		} else if be16(h[6:])&0x1fff == 0 {
			l4 = off + ihl
		}
	case in.V6 && len(h) >= IPv6Len && h[0]>>4 == 6:
		t = Tuple{Src: Addr(h[ipv6Src : ipv6Src+16]), Dst: Addr(h[ipv6Dst : ipv6Dst+16])}
		c := chain{proto: h[6], l4: off + IPv6Len, frag: -1}
		if c.walk(b) != FaultNone || t.Src.Is4() || t.Dst.Is4() {
			return
		}
		t.Proto = c.proto
		if c.frag < 0 || be16(b[c.frag+2:])&0xfff8 == 0 {
			l4 = c.l4
		}
	default:
		return
	}
	in.InnerL3, in.Inner = off, t
	if l4 != 0 && len(b)-l4 >= 8 { // what RFC 792 promises, and enough for all ports
		in.InnerL4 = innerPorts(b, in, l4)
	}
}

// innerPorts fills the ports of in.Inner and returns l4, or 0 for protocols we do not read.
func innerPorts(b []byte, in *Info, l4 int) int {
	h, t := b[l4:], &in.Inner
	switch t.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		t.Sport, t.Dport = be16(h[0:]), be16(h[2:])
		return l4
	case ProtoICMP, ProtoICMPv6:
		if in.V6 != (t.Proto == ProtoICMPv6) {
			return 0
		}
		switch id := be16(h[icmpID:]); echo(in.V6, h[0]) {
		case echoRequest:
			t.Sport = id
		case echoReply:
			t.Dport = id
		}
		return l4
	}
	return 0
}

// RewriteInner translates the packet embedded in an ICMP error: addresses, ports
// (or echo identifier) and the checksums quoted with it, then the checksum of the
// ICMP message. in.Inner becomes to. A quoted SCTP CRC stays as it is: it covers
// bytes that are not here.
func RewriteInner(b []byte, in *Info, to Tuple) {
	if in.InnerL3 == 0 || to == in.Inner {
		return
	}
	q := Info{L3: in.InnerL3, L4: in.InnerL4, V6: in.V6, Tuple: in.Inner}
	end := min(len(b), in.L3+in.Len)
	touched := b[q.L3:end]
	if q.L4 != 0 {
		q.ICMPType = b[q.L4]
		touched = b[q.L3:min(end, q.L4+TCPLen)]
	}
	old := add(0, touched)
	Rewrite(b[:end], &q, &to)
	fix(b, in.L4+icmpChecksum, change(old, add(0, touched)))
	in.Inner = q.Tuple
}
