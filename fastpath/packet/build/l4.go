package build

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vragent/vragent/fastpath/packet"
)

// flagLetters name the TCP flags from FIN (bit 0) to CWR, as tcpdump does, with A for ACK.
const flagLetters = "FSRPAUEC"

// Proto makes the payload follow the IP header directly, under this protocol number.
func (p *Packet) Proto(n uint8) *Packet { p.proto, p.l4 = n, nil; return p }

// UDP adds a UDP header.
func (p *Packet) UDP(sport, dport uint16) *Packet {
	p.proto, p.l4 = packet.ProtoUDP, ports(packet.UDPLen, sport, dport)
	return p
}

// NoChecksum leaves the L4 checksum 0.
func (p *Packet) NoChecksum() *Packet { p.bare = true; return p }

// TCP adds a TCP header; flags are letters of "FSRPAUEC".
func (p *Packet) TCP(sport, dport uint16, flags string) *Packet {
	p.proto, p.l4 = packet.ProtoTCP, ports(packet.TCPLen, sport, dport)
	for _, f := range flags {
		bit := strings.IndexRune(flagLetters, f)
		if bit < 0 {
			panic(fmt.Sprintf("build: TCP flag %q: want letters of %s", f, flagLetters))
		}
		p.l4[13] |= 1 << bit
	}
	return p.Seq(1000).Window(65535)
}

// Seq sets the TCP sequence number.
func (p *Packet) Seq(n uint32) *Packet { binary.BigEndian.PutUint32(p.tcp()[4:], n); return p }

// Ack sets the TCP acknowledgement number.
func (p *Packet) Ack(n uint32) *Packet { binary.BigEndian.PutUint32(p.tcp()[8:], n); return p }

// Window sets the TCP window.
func (p *Packet) Window(n uint16) *Packet { binary.BigEndian.PutUint16(p.tcp()[14:], n); return p }

// MSS adds the maximum segment size option.
func (p *Packet) MSS(n uint16) *Packet { return p.TCPOption(2, 4, byte(n>>8), byte(n)) }

// TCPOption adds raw option bytes; Bytes pads them to whole words.
func (p *Packet) TCPOption(b ...byte) *Packet { p.l4 = append(p.tcp(), b...); return p }

func (p *Packet) tcp() []byte {
	if p.proto != packet.ProtoTCP || len(p.l4) < packet.TCPLen {
		panic("build: a TCP field without TCP")
	}
	return p.l4
}

// SCTP adds an SCTP header and a DATA chunk that holds the payload.
func (p *Packet) SCTP(sport, dport uint16) *Packet {
	p.proto, p.l4 = packet.ProtoSCTP, ports(packet.SCTPLen, sport, dport)
	binary.BigEndian.PutUint32(p.l4[4:], 0xfeedbeef)
	return p
}

// Init makes the SCTP packet's chunk an INIT (RFC 9260 3.3.2) instead of DATA.
func (p *Packet) Init(tag uint32) *Packet {
	if p.proto != packet.ProtoSCTP {
		panic("build: an INIT chunk without SCTP")
	}
	binary.BigEndian.PutUint32(p.l4[4:], 0) // the packet's own verification tag
	chunk := []byte{1, 0, 0, 20, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1}
	binary.BigEndian.PutUint32(chunk[4:], tag)
	p.l4 = append(p.l4, chunk...)
	return p
}

// Echo makes an ICMP or ICMPv6 echo request.
func (p *Packet) Echo(id, seq uint16) *Packet {
	return p.ICMP(byFamily(p, 8, 128), 0, uint32(id)<<16|uint32(seq))
}

// EchoReply makes an ICMP or ICMPv6 echo reply.
func (p *Packet) EchoReply(id, seq uint16) *Packet {
	return p.ICMP(byFamily(p, 0, 129), 0, uint32(id)<<16|uint32(seq))
}

// ICMP makes any ICMP or ICMPv6 message; rest is the second word of its header.
func (p *Packet) ICMP(kind, code uint8, rest uint32) *Packet {
	p.proto, p.l4 = byFamily(p, packet.ProtoICMP, packet.ProtoICMPv6), []byte{kind, code, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(p.l4[4:], rest)
	return p
}

// TimeExceeded makes the ICMP error that quotes orig.
func (p *Packet) TimeExceeded(orig []byte) *Packet {
	return p.ICMP(byFamily(p, 11, 3), 0, 0).Payload(orig)
}

// PortUnreachable makes the ICMP error that quotes orig.
func (p *Packet) PortUnreachable(orig []byte) *Packet {
	return p.ICMP(byFamily(p, 3, 1), byFamily(p, 3, 4), 0).Payload(orig)
}

// FragNeeded makes the ICMP error (IPv6: packet too big) that quotes orig.
func (p *Packet) FragNeeded(mtu int, orig []byte) *Packet {
	return p.ICMP(byFamily(p, 3, 2), byFamily(p, 4, 0), uint32(mtu)).Payload(orig)
}

func byFamily(p *Packet, v4, v6 uint8) uint8 {
	if p.src.Is4() {
		return v4
	}
	return v6
}

func ports(size int, sport, dport uint16) []byte {
	h := make([]byte, size)
	binary.BigEndian.PutUint16(h[0:], sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	return h
}

// segment returns L4 header and payload with lengths and checksum.
func (p *Packet) segment() []byte {
	h := append([]byte(nil), p.l4...)
	if len(h) == 0 {
		return append(h, p.payload...)
	}
	switch p.proto {
	case packet.ProtoTCP:
		h = pad4(h)
		h[12] = byte(len(h)/4) << 4
	case packet.ProtoUDP:
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)+len(p.payload)))
	case packet.ProtoSCTP:
		if len(h) == packet.SCTPLen {
			h = append(h, 0, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 51)
			binary.BigEndian.PutUint16(h[14:], uint16(16+len(p.payload)))
			h = append(h, pad4(p.payload)...)
		}
		if !p.bare {
			binary.LittleEndian.PutUint32(h[8:], crc32c(h))
		}
		return h
	}
	h = append(h, p.payload...)
	if !p.bare {
		putChecksum(h, p.proto, p.src.AsSlice(), p.dst.AsSlice())
	}
	return h
}
