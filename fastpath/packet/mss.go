package packet

// ClampMSS lowers the maximum segment size a SYN offers to what fits into
// packets of mtu bytes (RFC 9293 3.7.1: without options, 40 bytes of headers, 60
// with IPv6) and reports whether it did. A SYN without the option is left alone:
// its 536 bytes (1220 with IPv6) fit everywhere.
func ClampMSS(b []byte, in *Info, mtu int) bool {
	limit := mtu - IPv4Len - TCPLen
	if in.V6 {
		limit = mtu - IPv6Len - TCPLen
	}
	if in.TCPFlags&SYN == 0 || in.Tuple.Proto != ProtoTCP || in.L4 == 0 || limit <= 0 {
		return false
	}
	h := b[in.L4:min(len(b), in.L3+in.Len)]
	h = h[:min(len(h)&^1, int(h[12]>>4)*4)]
	at := mssOption(h)
	if at == 0 || int(be16(h[at:])) <= limit {
		return false
	}
	if in.Partial { // not summed yet
		put16(h[at:], uint16(limit))
		return true
	}
	// The option may stand at an odd offset; then its value is spread over two
	// words of the checksum. Counting the bytes around it makes it whole again.
	word := h[at&^1 : at&^1+2+2*(at&1)]
	old := add(0, word)
	put16(h[at:], uint16(limit))
	fix(h, tcpChecksum, change(old, add(0, word)))
	return true
}

// mssOption returns where the value of the MSS option stands in the TCP header
// h, or 0. As len(h) is even, the aligned words around it lie within h.
func mssOption(h []byte) int {
	const end, nop, mss = 0, 1, 2
	for at := TCPLen; at+4 <= len(h); {
		switch size := int(h[at+1]); {
		case h[at] == end:
			return 0
		case h[at] == nop:
			at++
		case h[at] == mss && size == 4:
			return at + 2
		case size < 2:
			return 0
		default:
			at += size
		}
	}
	return 0
}
