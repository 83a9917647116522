package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

var router = build.MAC("00:00:5e:00:01:00")

func TestARP(t *testing.T) {
	b := build.ARPRequest(macA, a4, "169.254.1.1")
	got, f := ParseARP(b, EthernetLen)
	want := ARP{Op: ARPRequest, SenderMAC: macA, SenderIP: [4]byte{192, 0, 2, 1}, TargetIP: [4]byte{169, 254, 1, 1}}
	if f != FaultNone || got != want {
		t.Errorf("%v: got %+v, want %+v", f, got, want)
	}
	PutARPReply(b, router)
	if d := build.Diff(b, build.ARPReply(router, "169.254.1.1", macA, a4)); d != "" {
		t.Error(d)
	}
	for n := range len(b) {
		if _, f := ParseARP(b[:n], EthernetLen); f != FaultShort {
			t.Errorf("the first %d bytes: %v", n, f)
		}
	}
	for at, v := range map[int]byte{14: 1, 15: 6, 16: 0x86, 18: 8, 19: 16} {
		if _, f := ParseARP(patched(b, at, v), EthernetLen); f != FaultARP {
			t.Errorf("byte %d is %d: %v", at, v, f)
		}
	}
	if _, f := ParseARP(b, -1); f != FaultShort {
		t.Error("an offset outside the buffer passes")
	}
}

func TestParseNS(t *testing.T) {
	ns := func(src string, body ...byte) *build.Packet {
		target := addr("fe80::1")
		return build.IPv6(src, "ff02::1:ff00:1").TTL(255).ICMP(135, 0, 0).Payload(append(target[:], body...))
	}
	mac := []byte{1, 1, 2, 0, 0, 0, 0, 0x0a}
	wrong := build.NS(a6, "fe80::1", macA).Bytes()
	wrong[42] ^= 1
	for name, c := range map[string]struct {
		packet []byte
		hasMAC bool
		want   Fault
	}{
		"with address":          {build.NS(a6, "fe80::1", macA).Bytes(), true, FaultNone},
		"without":               {ns(a6).Bytes(), false, FaultNone},
		"to us alone":           {build.IPv6(a6, "fe80::1").TTL(255).ICMP(135, 0, 0).Payload(ns(a6, mac...).Bytes()[48:]).Bytes(), true, FaultNone},
		"another option":        {ns(a6, append([]byte{14, 1, 0, 0, 0, 0, 0, 0}, mac...)...).Bytes(), true, FaultNone},
		"long option":           {ns(a6, append([]byte{14, 2, 15: 0}, mac...)...).Bytes(), true, FaultNone},
		"padded frame":          {ns(a6).Pad(9).Bytes(), false, FaultNone},
		"probe":                 {build.NS("::", "fe80::1", macA).Bytes(), false, FaultProbe},
		"wrong checksum":        {wrong, false, FaultChecksum},
		"from beyond the link":  {ns(a6, mac...).TTL(254).Bytes(), false, FaultND},
		"code 1":                {build.IPv6(a6, "ff02::1").TTL(255).ICMP(135, 1, 0).Payload(16).Bytes(), false, FaultND},
		"another type":          {build.IPv6(a6, "ff02::1").TTL(255).ICMP(136, 0, 0).Payload(16).Bytes(), false, FaultND},
		"not ICMPv6":            {build.IPv6(a6, b6).TTL(255).UDP(1, 2).Payload(40).Bytes(), false, FaultND},
		"too short":             {build.IPv6(a6, "ff02::1").TTL(255).ICMP(135, 0, 0).Payload(15).Bytes(), false, FaultND},
		"fragment":              {ns(a6).Frag(1, 0, true).Bytes(), false, FaultND},
		"multicast target":      {build.IPv6(a6, "ff02::1").TTL(255).ICMP(135, 0, 0).Payload(append([]byte{0xff, 2}, make([]byte, 14)...)).Bytes(), false, FaultND},
		"mapped target":         {build.IPv6(a6, "ff02::1").TTL(255).ICMP(135, 0, 0).Payload([]byte{10: 0xff, 11: 0xff, 12: 192, 15: 1}).Bytes(), false, FaultND},
		"option of length 0":    {ns(a6, 1, 0, 2, 0, 0, 0, 0, 0x0a).Bytes(), false, FaultND},
		"option beyond the end": {ns(a6, 1, 2, 2, 0, 0, 0, 0, 0x0a).Bytes(), false, FaultND},
		"option cut off":        {ns(a6, 1, 1, 2, 0, 0).Bytes(), false, FaultND},
	} {
		t.Run(name, func(t *testing.T) {
			in := parse(t, c.packet)
			target, mac, hasMAC, f := ParseNS(c.packet, in)
			if f != c.want || hasMAC != c.hasMAC {
				t.Fatalf("%s: got %v, has MAC: %v", build.Describe(c.packet), f, hasMAC)
			}
			if f == FaultNone && target != addr("fe80::1") || hasMAC && mac != macA {
				t.Errorf("got %v at %x", target, mac)
			}
		})
	}
	// Too long for the first chunk.
	b := build.NS(a6, "fe80::1", macA).Bytes()
	if _, _, _, f := ParseNS(b[:71], parse(t, b)); f != FaultShort {
		t.Errorf("cut off: %v", f)
	}
}

func TestPutNA(t *testing.T) {
	got := reply(ReplyLen, func(dst []byte) int { return PutNA(dst, addr("fe80::1"), addr(a6), router) })
	if d := build.Diff(got, build.NA("fe80::1", a6, router).Bytes()); d != "" {
		t.Error(d)
	}
}
