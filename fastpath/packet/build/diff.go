package build

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/fastpath/packet"
)

// Diff compares two frames or IP packets and names the fields that differ, a line
// each: "IPv4 TTL: got 63, want 64". It returns "" when they are equal.
func Diff(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	var g, w decoder
	g.start(got)
	w.start(want)
	var lines []string
	for i := 0; i < len(g.fields) && i < len(w.fields); i++ {
		a, b := g.fields[i], w.fields[i]
		if a.name != b.name {
			lines = append(lines, fmt.Sprintf("got %s %s, want %s %s", a.name, a.value, b.name, b.value))
			break
		}
		if a.value != b.value {
			lines = append(lines, fmt.Sprintf("%s: got %s, want %s", a.name, a.value, b.value))
		}
	}
	lines = append(lines, diffRest(g.rest, w.rest)...)
	if len(lines) == 0 {
		lines = []string{fmt.Sprintf("bytes: got % x, want % x", got, want)}
	}
	return strings.Join(append(lines, "got:  "+Describe(got), "want: "+Describe(want)), "\n")
}

func diffRest(got, want []byte) []string {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return []string{fmt.Sprintf("payload byte %d: got %#02x, want %#02x (lengths %d, %d)", i, got[i], want[i], len(got), len(want))}
		}
	}
	return []string{fmt.Sprintf("payload length: got %d, want %d", len(got), len(want))}
}

type field struct{ name, value string }

// decoder lists the fields of a packet in their order on the wire. It trusts
// nothing: whatever it cannot read becomes rest.
type decoder struct {
	layer  string // "inner ", "embedded "
	fields []field
	rest   []byte
}

func (d *decoder) add(name string, value any) {
	d.fields = append(d.fields, field{d.layer + name, fmt.Sprint(value)})
}

// number lists the big-endian number of size bytes at b[at:].
func (d *decoder) number(name string, b []byte, at, size int) {
	var v uint64
	for _, c := range b[at : at+size] {
		v = v<<8 | uint64(c)
	}
	if strings.Contains(name, "checksum") {
		d.add(name, fmt.Sprintf("0x%0*x", 2*size, v))
		return
	}
	d.add(name, v)
}

func (d *decoder) start(b []byte) {
	if !framed(b) {
		d.ip(b)
		return
	}
	d.add("Ethernet destination", fmt.Sprintf("% x", b[0:6]))
	d.add("Ethernet source", fmt.Sprintf("% x", b[6:12]))
	d.add("Ethernet type", fmt.Sprintf("%#04x", packet.EtherType(b)))
	if packet.EtherType(b) == packet.TypeARP {
		d.arp(b[packet.EthernetLen:])
		return
	}
	d.ip(b[packet.EthernetLen:])
}

func (d *decoder) arp(b []byte) {
	if d.rest = b; len(b) < packet.ARPLen {
		return
	}
	d.number("ARP operation", b, 6, 2)
	d.add("ARP sender MAC", fmt.Sprintf("% x", b[8:14]))
	d.add("ARP sender address", netip.AddrFrom4([4]byte(b[14:18])))
	d.add("ARP target MAC", fmt.Sprintf("% x", b[18:24]))
	d.add("ARP target address", netip.AddrFrom4([4]byte(b[24:28])))
	d.rest = append(append([]byte(nil), b[:6]...), b[packet.ARPLen:]...)
}

func (d *decoder) ip(b []byte) {
	d.rest = b
	switch {
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		d.ipv6(b)
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4 && b[0]&0xf >= 5 && len(b) >= int(b[0]&0xf)*4:
		d.ipv4(b)
	}
}

func (d *decoder) ipv4(b []byte) {
	ihl, word := int(b[0]&0xf)*4, binary.BigEndian.Uint16(b[6:])
	d.add("IPv4 header length", ihl)
	d.number("IPv4 type of service", b, 1, 1)
	d.number("IPv4 total length", b, 2, 2)
	d.number("IPv4 identification", b, 4, 2)
	d.add("IPv4 DF", word&0x4000 != 0)
	d.add("IPv4 more fragments", word&0x2000 != 0)
	d.add("IPv4 reserved flag", word&0x8000 != 0)
	d.add("IPv4 fragment offset", word&0x1fff*8)
	d.number("IPv4 TTL", b, 8, 1)
	d.number("IPv4 protocol", b, 9, 1)
	d.number("IPv4 header checksum", b, 10, 2)
	d.add("IPv4 source", netip.AddrFrom4([4]byte(b[12:16])))
	d.add("IPv4 destination", netip.AddrFrom4([4]byte(b[16:20])))
	d.add("IPv4 options", fmt.Sprintf("[% x]", b[packet.IPv4Len:ihl]))
	d.rest = b[ihl:]
	if word&0x1fff == 0 {
		d.l4(b[9], d.rest)
	}
}

