package packet_test

import (
	"bytes"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// FuzzParseIP feeds garbage. What passes has offsets within bounds, and
// whatever is then done to it keeps every checksum right that was right before.
func FuzzParseIP(f *testing.F) {
	for _, b := range samples() {
		f.Add(b, uint8(0), uint16(4000), uint16(80))
		f.Add(b, uint8(1), uint16(4000), uint16(80))
	}
	f.Fuzz(func(t *testing.T, b []byte, last uint8, sport, dport uint16) {
		if last%2 == 1 {
			b = clone(b)
			build.Fix(b) // else few mutations get past the checksums
		}
		var in, cut Info
		ParseIP(b, 0, 1<<20, &cut) // as if the rest were in other chunks
		if ParseIP(b, 0, len(b), &in) != FaultNone {
			return
		}
		checkBounds(t, b, &in)
		build.Describe(b)
		if build.Verify(b) != nil || dport == TunnelPort {
			return
		}
		to := target(&in, last, sport, dport)
		checkRewrite(t, clone(b), in, to)
		checkInner(t, clone(b), in, to)
		checkSmall(t, clone(b), in)
		checkReplies(t, b, in)
	})
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// target is a tuple to translate to, of the packet's family.
func target(in *Info, last uint8, sport, dport uint16) Tuple {
	x := tuple("203.0.113.0", "198.51.100.0", sport, dport, in.Tuple.Proto)
	if in.V6 {
		x = tuple("2001:db8:f00::", "2001:db8:ba::", sport, dport, in.Tuple.Proto)
	}
	x.Src[15], x.Dst[15] = last, ^last
	return x
}

func checkBounds(t *testing.T, b []byte, in *Info) {
	t.Helper()
	header := map[uint8]int{ProtoTCP: TCPLen, ProtoUDP: UDPLen, ProtoSCTP: SCTPLen, ProtoICMP: ICMPLen, ProtoICMPv6: ICMPLen}
	end := in.L3 + in.Len
	switch {
	case end > len(b) || in.Len < IPv4Len:
		t.Fatalf("length %d of %d", in.Len, len(b))
	case in.L4 != 0 && (in.L4 < in.L3+IPv4Len || in.L4+header[in.Tuple.Proto] > end || header[in.Tuple.Proto] == 0):
		t.Fatalf("L4 of %d at %d of %d", in.Tuple.Proto, in.L4, end)
	case in.Frag == FragTail && (in.L4 != 0 || in.Tuple.Sport != 0 || in.Tuple.Dport != 0 || in.FragOff == 0):
		t.Fatalf("tail fragment with ports: %+v", *in)
	case in.FragOff > 65535 || in.FragOff%8 != 0:
		t.Fatalf("fragment at %d", in.FragOff)
	case in.InnerL3 == 0 && (in.InnerL4 != 0 || in.Inner != Tuple{}):
		t.Fatalf("an embedded packet without header: %+v", *in)
	case in.InnerL3 != 0 && (!in.ICMPError || in.InnerL3 < in.L4+ICMPLen || in.InnerL3+IPv4Len > end):
		t.Fatalf("embedded packet at %d of %d", in.InnerL3, end)
	case in.InnerL4 != 0 && (in.InnerL4 < in.InnerL3+IPv4Len || in.InnerL4+8 > end):
		t.Fatalf("embedded L4 at %d of %d", in.InnerL4, end)
	case in.Tuple.Src.Is4() == in.V6 || in.Tuple.Dst.Is4() == in.V6:
		t.Fatalf("addresses of the other family: %v", in.Tuple)
	}
	rev := in.Tuple.Reverse()
	if in.Tuple.Hash() != rev.Hash() {
		t.Fatal("hash is not symmetric")
	}
}

func checkRewrite(t *testing.T, b []byte, in Info, to Tuple) {
	t.Helper()
	before := clone(b)
	from := in.Tuple
	if rewrite(b, &in, to) && in.Frag == FragNone {
		PutSCTPChecksum(b[:in.Len], in.L4)
	}
	if err := build.Verify(b); err != nil {
		t.Fatalf("rewritten: %v\n%s", err, build.Diff(b, before))
	}
	in.Multicast = false // Rewrite leaves it: nobody translates multicast
	if again := *parse(t, b); again != in {
		t.Fatalf("Info after the rewrite:\ngot  %+v\nwant %+v", in, again)
	}
	if in.Tuple.Src != to.Src || in.Tuple.Dst != to.Dst || in.Tuple.Proto != from.Proto {
		t.Fatalf("rewritten to %v, wanted %v", in.Tuple, to)
	}
	twin := clone(b)
	build.Fix(twin)
	if canonical(before) && canonical(twin) && !bytes.Equal(b, twin) {
		t.Fatalf("incremental and full checksums differ: %s", build.Diff(b, twin))
	}
	// And back: the same bytes, unless a checksum had the other zero.
	if rewrite(b, &in, from) && in.Frag == FragNone {
		PutSCTPChecksum(b[:in.Len], in.L4)
	}
	if canonical(before) && !bytes.Equal(b, before) {
		t.Fatalf("there and back: %s", build.Diff(b, before))
	}
}

// canonical reports whether b's checksums are known to be those that a full
// computation writes. It cannot know in a fragment; and where the words of an echo
// reply before its data are all 0, either zero may be right.
func canonical(b []byte) bool {
	var in Info
	ParseIP(b, 0, len(b), &in)
	if in.Frag == FragHead {
		return false
	}
	if in.Tuple.Proto == ProtoICMP && in.L4 != 0 && in.ICMPType == 0 && in.ICMPCode == 0 && bytes.Equal(b[in.L4+4:in.L4+8], make([]byte, 4)) {
		return false
	}
	x := clone(b)
	build.Fix(x)
	return bytes.Equal(x, b)
}

func checkInner(t *testing.T, b []byte, in Info, to Tuple) {
	t.Helper()
	if in.InnerL3 == 0 {
		return
	}
	whole := build.Verify(b[in.InnerL3:in.Len]) == nil
	RewriteInner(b, &in, to)
	if err := build.Verify(b); err != nil {
		t.Fatalf("embedded packet rewritten: %v", err)
	}
	if again := *parse(t, b); again != in {
		t.Fatalf("Info after the rewrite of the embedded packet:\ngot  %+v\nwant %+v", in, again)
	}
	if err := build.Verify(b[in.InnerL3:in.Len]); whole && err != nil && in.Inner.Proto != ProtoSCTP {
		t.Fatalf("embedded packet: %v", err)
	}
}

// checkSmall does the changes that stages make besides NAT.
func checkSmall(t *testing.T, b []byte, in Info) {
	t.Helper()
	if in.TTL > 1 {
		DecTTL(b, &in)
	}
	ClampMSS(b, &in, 1400)
	if err := build.Verify(b); err != nil {
		t.Fatalf("TTL and MSS: %v", err)
	}
	if again := *parse(t, b); again != in {
		t.Fatalf("Info after TTL and MSS:\ngot  %+v\nwant %+v", in, again)
	}
	ParseNS(b, &in)
}

func checkReplies(t *testing.T, b []byte, in Info) {
	t.Helper()
	if !MayAnswer(&in) {
		return
	}
	src := target(&in, 1, 0, 0).Src
	dst := make([]byte, 1500)
	check := func(what string, n int, isError bool) {
		if n == 0 {
			return
		}
		if err := build.Verify(dst[:n]); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got := parse(t, dst[:n])
		if got.Len != n || got.Tuple.Dst != in.Tuple.Src || got.ICMPError != isError {
			t.Fatalf("%s: %s", what, build.Describe(dst[:n]))
		}
	}
	check("time exceeded", TimeExceeded(dst, b, &in, src), true)
	check("fragmentation needed", FragNeeded(dst, b, &in, src, 1400), true)
	check("unreachable", Unreachable(dst, b, &in, src, UnreachPort), true)
	check("reset", Reset(dst, b, &in), false)
}

// FuzzParseTunnel: what passes lies within the frame, and PutTunnel writes a
// tunnel that reads the same.
func FuzzParseTunnel(f *testing.F) {
	for _, b := range samples() {
		f.Add(build.Eth(build.Tunnel(b, "198.51.100.1", "198.51.100.2", 17), macB, macA))
	}
	f.Add(build.IPv4("198.51.100.1", "198.51.100.2").Options(1, 1).UDP(1, 6635).Payload([]byte{0, 1, 0x11, 64, 0x45}).Eth(macB, macA).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		var tun, again Tunnel
		ParseTunnel(b, 1<<20, &tun)
		if ParseTunnel(b, len(b), &tun) != FaultNone {
			return
		}
		if tun.Inner < EthernetLen+TunnelLen || tun.Len < 0 || tun.Inner+tun.Len > len(b) || tun.Label >= 1<<20 {
			t.Fatalf("%+v of %d bytes", tun, len(b))
		}
		var in Info
		ParseIP(b, tun.Inner, tun.Len, &in)
		build.Describe(b)
		x := make([]byte, EthernetLen+TunnelLen, EthernetLen+TunnelLen+tun.Len)
		copy(x, b[:EthernetLen])
		PutTunnel(x[EthernetLen:], &Outer{tun.Src.As4(), tun.Dst.As4(), tun.Sport, tun.Label}, tun.Len)
		x = append(x, b[tun.Inner:tun.Inner+tun.Len]...)
		if f := ParseTunnel(x, len(x), &again); f != FaultNone {
			t.Fatalf("written again: %v", f)
		}
		again.Inner = tun.Inner
		if again != tun {
			t.Fatalf("written again: %+v, was %+v", again, tun)
		}
	})
}

// FuzzDiff: comparing and describing garbage never panics, and equal means equal.
func FuzzDiff(f *testing.F) {
	all := samples()
	for i, b := range all {
		f.Add(b, all[(i+1)%len(all)])
		f.Add(build.Eth(b, macA, macB), build.Tunnel(b, "198.51.100.1", "198.51.100.2", 17))
	}
	f.Add(build.ARPRequest(macA, a4, b4), build.ARPReply(macA, a4, macB, b4))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if (build.Diff(a, b) == "") != bytes.Equal(a, b) {
			t.Fatalf("% x\n% x\ndiff says %q", a, b, build.Diff(a, b))
		}
		build.Verify(a)
	})
}
