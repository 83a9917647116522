package packet

import "encoding/binary"

// Rewrite replaces addresses and ports by those of to, in place, with incremental
// checksums, and updates in.Tuple. Ports are ignored in a tail fragment and for
// protocols without ports; for ICMP echo the identifier is rewritten. to.Proto is
// ignored, its family must be the packet's.
//
// It returns true when SCTP ports changed: the CRC covers the whole packet and
// must be redone with PutSCTPChecksum (impossible when the packet is a fragment).
func Rewrite(b []byte, in *Info, to *Tuple) (sctp bool) {
	from := &in.Tuple
	if to.Src == from.Src && to.Dst == from.Dst && to.Sport == from.Sport && to.Dport == from.Dport {
		return false
	}
	h := b[in.L3:]
	var addrs uint64
	if in.V6 {
		addrs = change(from.Src.sum()+from.Dst.sum(), to.Src.sum()+to.Dst.sum())
		*(*Addr)(h[ipv6Src:]), *(*Addr)(h[ipv6Dst:]) = to.Src, to.Dst
	} else {
		src, dst := be32(to.Src[12:]), be32(to.Dst[12:])
		addrs = change(uint64(be32(from.Src[12:]))+uint64(be32(from.Dst[12:])), uint64(src)+uint64(dst))
		h = h[:IPv4Len]
		put32(h[ipv4Src:], src)
		put32(h[ipv4Dst:], dst)
		fix(h, ipv4Checksum, addrs)
	}
	if in.L4 == 0 {
		from.Sport, from.Dport = 0, 0
	} else {
		sctp = rewriteL4(b[in.L4:], in, to, addrs)
	}
	from.Src, from.Dst = to.Src, to.Dst
	return sctp
}

// rewriteL4 writes to's ports into the header h and into in.Tuple, and applies the change
// of the addresses and of the ports to the checksum.
func rewriteL4(h []byte, in *Info, to *Tuple, addrs uint64) (sctp bool) {
	from := &in.Tuple
	switch from.Proto {
	case ProtoICMP:
		rewriteEcho(h, in, to) // covers no addresses
		return false
	case ProtoICMPv6:
		rewriteEcho(h, in, to)
		fix(h, icmpChecksum, addrs)
		return false
	}
	put16(h[0:], to.Sport)
	put16(h[2:], to.Dport)
	ports := change(uint64(from.Sport)+uint64(from.Dport), uint64(to.Sport)+uint64(to.Dport))
	changed := to.Sport != from.Sport || to.Dport != from.Dport
	from.Sport, from.Dport = to.Sport, to.Dport
	if in.Partial {
		unfinished(h, checksumAt(from.Proto), addrs)
		return false
	}
	switch from.Proto {
	case ProtoTCP:
		if len(h) >= tcpChecksum+2 { // not so in the eight bytes an ICMP error may quote
			fix(h, tcpChecksum, addrs+ports)
		}
	case ProtoUDP:
		fixUDP(h, udpChecksum, addrs+ports)
	case ProtoSCTP:
		return changed
	}
	return false
}

// rewriteEcho writes the echo identifier and applies its change to the checksum. The
// other port, or both of what is no echo, are zeroed in in.Tuple.
func rewriteEcho(h []byte, in *Info, to *Tuple) {
	id := be16(h[icmpID:])
	old := id
	in.Tuple.Sport, in.Tuple.Dport = 0, 0
	switch echo(in.V6, in.ICMPType) {
	case echoRequest:
		id, in.Tuple.Sport = to.Sport, to.Sport
	case echoReply:
		id, in.Tuple.Dport = to.Dport, to.Dport
	}
	if id == old {
		return
	}
	put16(h[icmpID:], id)
	fix(h, icmpChecksum, change(uint64(old), uint64(id)))
	// An IPv4 echo reply may be all zeros; then only 0xffff is right, and where the
	// sum is zero in other ways it is right as well.
	if binary.BigEndian.Uint64(h) == 0 {
		put16(h[icmpChecksum:], 0xffff)
	}
}

// DecTTL takes one from the TTL or hop limit. The caller has checked that it is above 1.
func DecTTL(b []byte, in *Info) {
	h := b[in.L3:]
	in.TTL--
	if in.V6 {
		h[7] = in.TTL
		return
	}
	h = h[:IPv4Len]
	h[8] = in.TTL
	// 0x0100 less under the checksum is 0x0100 more in it, with the carry added again.
	sum := uint32(be16(h[ipv4Checksum:])) + 0x0100
	put16(h[ipv4Checksum:], uint16(sum+(sum+1)>>16))
}
