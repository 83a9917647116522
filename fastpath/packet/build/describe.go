package build

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/fastpath/packet"
)

// Describe puts a frame or an IP packet into one line:
//
//	192.0.2.1:1000 > 192.0.2.2:53 UDP ttl 64 len 128
//	198.51.100.1 > 198.51.100.2 label 17 | 192.0.2.1 > 192.0.2.2 ICMP echo request id 7 ttl 64 len 84
//
// What cannot be read is described as far as possible.
func Describe(b []byte) string {
	l3 := 0
	if framed(b) {
		if packet.EtherType(b) == packet.TypeARP {
			return describeARP(b)
		}
		l3 = packet.EthernetLen
	}
	if l3 > 0 {
		var t packet.Tunnel
		if packet.ParseTunnel(b, len(b), &t) == packet.FaultNone {
			return fmt.Sprintf("%v > %v label %d | %s", t.Src, t.Dst, t.Label, Describe(b[t.Inner:t.Inner+t.Len]))
		}
	} else if framedIP := append(make([]byte, packet.EthernetLen), b...); len(b) > 0 && b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(framedIP[12:], packet.TypeIPv4)
		var t packet.Tunnel
		if packet.ParseTunnel(framedIP, len(framedIP), &t) == packet.FaultNone {
			return Describe(framedIP)
		}
	}
	var in packet.Info
	if f := packet.ParseIP(b, l3, len(b)-l3, &in); f != packet.FaultNone {
		return fmt.Sprintf("%d bytes: %v: % x", len(b), f, b[:min(len(b), 64)])
	}
	return describeIP(b, &in)
}

func describeIP(b []byte, in *packet.Info) string {
	s := []string{in.Tuple.String()}
	if in.Frag == packet.FragTail { // it has no ports, not ports 0
		s[0] = fmt.Sprintf("%v > %v %s", in.Tuple.Src, in.Tuple.Dst, packet.ProtoName(in.Tuple.Proto))
	}
	switch {
	case in.L4 == 0:
	case in.Tuple.Proto == packet.ProtoTCP:
		s = append(s, Flags(in.TCPFlags))
	case in.Tuple.Proto == packet.ProtoICMP || in.Tuple.Proto == packet.ProtoICMPv6:
		s = append(s, describeICMP(b, in))
	}
	if in.Frag != packet.FragNone {
		s = append(s, fmt.Sprintf("fragment %d at %d", in.FragID, in.FragOff))
	}
	s = append(s, fmt.Sprintf("ttl %d len %d", in.TTL, in.Len))
	if in.InnerL3 != 0 {
		s = append(s, fmt.Sprintf("about (%v)", in.Inner))
	}
	return strings.Join(s, " ")
}

func describeICMP(b []byte, in *packet.Info) string {
	kind := int(in.ICMPType)
	if in.V6 {
		kind += 1000
	}
	id := binary.BigEndian.Uint16(b[in.L4+4:])
	switch kind {
	case 8, 1128:
		return fmt.Sprintf("echo request id %d", id)
	case 0, 1129:
		return fmt.Sprintf("echo reply id %d", id)
	case 3, 1001:
		return fmt.Sprintf("unreachable code %d", in.ICMPCode)
	case 11, 1003:
		return "time exceeded"
	case 1002:
		return fmt.Sprintf("packet too big mtu %d", binary.BigEndian.Uint32(b[in.L4+4:]))
	case 1135:
		return "neighbour solicitation"
	case 1136:
		return "neighbour advertisement"
	}
	return fmt.Sprintf("type %d code %d", in.ICMPType, in.ICMPCode)
}

func describeARP(b []byte) string {
	arp, f := packet.ParseARP(b, packet.EthernetLen)
	if f != packet.FaultNone {
		return fmt.Sprintf("%d bytes: %v", len(b), f)
	}
	sender, target := netip.AddrFrom4(arp.SenderIP), netip.AddrFrom4(arp.TargetIP)
	if arp.Op == packet.ARPRequest {
		return fmt.Sprintf("ARP who has %v, tell %v", target, sender)
	}
	return fmt.Sprintf("ARP %v is at %x, for %v", sender, arp.SenderMAC, target)
}

// Flags returns the letters of TCP flags: "SA".
func Flags(f uint8) string {
	var s strings.Builder
	for i, c := range flagLetters {
		if f>>i&1 != 0 {
			s.WriteRune(c)
		}
	}
	return s.String()
}

// framed reports whether b begins with an Ethernet header rather than an IP
// header. Our own addresses (02:…, 00:00:5e:…) and group addresses never begin like
// an IP header.
func framed(b []byte) bool {
	if len(b) < packet.EthernetLen {
		return false
	}
	switch packet.EtherType(b) {
	case packet.TypeIPv4, packet.TypeIPv6, packet.TypeARP:
		return b[0]>>4 != 4 && b[0]>>4 != 6
	}
	return false
}
