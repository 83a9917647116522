package packet_test

import (
	"encoding/binary"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

const (
	a4, b4, c4 = "192.0.2.1", "192.0.2.2", "198.51.100.3"
	a6, b6, c6 = "2001:db8::1", "2001:db8::2", "2001:db8:1::3"
)

// parse parses an IP packet that must be good.
func parse(t *testing.T, b []byte) *Info {
	t.Helper()
	var in Info
	if f := ParseIP(b, 0, len(b), &in); f != FaultNone {
		t.Fatalf("%s: %v", build.Describe(b), f)
	}
	return &in
}

func TestParseIP(t *testing.T) {
	udp4 := build.IPv4(a4, b4).UDP(1000, 53).Payload(8).Bytes()
	udp6 := build.IPv6(a6, b6).UDP(1000, 53).Payload(8).Bytes()
	for name, c := range map[string]struct {
		packet []byte
		want   Info
	}{
		"smallest: an IPv4 header": {
			build.IPv4(a4, b4).Bytes(),
			Info{Len: 20, TTL: 64, Tuple: tuple(a4, b4, 0, 0, 253)},
		},
		"smallest: an IPv6 header": {
			build.IPv6(a6, b6).Proto(59).Bytes(),
			Info{Len: 40, V6: true, DF: true, TTL: 64, Tuple: tuple(a6, b6, 0, 0, 59)},
		},
		"largest IPv4": {
			build.IPv4(a4, b4).UDP(1, 2).Payload(65535 - 28).Bytes(),
			Info{Len: 65535, L4: 20, TTL: 64, Tuple: tuple(a4, b4, 1, 2, ProtoUDP)},
		},
		"largest IPv6": {
			build.IPv6(a6, b6).UDP(1, 2).Payload(65535 - 8).Bytes(),
			Info{Len: 65575, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(a6, b6, 1, 2, ProtoUDP)},
		},
		"TCP, DF, TTL 1, padding": {
			build.IPv4(a4, b4).TTL(1).DF().TCP(1000, 80, "SA").Pad(6).Bytes(),
			Info{Len: 40, L4: 20, TTL: 1, DF: true, Tuple: tuple(a4, b4, 1000, 80, ProtoTCP), TCPFlags: SYN | ACK},
		},
		"IPv4 options": {
			build.IPv4(a4, b4).Options(7, 7, 4, 0, 0, 0, 0, 0).TCP(1000, 80, "F").MSS(1400).Bytes(),
			Info{Len: 52, L4: 28, TTL: 64, Tuple: tuple(a4, b4, 1000, 80, ProtoTCP), TCPFlags: FIN},
		},
		"most IPv4 options and TCP options": {
			build.IPv4(a4, b4).Options(make([]byte, 40)...).TCP(1, 2, "").TCPOption(make([]byte, 40)...).Bytes(),
			Info{Len: 120, L4: 60, TTL: 64, Tuple: tuple(a4, b4, 1, 2, ProtoTCP)},
		},
		"SCTP": {
			build.IPv4(a4, b4).SCTP(5000, 5001).Payload(5).Bytes(),
			Info{Len: 20 + 12 + 16 + 8, L4: 20, TTL: 64, Tuple: tuple(a4, b4, 5000, 5001, ProtoSCTP)},
		},
		"ESP has no ports": {
			build.IPv4(a4, b4).Proto(50).Payload(40).Bytes(),
			Info{Len: 60, TTL: 64, Tuple: tuple(a4, b4, 0, 0, 50)},
		},
		"ICMPv6 over IPv4 is nothing we know": {
			build.IPv4(a4, b4).Proto(ProtoICMPv6).Payload(40).Bytes(),
			Info{Len: 60, TTL: 64, Tuple: tuple(a4, b4, 0, 0, ProtoICMPv6)},
		},
		"echo request": {
			build.IPv4(a4, b4).Echo(7, 1).Payload(56).Bytes(),
			Info{Len: 84, L4: 20, TTL: 64, Tuple: tuple(a4, b4, 7, 0, ProtoICMP), ICMPType: 8},
		},
		"echo reply": {
			build.IPv4(a4, b4).EchoReply(7, 1).Bytes(),
			Info{Len: 28, L4: 20, TTL: 64, Tuple: tuple(a4, b4, 0, 7, ProtoICMP)},
		},
		"echo request, IPv6": {
			build.IPv6(a6, b6).Echo(7, 1).Bytes(),
			Info{Len: 48, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(a6, b6, 7, 0, ProtoICMPv6), ICMPType: 128},
		},
		"echo reply, IPv6": {
			build.IPv6(a6, b6).EchoReply(7, 1).Bytes(),
			Info{Len: 48, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(a6, b6, 0, 7, ProtoICMPv6), ICMPType: 129},
		},
		"other ICMP": {
			build.IPv4(a4, b4).ICMP(13, 0, 0x00070001).Payload(12).Bytes(),
			Info{Len: 40, L4: 20, TTL: 64, Tuple: tuple(a4, b4, 0, 0, ProtoICMP), ICMPType: 13},
		},
		"unreachable": {
			build.IPv4(c4, a4).PortUnreachable(udp4).Bytes(),
			Info{Len: 28 + 36, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 3, ICMPCode: 3,
				ICMPError: true, InnerL3: 28, InnerL4: 48, Inner: tuple(a4, b4, 1000, 53, ProtoUDP)},
		},
		"time exceeded, eight bytes quoted": {
			build.IPv4(c4, a4).TimeExceeded(udp4[:28]).Bytes(),
			Info{Len: 56, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11,
				ICMPError: true, InnerL3: 28, InnerL4: 48, Inner: tuple(a4, b4, 1000, 53, ProtoUDP)},
		},
		"seven bytes quoted": {
			build.IPv4(c4, a4).TimeExceeded(udp4[:27]).Bytes(),
			Info{Len: 55, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11,
				ICMPError: true, InnerL3: 28, Inner: tuple(a4, b4, 0, 0, ProtoUDP)},
		},
		"half a header quoted": {
			build.IPv4(c4, a4).TimeExceeded(udp4[:19]).Bytes(),
			Info{Len: 47, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11, ICMPError: true},
		},
		"IPv6 in an IPv4 error": {
			build.IPv4(c4, a4).TimeExceeded(udp6).Bytes(),
			Info{Len: 28 + 56, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11, ICMPError: true},
		},
		"quoted header length is wrong": {
			build.IPv4(c4, a4).TimeExceeded(patched(udp4, 0, 0x4f)).Bytes(),
			Info{Len: 64, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11, ICMPError: true},
		},
		"quoted extension headers are cut off": {
			build.IPv6(c6, a6).TimeExceeded(build.IPv6(a6, b6).Ext(60, 16).Bytes()[:50]).Bytes(),
			Info{Len: 98, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(c6, a6, 0, 0, ProtoICMPv6), ICMPType: 3, ICMPError: true},
		},
		"ICMPv6 in IPv4, quoted": {
			build.IPv4(c4, a4).TimeExceeded(build.IPv4(a4, b4).Proto(ProtoICMPv6).Payload(8).Bytes()).Bytes(),
			Info{Len: 56, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11,
				ICMPError: true, InnerL3: 28, Inner: tuple(a4, b4, 0, 0, ProtoICMPv6)},
		},
		"options end, then garbage": {
			build.IPv4(a4, b4).Options(148, 1, 131, 131).Proto(50).Bytes(),
			Info{Len: 24, TTL: 64, Tuple: tuple(a4, b4, 0, 0, 50)},
		},
		"packet too big": {
			build.IPv6(c6, a6).FragNeeded(1280, udp6).Bytes(),
			Info{Len: 48 + 56, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(c6, a6, 0, 0, ProtoICMPv6), ICMPType: 2,
				ICMPError: true, InnerL3: 48, InnerL4: 88, Inner: tuple(a6, b6, 1000, 53, ProtoUDP)},
		},
		"error about an echo request": {
			build.IPv6(c6, a6).TimeExceeded(build.IPv6(a6, b6).Echo(9, 1).Bytes()).Bytes(),
			Info{Len: 96, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(c6, a6, 0, 0, ProtoICMPv6), ICMPType: 3,
				ICMPError: true, InnerL3: 48, InnerL4: 88, Inner: tuple(a6, b6, 9, 0, ProtoICMPv6)},
		},
		"error about an echo reply": {
			build.IPv4(c4, a4).TimeExceeded(build.IPv4(a4, b4).EchoReply(9, 1).Bytes()).Bytes(),
			Info{Len: 56, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11,
				ICMPError: true, InnerL3: 28, InnerL4: 48, Inner: tuple(a4, b4, 0, 9, ProtoICMP)},
		},
		"error about a tail fragment": {
			build.IPv4(c4, a4).TimeExceeded(build.IPv4(a4, b4).Frag(5, 1480, false).Proto(17).Payload(64).Bytes()).Bytes(),
			Info{Len: 112, L4: 20, TTL: 64, Tuple: tuple(c4, a4, 0, 0, ProtoICMP), ICMPType: 11,
				ICMPError: true, InnerL3: 28, Inner: tuple(a4, b4, 0, 0, ProtoUDP)},
		},
		"error about a packet with extension headers": {
			build.IPv6(c6, a6).TimeExceeded(build.IPv6(a6, b6).Ext(60, 16).TCP(5, 6, "A").Bytes()).Bytes(),
			Info{Len: 48 + 76, V6: true, DF: true, L4: 40, TTL: 64, Tuple: tuple(c6, a6, 0, 0, ProtoICMPv6), ICMPType: 3,
				ICMPError: true, InnerL3: 48, InnerL4: 104, Inner: tuple(a6, b6, 5, 6, ProtoTCP)},
		},
		"first fragment": {
			build.IPv4(a4, b4).Frag(77, 0, true).UDP(1, 2).Payload(16).Bytes(),
			Info{Len: 44, L4: 20, TTL: 64, Frag: FragHead, FragID: 77, Tuple: tuple(a4, b4, 1, 2, ProtoUDP)},
		},
		"middle fragment": {
			build.IPv4(a4, b4).Frag(77, 24, true).Proto(17).Payload(16).Bytes(),
			Info{Len: 36, TTL: 64, Frag: FragTail, FragID: 77, FragOff: 24, Tuple: tuple(a4, b4, 0, 0, ProtoUDP)},
		},
		"last possible fragment": {
			build.IPv4(a4, b4).Frag(77, 65528, false).Proto(17).Payload(7).Bytes(),
			Info{Len: 27, TTL: 64, Frag: FragTail, FragID: 77, FragOff: 65528, Tuple: tuple(a4, b4, 0, 0, ProtoUDP)},
		},
		"first fragment, IPv6": {
			build.IPv6(a6, b6).Frag(0x10077, 0, true).TCP(1, 2, "S").Payload(4).Bytes(),
			Info{Len: 72, V6: true, DF: true, L4: 48, TTL: 64, Frag: FragHead, FragID: 0x10077, Tuple: tuple(a6, b6, 1, 2, ProtoTCP), TCPFlags: SYN},
		},
		"last fragment, IPv6": {
			build.IPv6(a6, b6).Frag(0x10077, 24, false).Proto(6).Payload(3).Bytes(),
			Info{Len: 51, V6: true, DF: true, TTL: 64, Frag: FragTail, FragID: 0x10077, FragOff: 24, Tuple: tuple(a6, b6, 0, 0, ProtoTCP)},
		},
		"atomic fragment, IPv6": { // RFC 6946
			build.IPv6(a6, b6).Frag(5, 0, false).UDP(1, 2).Bytes(),
			Info{Len: 56, V6: true, DF: true, L4: 48, TTL: 64, FragID: 5, Tuple: tuple(a6, b6, 1, 2, ProtoUDP)},
		},
		"all extension headers": {
			build.IPv6(a6, b6).Ext(0, 8).Ext(60, 24).Ext(43, 8).Frag(5, 0, false).Ext(60, 8).UDP(1, 2).Bytes(),
			Info{Len: 40 + 8 + 24 + 8 + 8 + 8 + 8, V6: true, DF: true, L4: 96, TTL: 64, FragID: 5, Tuple: tuple(a6, b6, 1, 2, ProtoUDP)},
		},
		"as many extension headers as we follow": {
			build.IPv6(a6, b6).Ext(0, 8).Ext(60, 8).Ext(60, 8).Ext(60, 8).Ext(60, 8).Ext(60, 8).Ext(60, 8).Ext(60, 8).UDP(1, 2).Bytes(),
			Info{Len: 40 + 64 + 8, V6: true, DF: true, L4: 104, TTL: 64, Tuple: tuple(a6, b6, 1, 2, ProtoUDP)},
		},
		"multicast": {
			build.IPv4(a4, "224.0.0.251").UDP(5353, 5353).Bytes(),
			Info{Len: 28, L4: 20, TTL: 64, Multicast: true, Tuple: tuple(a4, "224.0.0.251", 5353, 5353, ProtoUDP)},
		},
		"broadcast": {
			build.IPv4(a4, "255.255.255.255").UDP(68, 67).Bytes(),
			Info{Len: 28, L4: 20, TTL: 64, Multicast: true, Tuple: tuple(a4, "255.255.255.255", 68, 67, ProtoUDP)},
		},
		"neighbour solicitation": {
			build.NS(a6, "fe80::1", [6]byte{2}).Bytes(),
			Info{Len: 72, V6: true, DF: true, L4: 40, TTL: 255, Multicast: true, Tuple: tuple(a6, "ff02::1:ff00:1", 0, 0, ProtoICMPv6), ICMPType: 135, ND: 135},
		},
		"duplicate address detection": {
			build.NS("::", a6, [6]byte{}).Bytes(),
			Info{Len: 64, V6: true, DF: true, L4: 40, TTL: 255, Multicast: true, Tuple: tuple("::", "ff02::1:ff00:1", 0, 0, ProtoICMPv6), ICMPType: 135, ND: 135},
		},
		"multicast listener report": {
			build.IPv6("::", "ff02::16").TTL(1).Ext(0, 8).ICMP(143, 0, 1).Payload(20).Bytes(),
			Info{Len: 76, V6: true, DF: true, L4: 48, TTL: 1, Multicast: true, Tuple: tuple("::", "ff02::16", 0, 0, ProtoICMPv6), ICMPType: 143},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, off := range []int{0, 14, 46} {
				b := append(make([]byte, off), c.packet...)
				want := c.want
				want.L3 = off
				for _, p := range []*int{&want.L4, &want.InnerL3, &want.InnerL4} {
					if *p != 0 {
						*p += off
					}
				}
				got := Info{L3: 99, Frag: 77, ICMPError: true, InnerL3: 5} // leftovers of the packet before
				if f := ParseIP(b, off, len(c.packet), &got); f != FaultNone {
					t.Fatal(f)
				}
				if got != want {
					t.Errorf("at offset %d:\ngot  %+v\nwant %+v", off, got, want)
				}
				// The first chunk is enough.
				if n := off + 128; n < len(b) {
					if f := ParseIP(b[:n], off, len(c.packet), &got); f != FaultNone || got != want {
						t.Errorf("in two chunks: %v\ngot  %+v\nwant %+v", f, got, want)
					}
				}
			}
		})
	}
}