func (d *decoder) ipv6(b []byte) {
	d.add("IPv6 traffic class", b[0]<<4|b[1]>>4)
	d.add("IPv6 flow label", binary.BigEndian.Uint32(b)&0xfffff)
	d.number("IPv6 payload length", b, 4, 2)
	d.number("IPv6 next header", b, 6, 1)
	d.number("IPv6 hop limit", b, 7, 1)
	d.add("IPv6 source", netip.AddrFrom16([16]byte(b[8:24])))
	d.add("IPv6 destination", netip.AddrFrom16([16]byte(b[24:40])))
	proto, tail := b[6], false
	d.rest = b[packet.IPv6Len:]
	for extensionHeader(proto) && len(d.rest) >= 8 && !tail {
		size := 8
		if proto == packet.ProtoFragment {
			word := binary.BigEndian.Uint16(d.rest[2:])
			d.add("IPv6 fragment offset", word&^7)
			d.add("IPv6 more fragments", word&1 != 0)
			d.number("IPv6 fragment identification", d.rest, 4, 4)
			tail = word&^7 != 0
		} else if size += int(d.rest[1]) * 8; size > len(d.rest) {
			return
		} else {
			d.add(fmt.Sprintf("IPv6 extension header %d", proto), fmt.Sprintf("[% x]", d.rest[1:size]))
		}
		d.number("IPv6 next header", d.rest, 0, 1)
		proto, d.rest = d.rest[0], d.rest[size:]
	}
	if !tail {
		d.l4(proto, d.rest)
	}
}

func (d *decoder) l4(proto uint8, b []byte) {
	switch {
	case proto == packet.ProtoTCP && len(b) >= packet.TCPLen:
		d.tcp(b)
	case proto == packet.ProtoUDP && len(b) >= packet.UDPLen:
		d.udp(b)
	case proto == packet.ProtoSCTP && len(b) >= packet.SCTPLen:
		d.number("SCTP source port", b, 0, 2)
		d.number("SCTP destination port", b, 2, 2)
		d.number("SCTP verification tag", b, 4, 4)
		d.number("SCTP checksum", b, 8, 4)
		d.rest = b[packet.SCTPLen:]
	case (proto == packet.ProtoICMP || proto == packet.ProtoICMPv6) && len(b) >= packet.ICMPLen:
		d.icmp(proto, b)
	}
}

func (d *decoder) tcp(b []byte) {
	d.number("TCP source port", b, 0, 2)
	d.number("TCP destination port", b, 2, 2)
	d.number("TCP sequence number", b, 4, 4)
	d.number("TCP acknowledgement number", b, 8, 4)
	d.number("TCP header length and reserved bits", b, 12, 1)
	d.add("TCP flags", Flags(b[13]))
	d.number("TCP window", b, 14, 2)
	d.number("TCP checksum", b, 16, 2)
	d.number("TCP urgent pointer", b, 18, 2)
	size := min(len(b), max(packet.TCPLen, int(b[12]>>4)*4))
	d.add("TCP options", fmt.Sprintf("[% x]", b[packet.TCPLen:size]))
	d.rest = b[size:]
}

func (d *decoder) udp(b []byte) {
	d.number("UDP source port", b, 0, 2)
	d.number("UDP destination port", b, 2, 2)
	d.number("UDP length", b, 4, 2)
	d.number("UDP checksum", b, 6, 2)
	d.rest = b[packet.UDPLen:]
	if binary.BigEndian.Uint16(b[2:]) != packet.TunnelPort || len(d.rest) < packet.MPLSLen {
		return
	}
	entry := binary.BigEndian.Uint32(d.rest)
	d.add("MPLS label", entry>>12)
	d.add("MPLS traffic class", entry>>9&7)
	d.add("MPLS bottom of stack", entry>>8&1)
	d.add("MPLS TTL", entry&0xff)
	d.layer += "inner "
	d.ip(d.rest[packet.MPLSLen:])
}

func (d *decoder) icmp(proto uint8, b []byte) {
	name := packet.ProtoName(proto)
	d.number(name+" type", b, 0, 1)
	d.number(name+" code", b, 1, 1)
	d.number(name+" checksum", b, 2, 2)
	d.number(name+" second word", b, 4, 4)
	d.rest = b[packet.ICMPLen:]
	isError := b[0] == 3 || b[0] == 11 || b[0] == 12
	if proto == packet.ProtoICMPv6 {
		isError = b[0] < 128
	}
	if isError {
		d.layer += "embedded "
		d.ip(d.rest)
	}
}
