package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// sink keeps results alive.
var sink uint32

func TestNoAllocations(t *testing.T) {
	inner := build.IPv4(a4, b4).TCP(1000, 80, "S").MSS(1460).Payload(100).Bytes()
	frame := build.Eth(build.Tunnel(inner, "198.51.100.1", "198.51.100.2", 17), macB, macA)
	six := build.IPv6(a6, b6).Ext(0, 8).SCTP(1, 2).Payload(100).Bytes()
	failed := build.IPv6(c6, a6).TimeExceeded(build.IPv6(a6, b6).TCP(1, 2, "A").Bytes()).Bytes()
	ns := build.NS(a6, "fe80::1", macA).Bytes()
	arp := build.ARPRequest(macA, a4, b4)
	there, back := tuple(c4, b4, 5, 6, 0), tuple(a4, b4, 1000, 80, 0)
	there6, back6 := tuple(c6, b6, 5, 6, 0), tuple(a6, b6, 1, 2, 0)
	dst := make([]byte, 2000)
	var in, in6, e Info
	var tun Tunnel
	for name, f := range map[string]func(){
		"ParseTunnel": func() { ParseTunnel(frame, len(frame), &tun) },
		"ParseIP":     func() { ParseIP(frame, 46, len(inner), &in) },
		"Hash":        func() { sink += in.Hash() + uint32(Owner(in.Tuple.Hash(), 4)) },
		"Rewrite":     func() { parseAgain(frame[46:], &in); rewrite(frame[46:], &in, there); rewrite(frame[46:], &in, back) },
		"SCTP": func() {
			parseAgain(six, &in6)
			rewrite(six, &in6, there6)
			rewrite(six, &in6, back6)
			PutSCTPChecksum(six[:70], in6.L4, six[70:80], six[80:])
			sink += SCTPChecksum(six[:10], six[10:])
		},
		"RewriteInner": func() { parseAgain(failed, &e); RewriteInner(failed, &e, there6); RewriteInner(failed, &e, back6) },
		"DecTTL":       func() { parseAgain(inner, &in); DecTTL(inner, &in) },
		"ClampMSS":     func() { parseAgain(inner, &in); ClampMSS(inner, &in, 1400) },
		"PutTunnel":    func() { PutTunnel(dst, &Outer{Sport: EntropyPort(1), Label: 17}, 100) },
		"errors": func() {
			parseAgain(frame[46:], &in)
			parseAgain(six, &in6)
			TimeExceeded(dst, frame[46:], &in, there.Src)
			FragNeeded(dst, frame[46:], &in, there.Src, 1400)
			Unreachable(dst, six, &in6, there6.Src, UnreachPort)
			Reset(dst, frame[46:], &in)
			MayAnswer(&in)
		},
		"ND":          func() { parseAgain(ns, &in6); ParseNS(ns, &in6); PutNA(dst, there6.Src, there6.Dst, macA) },
		"ARP":         func() { ParseARP(arp, EthernetLen); PutARPReply(arp, macB) },
		"PutFragment": func() { PutFragment(dst, six[:20], six[20:60], 0, true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func parseAgain(b []byte, in *Info) { ParseIP(b, 0, len(b), in) }

func BenchmarkParseIP(b *testing.B) {
	p := build.IPv4(a4, b4).TCP(1000, 80, "A").Payload(100).Bytes()
	var in Info
	for b.Loop() {
		ParseIP(p, 0, len(p), &in)
	}
}

func BenchmarkParseIPv6(b *testing.B) {
	p := build.IPv6(a6, b6).TCP(1000, 80, "A").Payload(100).Bytes()
	var in Info
	for b.Loop() {
		ParseIP(p, 0, len(p), &in)
	}
}

func BenchmarkParseTunnel(b *testing.B) {
	p := build.IPv4(a4, b4).TCP(1000, 80, "A").Tunnel("198.51.100.1", "198.51.100.2", 17).Eth(macA, macB).Bytes()
	var tun Tunnel
	for b.Loop() {
		ParseTunnel(p, len(p), &tun)
	}
}

func BenchmarkHash(b *testing.B) {
	x := tuple(a4, b4, 1000, 80, ProtoTCP)
	for b.Loop() {
		sink += x.Hash()
	}
}

func BenchmarkRewrite(b *testing.B) {
	p := build.IPv4(a4, b4).TCP(1000, 80, "A").Payload(100).Bytes()
	var in Info
	ParseIP(p, 0, len(p), &in)
	there, back := tuple(c4, b4, 5, 6, 0), tuple(a4, b4, 1000, 80, 0)
	for b.Loop() {
		rewrite(p, &in, there)
		rewrite(p, &in, back)
	}
}