// patched returns a copy of b with bytes replaced from at on.
func patched(b []byte, at int, v ...byte) []byte {
	b = append([]byte(nil), b...)
	copy(b[at:], v)
	return b
}

// resummed makes the IPv4 header checksum of b right again.
func resummed(b []byte) []byte {
	b[10], b[11] = 0, 0
	var s uint32
	for i := 0; i < int(b[0]&0xf)*4; i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	s = s>>16 + s&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(s>>16+s))
	return b
}

func TestParseIPFaults(t *testing.T) {
	udp4 := build.IPv4(a4, b4).UDP(1000, 53).Payload(8).Bytes()
	udp6 := build.IPv6(a6, b6).UDP(1000, 53).Payload(8).Bytes()
	tcp4 := build.IPv4(a4, b4).TCP(1000, 80, "S").Bytes()
	nine := build.IPv6(a6, b6).Ext(0, 8)
	for range 8 {
		nine.Ext(60, 8)
	}
	for name, c := range map[string]struct {
		packet []byte
		want   Fault
	}{
		"nothing":                            {nil, FaultShort},
		"19 bytes":                           {udp4[:19], FaultShort},
		"IPv4, a byte is missing":            {udp4[:len(udp4)-1], FaultShort},
		"IPv6, half a header":                {udp6[:39], FaultShort},
		"IPv6, a byte is missing":            {udp6[:len(udp6)-1], FaultShort},
		"version 5":                          {patched(udp4, 0, 0x55), FaultVersion},
		"version 0":                          {make([]byte, 64), FaultVersion},
		"IHL 4":                              {resummed(patched(udp4, 0, 0x44)), FaultHeader},
		"IHL beyond the packet":              {patched(udp4, 0, 0x4f), FaultLength},
		"total length below IHL":             {resummed(patched(udp4, 2, 0, 19)), FaultLength},
		"header checksum":                    {patched(udp4, 8, 63), FaultChecksum},
		"header checksum 0":                  {patched(udp4, 10, 0, 0), FaultChecksum},
		"source 0.0.0.0":                     {build.IPv4("0.0.0.0", b4).UDP(68, 67).Bytes(), FaultSource},
		"source 0.1.2.3":                     {build.IPv4("0.1.2.3", b4).UDP(68, 67).Bytes(), FaultSource},
		"source loopback":                    {build.IPv4("127.0.0.1", b4).UDP(1, 2).Bytes(), FaultSource},
		"source multicast":                   {build.IPv4("224.0.0.1", b4).UDP(1, 2).Bytes(), FaultSource},
		"source broadcast":                   {build.IPv4("255.255.255.255", b4).UDP(1, 2).Bytes(), FaultSource},
		"destination 0.0.0.0":                {build.IPv4(a4, "0.0.0.0").UDP(1, 2).Bytes(), FaultDestination},
		"destination loopback":               {build.IPv4(a4, "127.1.2.3").UDP(1, 2).Bytes(), FaultDestination},
		"source ::1":                         {build.IPv6("::1", b6).UDP(1, 2).Bytes(), FaultSource},
		"source ::":                          {build.IPv6("::", b6).UDP(1, 2).Bytes(), FaultSource},
		"source :: to a group, but UDP":      {build.IPv6("::", "ff02::1").UDP(1, 2).Bytes(), FaultSource},
		"source multicast, IPv6":             {build.IPv6("ff02::1", b6).UDP(1, 2).Bytes(), FaultSource},
		"source mapped":                      {patched(udp6, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9), FaultSource},
		"destination mapped":                 {patched(udp6, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9), FaultDestination},
		"destination ::":                     {build.IPv6(a6, "::").UDP(1, 2).Bytes(), FaultDestination},
		"destination ::1":                    {build.IPv6(a6, "::1").UDP(1, 2).Bytes(), FaultDestination},
		"loose source route":                 {build.IPv4(a4, b4).Options(1, 131, 7, 4, 192, 0, 2, 3).UDP(1, 2).Bytes(), FaultSourceRoute},
		"strict source route":                {build.IPv4(a4, b4).Options(148, 4, 0, 0, 137, 7, 4, 192, 0, 2, 3).UDP(1, 2).Bytes(), FaultSourceRoute},
		"routing header with segments left":  {patched(build.IPv6(a6, b6).Ext(43, 8).UDP(1, 2).Bytes(), 43, 1), FaultSourceRoute},
		"TCP header cut off":                 {build.IPv4(a4, b4).Proto(6).Payload(19).Bytes(), FaultShort},
		"TCP data offset 4":                  {patched(tcp4, 32, 0x40), FaultHeader},
		"TCP data offset beyond the packet":  {patched(tcp4, 32, 0x60), FaultHeader},
		"UDP header cut off":                 {build.IPv4(a4, b4).Proto(17).Payload(7).Bytes(), FaultShort},
		"UDP length 7":                       {patched(udp4, 24, 0, 7), FaultLength},
		"UDP length beyond the packet":       {patched(udp4, 24, 0, 17), FaultLength},
		"UDP length 0, IPv6":                 {patched(udp6, 44, 0, 0), FaultLength},
		"SCTP header cut off":                {build.IPv6(a6, b6).Proto(132).Payload(11).Bytes(), FaultShort},
		"ICMP header cut off":                {build.IPv4(a4, b4).Proto(1).Payload(7).Bytes(), FaultShort},
		"ICMPv6 header cut off":              {build.IPv6(a6, b6).Proto(58).Payload(7).Bytes(), FaultShort},
		"tiny first fragment":                {build.IPv4(a4, b4).Frag(1, 0, true).Proto(6).Payload(16).Bytes(), FaultShort},
		"fragment over the TCP header":       {build.IPv4(a4, b4).Frag(1, 8, false).Proto(6).Payload(16).Bytes(), FaultFragment},
		"fragment over the TCP header, IPv6": {build.IPv6(a6, b6).Frag(1, 16, false).Proto(6).Payload(16).Bytes(), FaultFragment},
		"ping of death":                      {build.IPv4(a4, b4).Frag(1, 65528, false).Proto(1).Payload(8).Bytes(), FaultFragment},
		"fragment of odd size":               {build.IPv4(a4, b4).Frag(1, 1480, true).Proto(17).Payload(15).Bytes(), FaultFragment},
		"empty fragment":                     {build.IPv4(a4, b4).Frag(1, 1480, true).Proto(17).Bytes(), FaultFragment},
		"fragment of odd size, IPv6":         {build.IPv6(a6, b6).Frag(1, 0, true).UDP(1, 2).Payload(1).Bytes(), FaultFragment},
		"two fragment headers":               {build.IPv6(a6, b6).Frag(1, 0, false).Frag(1, 0, false).UDP(1, 2).Bytes(), FaultHeader},
		"hop-by-hop not first":               {build.IPv6(a6, b6).Ext(60, 8).Ext(0, 8).UDP(1, 2).Bytes(), FaultHeader},
		"nine extension headers":             {nine.UDP(1, 2).Bytes(), FaultExtensions},
		"extension header cut off":           {patched(build.IPv6(a6, b6).Ext(60, 8).Bytes(), 41, 1), FaultShort},
		"no room for an extension header":    {build.IPv6(a6, b6).Proto(60).Payload(7).Bytes(), FaultShort},
		"no room for a fragment header":      {build.IPv6(a6, b6).Proto(44).Payload(7).Bytes(), FaultShort},
	} {
		t.Run(name, func(t *testing.T) {
			var in Info
			if got := ParseIP(c.packet, 0, len(c.packet), &in); got != c.want {
				t.Errorf("%s: got %v, want %v", build.Describe(c.packet), got, c.want)
			}
		})
	}
}

