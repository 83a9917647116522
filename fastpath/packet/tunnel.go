package packet

// TunnelPort is the UDP destination port of MPLS over UDP (RFC 7510).
const TunnelPort = 6635

// TunnelLen is what PutTunnel writes.
const TunnelLen = IPv4Len + UDPLen + MPLSLen // bytes: 20 + 8 + 4

// TTL of the packets we originate: tunnels (outer and label) and ICMP errors.
const originTTL = 64

// Tunnel is what ParseTunnel found around a packet.
type Tunnel struct {
	Src, Dst Addr
	Label    uint32
	Sport    uint16 // entropy, of the sender's choice
	Inner    int    // offset of the inner IP packet in the frame
	Len      int    // bytes from Inner to the end of the datagram
}

// parseAny is ParseTunnel for whatever comes.
func (t *Tunnel) parseAny(b []byte, total int) Fault {
	*t = Tunnel{}
	if len(b) < EthernetLen+IPv4Len || EtherType(b) != TypeIPv4 {
		return FaultNotTunnel
	}
	h := b[EthernetLen:]
	_ = h[IPv4Len-1]
	ihl, length := int(h[0]&0xf)*4, int(be16(h[2:]))
	switch {
	case h[0]>>4 != 4 || h[9] != ProtoUDP:
		return FaultNotTunnel
	case ihl < IPv4Len:
		return FaultHeader
	case be16(h[6:])&0x3fff != 0:
		return FaultFragment
	case len(h) < ihl+UDPLen:
		return FaultShort
	case be16(h[ihl+2:]) != TunnelPort:
		return FaultNotTunnel
	case len(h) < ihl+UDPLen+MPLSLen || length > total-EthernetLen:
		return FaultShort
	case !intact4(h, ihl):
		return FaultChecksum
	}
	t.Src.set4(h[ipv4Src:])
	t.Dst.set4(h[ipv4Dst:])
	return t.parseUDP(b, EthernetLen+ihl, length-ihl)
}

// parseUDP reads the UDP and MPLS headers at b[l4:]; n bytes of the IP packet are left there.
func (t *Tunnel) parseUDP(b []byte, l4, n int) Fault {
	h := b[l4:]
	_ = h[UDPLen+MPLSLen-1] // parseAny has looked
	size := int(be16(h[4:]))
	switch {
	case size < UDPLen+MPLSLen, size > n:
		return FaultLength
	case be16(h[udpChecksum:]) != 0 && size <= len(h):
		// Senders use 0 (RFC 7510 3.1). Where one does not, look: the label has no
		// other protection. Jumbo frames in several chunks go unverified.
		if fold(add(pseudo(&t.Src, &t.Dst, ProtoUDP, size), h[:size])) != 0xffff {
			return FaultChecksum
		}
	}
	entry := be32(h[UDPLen:]) // label 20, traffic class 3, S 1, TTL 8 bits (RFC 3032)
	switch {
	case entry&0x100 == 0:
		return FaultLabelStack
	case entry&0xff == 0:
		return FaultLabelTTL
	}
	t.Sport, t.Label = be16(h[0:]), entry>>12
	t.Inner, t.Len = l4+UDPLen+MPLSLen, size-UDPLen-MPLSLen
	return FaultNone
}

// Outer is what differs between the tunnel headers we write.
type Outer struct {
	Src, Dst [4]byte
	Sport    uint16
	Label    uint32
}

// PutTunnel writes outer IPv4, UDP and MPLS headers into b[:TunnelLen] for an
// inner packet of innerLen bytes: DF, identification 0 (RFC 6864 4.1), no UDP
// checksum (RFC 7510 3.1), one label.
func PutTunnel(b []byte, o *Outer, innerLen int) {
	b = b[:TunnelLen]
	putIPv4(b, TunnelLen+innerLen, ProtoUDP, o.Src, o.Dst)
	put16(b[20:], o.Sport)
	put16(b[22:], TunnelPort)
	put16(b[24:], uint16(UDPLen+MPLSLen+innerLen))
	put16(b[26:], 0)
	put32(b[28:], o.Label<<12|1<<8|originTTL)
}

// putIPv4 writes an IPv4 header of our own into b[:IPv4Len]: DF, TTL 64, right checksum.
func putIPv4(b []byte, length int, proto uint8, src, dst [4]byte) {
	const first, flags, ttl = 0x4500, 0x4000, originTTL << 8 // flags: DF, identification 0
	b = b[:IPv4Len]
	from, to := be32(src[:]), be32(dst[:])
	sum := first + uint64(length) + flags + ttl + uint64(proto) + uint64(from) + uint64(to)
	put32(b[0:], first<<16|uint32(length))
	put32(b[4:], flags)
	put32(b[8:], ttl<<16|uint32(proto)<<16|uint32(^fold(sum)))
	put32(b[ipv4Src:], from)
	put32(b[ipv4Dst:], to)
}

// EntropyPort spreads tunnels over the underlay's paths by their inner flow (RFC 7510 3).
func EntropyPort(hash uint32) uint16 { return uint16(0xC000 | hash&0x3fff) }
