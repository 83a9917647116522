package packet

// Reset writes the TCP RST that answers the segment at orig[in.L3:] to dst
// (capacity ReplyLen), from its destination to its source (RFC 9293 3.10.7.1),
// and returns its length; 0 when none is due: not TCP, a RST itself, or a
// fragment, whose length nobody here knows.
func Reset(dst, orig []byte, in *Info) int {
	if in.Tuple.Proto != ProtoTCP || in.L4 == 0 || in.Frag != FragNone || in.TCPFlags&RST != 0 {
		return 0
	}
	dst = dst[:max(len(dst), ReplyLen)]
	l4 := IPv4Len
	if in.V6 {
		l4 = IPv6Len
	}
	seg, h := orig[in.L4:], dst[l4:l4+TCPLen]
	put16(h[0:], in.Tuple.Dport)
	put16(h[2:], in.Tuple.Sport)
	if in.TCPFlags&ACK != 0 {
		put32(h[4:], be32(seg[8:])) // continue where the peer expects us
		put32(h[8:], 0)
		put32(h[12:], 5<<28|uint32(RST)<<16)
	} else {
		put32(h[4:], 0)
		put32(h[8:], be32(seg[4:])+segmentLen(seg, in))
		put32(h[12:], 5<<28|uint32(RST|ACK)<<16)
	}
	put32(h[tcpChecksum:], 0)
	putReplyIP(dst, ProtoTCP, TCPLen, in.Tuple.Dst, in)
	put16(h[tcpChecksum:], ^fold(add(pseudo(&in.Tuple.Src, &in.Tuple.Dst, ProtoTCP, TCPLen), h)))
	return l4 + TCPLen
}

// segmentLen is SEG.LEN of RFC 9293: the data and one each for SYN and FIN.
func segmentLen(seg []byte, in *Info) uint32 {
	n := uint32(in.Len - (in.L4 - in.L3) - int(seg[12]>>4)*4)
	if in.TCPFlags&SYN != 0 {
		n++
	}
	if in.TCPFlags&FIN != 0 {
		n++
	}
	return n
}