// Every cut of a packet is a fault, never a panic and never a packet.
func TestParseIPCut(t *testing.T) {
	for _, b := range samples() {
		in := parse(t, b)
		for n := range in.Len {
			var cut Info
			if f := ParseIP(b[:n], 0, n, &cut); f == FaultNone {
				t.Errorf("%s: the first %d bytes pass", build.Describe(b), n)
			}
			ParseIP(b[:n], 0, len(b), &cut) // the rest in another chunk: must not panic
		}
	}
	var in Info
	if ParseIP(make([]byte, 64), -1, 64, &in) != FaultShort || ParseIP(make([]byte, 64), 65, 64, &in) != FaultShort {
		t.Error("an offset outside the buffer passes")
	}
}

// samples are good packets of all kinds.
func samples() [][]byte {
	var all [][]byte
	for _, f := range [][3]string{{a4, b4, c4}, {a6, b6, c6}} {
		src, dst, router := f[0], f[1], f[2]
		udp := build.IP(src, dst).UDP(1000, 53).Payload(33).Bytes()
		tcp := build.IP(src, dst).TCP(1000, 80, "SA").MSS(8960).Bytes()
		sctp := build.IP(src, dst).SCTP(1000, 80).Payload(33).Bytes()
		ping := build.IP(src, dst).Echo(7, 1).Payload(56).Bytes()
		all = append(all, udp, tcp, sctp, ping,
			build.IP(src, dst).UDP(1, 2).Bytes(),
			build.IP(src, dst).TCP(1, 2, "A").Payload(1001).Bytes(),
			build.IP(src, dst).SCTP(1, 2).Init(9).Bytes(),
			build.IP(src, dst).EchoReply(7, 1).Payload(1).Bytes(),
			build.IP(src, dst).Proto(50).Payload(32).Bytes(),
			build.IP(router, src).TimeExceeded(udp).Bytes(),
			build.IP(router, src).FragNeeded(1400, tcp).Bytes(),
			build.IP(router, src).PortUnreachable(sctp).Bytes(),
			build.IP(router, src).PortUnreachable(ping).Bytes(),
		)
		all = append(all, build.Fragments(build.IP(src, dst).UDP(1, 2).Payload(3000).Bytes(), 1280, 9)...)
	}
	return append(all,
		build.IPv4(a4, b4).UDP(1, 2).NoChecksum().Payload(10).Bytes(),
		build.IPv4(a4, b4).Options(1, 1, 148, 4, 0, 0).TCP(1, 2, "PA").Payload(9).Bytes(),
		build.IPv6(a6, b6).Ext(0, 8).Ext(60, 16).UDP(1, 2).Payload(9).Bytes(),
		build.NS(a6, "fe80::1", [6]byte{2}).Bytes(),
	)
}

func TestInfoHash(t *testing.T) {
	udp := build.IPv4(a4, b4).UDP(1000, 53).Payload(3000).Bytes()
	flow, pair := tuple(a4, b4, 1000, 53, ProtoUDP), tuple(a4, b4, 0, 0, ProtoUDP)
	if in := parse(t, udp); in.Hash() != flow.Hash() {
		t.Error("a whole packet is not hashed by its tuple")
	}
	for _, f := range build.Fragments(udp, 1500, 4) {
		if in := parse(t, f); in.Hash() != pair.Hash() {
			t.Errorf("%s: not hashed by addresses and protocol alone", build.Describe(f))
		}
	}
	e := build.IPv4(c4, a4).TimeExceeded(udp[:28]).Bytes()
	if in := parse(t, e); in.Hash() != flow.Hash() {
		t.Error("an ICMP error is not hashed by what it embeds")
	}
	e = build.IPv4(c4, a4).TimeExceeded(nil).Bytes()
	if in := parse(t, e); in.Hash() != in.Tuple.Hash() {
		t.Error("an ICMP error about nothing is not hashed by its own tuple")
	}
}
