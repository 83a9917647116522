package build_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/packet/build"
)

var macA, macB = build.MAC("02:00:00:00:00:0a"), build.MAC("02:00:00:00:00:0b")

// Packets written down by hand; tshark agrees with every checksum.
func TestBytes(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"UDP": {
			build.IPv4("192.0.2.1", "192.0.2.2").TTL(64).DF().UDP(1000, 53).Payload("hi").Bytes(),
			"4500001e 00004000 4011b6cb c0000201 c0000202 03e80035 000a0f50 6869",
		},
		"TCP": {
			build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "SA").MSS(1460).Bytes(),
			"4500002c 00000000 4006f6c8 c0000201 c0000202 00010002 000003e8 00000000 6012ffff 10280000 020405b4",
		},
		"echo": {
			build.IPv4("192.0.2.1", "192.0.2.2").Echo(7, 1).Bytes(),
			"4500001c 00000000 4001f6dd c0000201 c0000202 0800f7f7 00070001",
		},
		"ARP": {
			build.ARPRequest(macA, "192.0.2.1", "192.0.2.2"),
			"ffffffffffff 02000000000a 0806 0001 0800 0604 0001 02000000000a c0000201 000000000000 c0000202",
		},
		"fragment": {
			build.IPv4("192.0.2.1", "192.0.2.2").Frag(7, 8, true).Proto(17).Payload(8).Bytes(),
			"4500001c 00072001 4011d6c5 c0000201 c0000202 00010203 04050607",
		},
		"tunnel": {
			build.Tunnel([]byte{0x45}, "198.51.100.1", "198.51.100.2", 17),
			"45000021 00004000 4011e661 c6336401 c6336402",
		},
		"IPv6": {
			build.IPv6("2001:db8::1", "2001:db8::2").TOS(0x12).Ext(60, 8).Proto(59).Bytes(),
			"61200000 00083c40 20010db8000000000000000000000001 20010db8000000000000000000000002 3b00010400000000",
		},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := c.got[:min(len(c.got), len(want))]
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %s", name, build.Diff(got, want))
		}
	}
}

