package packet

// ARP operations (RFC 826).
const (
	ARPRequest uint16 = 1
	ARPReply   uint16 = 2
)

// ARP is an ARP message for IPv4 over Ethernet.
type ARP struct {
	Op                 uint16
	SenderMAC          [6]byte
	SenderIP, TargetIP [4]byte
}

// ParseARP reads the ARP message at b[off:].
func ParseARP(b []byte, off int) (ARP, Fault) {
	if off < 0 || len(b)-off < ARPLen {
		return ARP{}, FaultShort
	}
	h := b[off:]
	if be32(h) != 1<<16|uint32(TypeIPv4) || be16(h[4:]) != 6<<8|4 { // Ethernet, IPv4, lengths 6 and 4
		return ARP{}, FaultARP
	}
	return ARP{
		Op:        be16(h[6:]),
		SenderMAC: [6]byte(h[8:14]),
		SenderIP:  [4]byte(h[14:18]),
		TargetIP:  [4]byte(h[24:28]),
	}, FaultNone
}

// PutARPReply turns the ARP request in frame b into its answer: the address that
// was asked for is at mac.
func PutARPReply(b []byte, mac [6]byte) {
	h := b[EthernetLen : EthernetLen+ARPLen]
	asker, target := [10]byte(h[8:18]), [4]byte(h[24:28])
	copy(b[0:], asker[:6])
	copy(b[6:], mac[:])
	put16(h[6:], ARPReply)
	copy(h[8:], mac[:])
	copy(h[14:], target[:])
	copy(h[18:], asker[:])
}

// Neighbour discovery (RFC 4861 4.3, 4.4, 4.6.1).
const (
	ndTarget  = 8                   // bytes from the ICMPv6 header
	ndOptions = 24                  // bytes from the ICMPv6 header
	ndHops    = 255                 // proves that the sender is on this link
	naFlags   = uint32(0b111) << 29 // router, solicited, override
	naLen     = IPv6Len + ndOptions + 8

	ndSourceMAC = 1
	ndTargetMAC = 2
)

// ParseNS reads the neighbour solicitation that in describes (in.ND is 135) and
// checks it as RFC 4861 7.1.1 asks. A probe of duplicate address detection (source
// "::") is FaultProbe.
func ParseNS(b []byte, in *Info) (target Addr, srcMAC [6]byte, hasMAC bool, f Fault) {
	end := in.L3 + in.Len
	if in.ND != icmp6NS || in.TTL != ndHops || in.ICMPCode != 0 || in.Frag != FragNone || end-in.L4 < ndOptions {
		return target, srcMAC, false, FaultND
	}
	if end > len(b) {
		return target, srcMAC, false, FaultShort
	}
	h := b[in.L4:end]
	if fold(add(pseudo(&in.Tuple.Src, &in.Tuple.Dst, ProtoICMPv6, len(h)), h)) != 0xffff {
		return target, srcMAC, false, FaultChecksum
	}
	target = Addr(h[ndTarget:ndOptions])
	if target.IsMulticast() || target.Is4() {
		return target, srcMAC, false, FaultND
	}
	for opts := h[ndOptions:]; len(opts) > 0; {
		if len(opts) < 8 || opts[1] == 0 || int(opts[1])*8 > len(opts) {
			return target, srcMAC, false, FaultND
		}
		if opts[0] == ndSourceMAC {
			srcMAC, hasMAC = [6]byte(opts[2:8]), true
		}
		opts = opts[int(opts[1])*8:]
	}
	if in.Tuple.Src == (Addr{}) {
		return target, srcMAC, false, FaultProbe
	}
	return target, srcMAC, hasMAC, FaultNone
}

// PutNA writes the IPv6 packet of a solicited neighbour advertisement to dst
// (capacity ReplyLen) and returns its length: target, a router, is at mac.
func PutNA(dst []byte, target, to Addr, mac [6]byte) int {
	b := dst[:naLen]
	putIPv6(b, naLen-IPv6Len, ProtoICMPv6, ndHops, Tuple{Src: target, Dst: to})
	h := b[IPv6Len:]
	put32(h[0:], uint32(icmp6NA)<<24)
	put32(h[4:], naFlags)
	copy(h[ndTarget:], target[:])
	h[ndOptions], h[ndOptions+1] = ndTargetMAC, 1
	copy(h[ndOptions+2:], mac[:])
	put16(h[icmpChecksum:], ^fold(add(pseudo(&target, &to, ProtoICMPv6, len(h)), h)))
	return naLen
}
