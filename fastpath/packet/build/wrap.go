package build

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
)

// MAC parses "02:00:5e:00:00:01".
func MAC(s string) [6]byte {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		panic(fmt.Sprintf("build: MAC %q: want six hex bytes separated by colons", s))
	}
	return [6]byte(m)
}

// Eth wraps the packet in an Ethernet header.
func (p *Packet) Eth(dst, src [6]byte) *Packet {
	p.wraps = append(p.wraps, func(b []byte) []byte { return Eth(b, dst, src) })
	return p
}

// Tunnel wraps the packet in MPLS over UDP, with the source port of its flow.
func (p *Packet) Tunnel(src, dst string, label uint32) *Packet {
	p.wraps = append(p.wraps, func(b []byte) []byte { return Tunnel(b, src, dst, label) })
	return p
}

// Pad adds n zero bytes: Ethernet padding.
func (p *Packet) Pad(n int) *Packet {
	p.wraps = append(p.wraps, func(b []byte) []byte { return append(b, make([]byte, n)...) })
	return p
}

// Eth returns a frame that holds the IP packet b.
func Eth(b []byte, dst, src [6]byte) []byte {
	t := packet.TypeIPv4
	if b[0]>>4 == 6 {
		t = packet.TypeIPv6
	}
	return append(ethernet(dst, src, t), b...)
}

// Tunnel returns the outer IP packet that carries the IP packet b: DF, TTL 64, no
// UDP checksum, one label with TTL 64.
func Tunnel(b []byte, src, dst string, label uint32) []byte {
	var in packet.Info
	packet.ParseIP(b, 0, len(b), &in)
	mpls := binary.BigEndian.AppendUint32(nil, label<<12|0x100|64)
	return IPv4(src, dst).DF().
		UDP(0xC000|uint16(in.Hash()&0x3fff), packet.TunnelPort).NoChecksum().
		Payload(append(mpls, b...)).Bytes()
}

// ARPRequest returns the frame that asks everyone who has target.
func ARPRequest(mac [6]byte, sender, target string) []byte {
	b := ethernet([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, packet.TypeARP)
	return append(b, arp(packet.ARPRequest, mac, sender, [6]byte{}, target)...)
}

// ARPReply returns the frame that tells (target, targetMAC) that sender is at mac.
func ARPReply(mac [6]byte, sender string, targetMAC [6]byte, target string) []byte {
	b := ethernet(targetMAC, mac, packet.TypeARP)
	return append(b, arp(packet.ARPReply, mac, sender, targetMAC, target)...)
}

func arp(op uint16, mac [6]byte, sender string, targetMAC [6]byte, target string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, mac[:]...)
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	b = append(b, targetMAC[:]...)
	return append(b, netip.MustParseAddr(target).AsSlice()...)
}

// NS returns the neighbour solicitation that src at mac sends for target, to its
// solicited-node group (RFC 4861 4.3). With src "::" it is a probe and names no mac.
func NS(src, target string, mac [6]byte) *Packet {
	t := netip.MustParseAddr(target).As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	body := t[:]
	if src != "::" {
		body = append(append(body, 1, 1), mac[:]...)
	}
	return IPv6(src, group.String()).TTL(255).ICMP(135, 0, 0).Payload(body)
}

// NA returns the advertisement a router answers it with: solicited, override.
func NA(src, dst string, mac [6]byte) *Packet {
	t := netip.MustParseAddr(src).As16()
	body := append(append(t[:], 2, 1), mac[:]...)
	return IPv6(src, dst).TTL(255).ICMP(136, 0, 0xe0000000).Payload(body)
}

// Fragments cuts the IP packet b (IPv4 without options, IPv6 without extension
// headers) into fragments of at most mtu bytes. One piece comes back as it is.
func Fragments(b []byte, mtu int, id uint32) [][]byte {
	if len(b) <= mtu {
		return [][]byte{b}
	}
	size, room, next := packet.IPv4Len, (mtu-packet.IPv4Len)&^7, 9
	if b[0]>>4 == 6 {
		size, room, next = packet.IPv6Len, (mtu-packet.IPv6Len-8)&^7, 6
	}
	var out [][]byte
	payload := b[size:]
	for off := 0; off < len(payload); off += room {
		part := payload[off:min(len(payload), off+room)]
		p := header(b).Frag(id, off, off+len(part) < len(payload)).Proto(b[next])
		out = append(out, p.Payload(part).Bytes())
	}
	return out
}

// header begins a packet like b.
func header(b []byte) *Packet {
	if b[0]>>4 == 6 {
		src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		return IPv6(src.String(), dst.String()).TTL(b[7]).TOS(b[0]<<4 | b[1]>>4)
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return IPv4(src.String(), dst.String()).TTL(b[8]).TOS(b[1])
}

func ethernet(dst, src [6]byte, etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst[:], src[:]...), etherType)
}