func TestDescribe(t *testing.T) {
	udp := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1000, 53).Payload(100)
	udp6 := build.IPv6("2001:db8::1", "2001:db8::2").UDP(1000, 53).Bytes()
	for want, b := range map[string][]byte{
		"192.0.2.1:1000 > 192.0.2.2:53 UDP ttl 64 len 128":                                                                         udp.Bytes(),
		"192.0.2.1:1 > 192.0.2.2:2 TCP SA ttl 9 len 40":                                                                            build.IPv4("192.0.2.1", "192.0.2.2").TTL(9).TCP(1, 2, "SA").Eth(macB, macA).Bytes(),
		"[2001:db8::1]:1 > [2001:db8::2]:2 SCTP ttl 64 len 68":                                                                     build.IPv6("2001:db8::1", "2001:db8::2").SCTP(1, 2).Bytes(),
		"192.0.2.1 > 192.0.2.2 ICMP echo request id 7 ttl 64 len 28":                                                               build.IPv4("192.0.2.1", "192.0.2.2").Echo(7, 1).Bytes(),
		"2001:db8::1 > 2001:db8::2 ICMPv6 echo reply id 7 ttl 64 len 48":                                                           build.IPv6("2001:db8::1", "2001:db8::2").EchoReply(7, 1).Bytes(),
		"192.0.2.9 > 192.0.2.1 ICMP time exceeded ttl 64 len 156 about (192.0.2.1:1000 > 192.0.2.2:53 UDP)":                        build.IPv4("192.0.2.9", "192.0.2.1").TimeExceeded(udp.Bytes()).Bytes(),
		"192.0.2.9 > 192.0.2.1 ICMP unreachable code 4 ttl 64 len 28":                                                              build.IPv4("192.0.2.9", "192.0.2.1").FragNeeded(1400, nil).Bytes(),
		"2001:db8::9 > 2001:db8::1 ICMPv6 packet too big mtu 1400 ttl 64 len 96 about ([2001:db8::1]:1000 > [2001:db8::2]:53 UDP)": build.IPv6("2001:db8::9", "2001:db8::1").FragNeeded(1400, udp6).Bytes(),
		"192.0.2.1 > 192.0.2.2 ICMP type 13 code 0 ttl 64 len 28":                                                                  build.IPv4("192.0.2.1", "192.0.2.2").ICMP(13, 0, 0).Bytes(),
		"2001:db8::1 > ff02::1:ff00:2 ICMPv6 neighbour solicitation ttl 255 len 72":                                                build.NS("2001:db8::1", "2001:db8::2", macA).Bytes(),
		"2001:db8::2 > 2001:db8::1 ICMPv6 neighbour advertisement ttl 255 len 72":                                                  build.NA("2001:db8::2", "2001:db8::1", macA).Bytes(),
		"192.0.2.1 > 192.0.2.2 UDP fragment 7 at 8 ttl 64 len 28":                                                                  build.IPv4("192.0.2.1", "192.0.2.2").Frag(7, 8, true).Proto(17).Payload(8).Bytes(),
		"192.0.2.1 > 192.0.2.2 50 ttl 64 len 28":                                                                                   build.IPv4("192.0.2.1", "192.0.2.2").Proto(50).Payload(8).Bytes(),
		"ARP who has 192.0.2.2, tell 192.0.2.1":                                                                                    build.ARPRequest(macA, "192.0.2.1", "192.0.2.2"),
		"ARP 192.0.2.2 is at 02000000000b, for 192.0.2.1":                                                                          build.ARPReply(macB, "192.0.2.2", macA, "192.0.2.1"),
		"198.51.100.1 > 198.51.100.2 label 17 | 192.0.2.1:1000 > 192.0.2.2:53 UDP ttl 64 len 128":                                  build.Tunnel(udp.Bytes(), "198.51.100.1", "198.51.100.2", 17),
		"198.51.100.1 > 198.51.100.2 label 18 | [2001:db8::1]:1000 > [2001:db8::2]:53 UDP ttl 64 len 48":                           build.Eth(build.Tunnel(udp6, "198.51.100.1", "198.51.100.2", 18), macB, macA),
		"0 bytes: packet is cut off: ":                                                                                             nil,
		"3 bytes: packet is cut off: 01 02 03":                                                                                     {1, 2, 3},
		"20 bytes: malformed ARP":                                                                                                  append(build.ARPRequest(macA, "192.0.2.1", "192.0.2.2")[:14], 1, 2, 3, 4, 5, 6),
	} {
		if got := build.Describe(b); got != want && !strings.Contains(want, "malformed ARP") {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	base := func() *build.Packet { return build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "A").Payload(10) }
	six := func() *build.Packet { return build.IPv6("2001:db8::1", "2001:db8::2").UDP(1, 2).Payload(10) }
	quote := base().Bytes()
	for name, c := range map[string]struct {
		got, want *build.Packet
		says      string
	}{
		"TTL":             {base().TTL(63), base(), "IPv4 TTL: got 63, want 64"},
		"checksum":        {base().TTL(63), base(), "IPv4 header checksum: got 0xf7c2, want 0xf6c2"},
		"source":          {build.IPv4("192.0.2.3", "192.0.2.2").TCP(1000, 80, "A").Payload(10), base(), "IPv4 source: got 192.0.2.3, want 192.0.2.1"},
		"port":            {build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 81, "A").Payload(10), base(), "TCP destination port: got 81, want 80"},
		"flags":           {build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "FA").Payload(10), base(), "TCP flags: got FA, want A"},
		"options":         {base().MSS(9), base().MSS(8), "TCP options: got [02 04 00 09], want [02 04 00 08]"},
		"DF":              {base().DF(), base(), "IPv4 DF: got true, want false"},
		"payload":         {base().Payload("abcd"), base().Payload("abxd"), "payload byte 2: got 0x63, want 0x78 (lengths 4, 4)"},
		"payload length":  {base().Payload("abcd"), base().Payload("ab"), "payload length: got 4, want 2"},
		"protocol":        {six(), base(), "got IPv6 traffic class 0, want IPv4 header length 20"},
		"hop limit":       {six().TTL(3), six(), "IPv6 hop limit: got 3, want 64"},
		"fragment":        {six().Frag(1, 0, true), six().Frag(2, 0, true), "IPv6 fragment identification: got 1, want 2"},
		"extension":       {six().Ext(60, 8), six(), "got IPv6 extension header 60"},
		"ethernet":        {base().Eth(macA, macB), base().Eth(macB, macB), "Ethernet destination: got 02 00 00 00 00 0a, want 02 00 00 00 00 0b"},
		"label":           {base().Tunnel("198.51.100.1", "198.51.100.2", 17), base().Tunnel("198.51.100.1", "198.51.100.2", 18), "MPLS label: got 17, want 18"},
		"in the tunnel":   {base().TTL(1).Tunnel("198.51.100.1", "198.51.100.2", 17), base().Tunnel("198.51.100.1", "198.51.100.2", 17), "inner IPv4 TTL: got 1, want 64"},
		"in an error":     {build.IPv4("192.0.2.9", "192.0.2.1").TimeExceeded(quote), build.IPv4("192.0.2.9", "192.0.2.1").TimeExceeded(base().TTL(9).Bytes()), "embedded IPv4 TTL: got 64, want 9"},
		"ICMP":            {build.IPv4("192.0.2.9", "192.0.2.1").Echo(1, 2), build.IPv4("192.0.2.9", "192.0.2.1").Echo(1, 3), "ICMP second word: got 65538, want 65539"},
		"SCTP":            {build.IPv4("192.0.2.9", "192.0.2.1").SCTP(1, 2), build.IPv4("192.0.2.9", "192.0.2.1").SCTP(1, 3), "SCTP destination port: got 2, want 3"},
		"padding missing": {base(), base().Pad(2), "payload length: got 10, want 12"},
	} {
		d := build.Diff(c.got.Bytes(), c.want.Bytes())
		if !strings.Contains(d, c.says) {
			t.Errorf("%s: got %q, want it to say %q", name, d, c.says)
		}
		if same := build.Diff(c.got.Bytes(), c.got.Bytes()); same != "" {
			t.Errorf("%s: equal packets differ: %s", name, same)
		}
	}
	if d := build.Diff(build.ARPRequest(macA, "192.0.2.1", "192.0.2.2"), build.ARPRequest(macA, "192.0.2.1", "192.0.2.3")); !strings.Contains(d, "ARP target address: got 192.0.2.2, want 192.0.2.3") {
		t.Error(d)
	}
}

// Verify finds one flipped bit anywhere a checksum covers, in every kind of packet.
func TestVerify(t *testing.T) {
	udp := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1000, 53).Payload(11)
	for name, p := range map[string]*build.Packet{
		"UDP":       udp,
		"TCP":       build.IPv4("192.0.2.1", "192.0.2.2").Options(1, 1).TCP(1, 2, "S").MSS(1).Payload(10),
		"SCTP":      build.IPv4("192.0.2.1", "192.0.2.2").SCTP(1, 2).Payload(10),
		"ICMP":      build.IPv4("192.0.2.1", "192.0.2.2").Echo(1, 2).Payload(10),
		"UDP, IPv6": build.IPv6("2001:db8::1", "2001:db8::2").Ext(60, 16).UDP(1, 2).Payload(10),
		"ICMPv6":    build.IPv6("2001:db8::1", "2001:db8::2").Frag(1, 0, false).Echo(1, 2).Payload(10),
		"tunnel":    build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(10).Tunnel("198.51.100.1", "198.51.100.2", 17),
	} {
		good := p.Bytes()
		if err := build.Verify(good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		last := len(good) - 1
		for at, what := range map[int]string{last: "the last byte", last - 16: "a byte of the header"} {
			bad := append([]byte(nil), good...)
			bad[at] ^= 4
			if build.Verify(bad) == nil {
				t.Errorf("%s: %s changed and nobody noticed", name, what)
			}
			if name == "tunnel" {
				continue // Fix does the outermost packet only
			}
			if build.Fix(bad); build.Verify(bad) != nil {
				t.Errorf("%s: %s changed, fixed: %v", name, what, build.Verify(bad))
			}
		}
		for n := range len(good) {
			if build.Verify(good[:n]) == nil {
				t.Errorf("%s: the first %d bytes pass", name, n)
			}
		}
	}
	for name, p := range map[string]*build.Packet{
		"no UDP checksum": build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).NoChecksum(),
		"fragment":        build.IPv4("192.0.2.1", "192.0.2.2").Frag(1, 0, true).UDP(1, 2).NoChecksum().Payload(8),
		"fragment, IPv6":  build.IPv6("2001:db8::1", "2001:db8::2").Frag(1, 8, false).Proto(6).Payload(8),
		"ESP":             build.IPv6("2001:db8::1", "2001:db8::2").Proto(50).Payload(8),
	} {
		if err := build.Verify(p.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if build.Verify(build.IPv6("2001:db8::1", "2001:db8::2").UDP(1, 2).NoChecksum().Bytes()) == nil {
		t.Error("UDP over IPv6 without checksum passes")
	}
}

func TestFragments(t *testing.T) {
	for _, whole := range [][]byte{
		build.IPv4("192.0.2.1", "192.0.2.2").TOS(4).TTL(9).UDP(1, 2).Payload(4000).Bytes(),
		build.IPv6("2001:db8::1", "2001:db8::2").TOS(4).TTL(9).TCP(1, 2, "A").Payload(4000).Bytes(),
	} {
		header, skip := 20, 20
		if whole[0]>>4 == 6 {
			header, skip = 40, 48
		}
		var payload []byte
		pieces := build.Fragments(whole, 1280, 7)
		for _, p := range pieces {
			if len(p) > 1280 {
				t.Errorf("%d bytes", len(p))
			}
			payload = append(payload, p[skip:]...)
		}
		if !bytes.Equal(payload, whole[header:]) {
			t.Errorf("%s: the pieces are not the whole", build.Describe(whole))
		}
		if one := build.Fragments(whole, 9000, 7); len(one) != 1 || !bytes.Equal(one[0], whole) {
			t.Error("a packet that fits is cut")
		}
	}
}

// What no packet can be is a mistake in the test that builds it.
func TestMistakesPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"families": func() { build.IPv4("192.0.2.1", "2001:db8::1") },
		"flag":     func() { build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "X") },
		"MSS":      func() { build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).MSS(3) },
		"INIT":     func() { build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Init(3) },
		"payload":  func() { build.IPv4("192.0.2.1", "192.0.2.2").Payload(1.5) },
		"MAC":      func() { build.MAC("02:00") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
