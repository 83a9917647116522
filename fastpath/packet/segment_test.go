package packet_test

import (
	"encoding/binary"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// large is a packet as a sender hands it to a card that segments: one header, an
// unfinished checksum.
func large(t *testing.T, b []byte) ([]byte, Info) {
	t.Helper()
	b = clone(b)
	var in Info
	if f := ParseIP(b, 0, len(b), &in); f != FaultNone {
		t.Fatalf("ParseIP: %v", f)
	}
	unfinish(b, &in)
	return b, in
}

// unfinish leaves the checksum to the card.
func unfinish(b []byte, in *Info) {
	at := in.L4 + 16
	if in.Tuple.Proto == ProtoUDP {
		at = in.L4 + 6
	}
	var pseudo []byte
	pseudo = append(pseudo, in.Tuple.Src[:]...)
	pseudo = append(pseudo, in.Tuple.Dst[:]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(in.Len-(in.L4-in.L3)))
	pseudo = append(pseudo, 0, in.Tuple.Proto)
	binary.BigEndian.PutUint16(b[at:], dullSum(pseudo))
	in.Partial = true
}

// dullSum adds words one by one.
func dullSum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		v := uint32(c)
		if i%2 == 0 {
			v <<= 8
		}
		if sum += v; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

// segments makes all segments with the functions under test, as the user plane does.
func segments(b []byte, in Info, size int) (out [][]byte) {
	at, _ := PayloadAt(b, &in)
	payload := b[at : in.L3+in.Len]
	for i := 0; i*size < len(payload) || i == 0; i++ {
		part := payload[i*size : min(len(payload), (i+1)*size)]
		q, qin := append(clone(b[:at]), part...), in
		PutSegment(q, &qin, Segment{Index: i, Off: i * size, Len: len(part), Last: (i+1)*size >= len(payload)})
		half := at + len(part)/2
		PutChecksum(q[:half:half], &qin, q[half:])
		out = append(out, q)
	}
	return out
}

// dullCut is the twin: every segment written anew, field by field.
func dullCut(b []byte, in Info, size int) (out [][]byte) {
	at, _ := PayloadAt(b, &in)
	payload := b[at : in.L3+in.Len]
	for off := 0; off < len(payload) || off == 0; off += size {
		end := min(off+size, len(payload))
		q := append(clone(b[:at]), payload[off:end]...)
		if in.V6 {
			binary.BigEndian.PutUint16(q[4:], uint16(len(q)-40))
		} else {
			binary.BigEndian.PutUint16(q[2:], uint16(len(q)))
			binary.BigEndian.PutUint16(q[4:], binary.BigEndian.Uint16(q[4:])+uint16(off/size))
		}
		l4 := q[in.L4:]
		if in.Tuple.Proto == ProtoUDP {
			binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		} else {
			binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(off))
			if off > 0 {
				l4[13] &= 0x7f
			}
			if end < len(payload) {
				l4[13] &= 0xf6
			}
		}
		build.Fix(q)
		out = append(out, q)
	}
	return out
}

func TestSegments(t *testing.T) {
	const all = "FPAEC"
	for _, c := range []struct {
		name string
		p    *build.Packet
		size int
	}{
		{"largest TCP", build.IPv4("192.0.2.1", "192.0.2.2").DF().ID(0xfffe).TCP(1, 2, all).Payload(65535 - 40), 1448},
		{"largest TCP over IPv6", build.IPv6("2001:db8::1", "2001:db8::2").TCP(1, 2, all).Payload(65535 - 20), 1428},
		{"one byte in the last", build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "AP").Payload(1001), 500},
		{"odd size", build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "AF").Payload(1000), 333},
		{"options", build.IPv4("192.0.2.1", "192.0.2.2").Options(7, 7, 4, 0, 0, 0, 0).TCP(1, 2, "A").Payload(1000), 100},
		{"UDP", build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(5000), 1200},
		{"UDP over IPv6", build.IPv6("2001:db8::1", "2001:db8::2").UDP(1, 2).Payload(5000), 1201},
		{"one segment", build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "AP").Payload(100), 1448},
		{"no payload", build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "S").Payload(0), 1448},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, in := large(t, c.p.Bytes())
			checkCut(t, b, in, c.size)
		})
	}
}

func checkCut(t *testing.T, b []byte, in Info, size int) {
	t.Helper()
	got, want := segments(b, in, size), dullCut(b, in, size)
	if len(got) != len(want) {
		t.Fatalf("%d segments, want %d", len(got), len(want))
	}
	for i := range want {
		if d := build.Diff(got[i], want[i]); d != "" {
			t.Fatalf("segment %d of %d:\n%s", i, len(want), d)
		}
		if err := build.Verify(got[i]); err != nil {
			t.Fatalf("segment %d of %d: %v", i, len(want), err)
		}
	}
}

// FuzzSegments cuts whatever parses, in all sizes, beside the twin.
func FuzzSegments(f *testing.F) {
	for _, b := range samples() {
		f.Add(b, uint16(100))
	}
	f.Add(build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "AFP").Payload(1000).Bytes(), uint16(333))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		b = clone(b)
		build.Fix(b)
		var in Info
		if ParseIP(b, 0, len(b), &in) != FaultNone || build.Verify(b) != nil || size == 0 || in.Tuple.Dport == TunnelPort {
			return
		}
		b = b[:in.L3+in.Len]
		at, ok := PayloadAt(b, &in)
		if !ok || at > len(b) || in.Tuple.Proto == ProtoUDP && int(binary.BigEndian.Uint16(b[in.L4+4:])) != len(b)-in.L4 {
			return
		}
		unfinish(b, &in)
		checkCut(t, b, in, max(int(size), (len(b)-at)/200+1))
	})
}

// TestPartialRewrite translates before the checksum is finished, and after: the
// outcome is one.
func TestPartialRewrite(t *testing.T) {
	for _, p := range []*build.Packet{
		build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "A").Payload(1001),
		build.IPv6("2001:db8::1", "2001:db8::2").TCP(1000, 80, "A").Payload(1001),
		build.IPv4("192.0.2.1", "192.0.2.2").UDP(1000, 80).Payload(777),
		build.IPv6("2001:db8::1", "2001:db8::2").UDP(1000, 80).Payload(778),
		build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "S").MSS(9000),
	} {
		for last := range 256 {
			b, in := large(t, p.Bytes())
			rewrite(b, &in, target(&in, uint8(last), uint16(last)*257, 8888))
			ClampMSS(b, &in, 1400)
			PutChecksum(b[:in.L4+20], &in, b[in.L4+20:])
			if err := build.Verify(b); err != nil {
				t.Fatalf("%s, to ….%d: put anew: %v", build.Describe(b), last, err)
			}
			b, in = large(t, p.Bytes())
			rewrite(b, &in, target(&in, uint8(last), uint16(last)*257, 8888))
			at := map[uint8]int{ProtoTCP: 16, ProtoUDP: 6}[in.Tuple.Proto]
			FinishChecksum(b[:in.L4+20], in.L4, in.L4+at, b[in.L4+20:in.L4+21], nil, b[in.L4+21:])
			if err := build.Verify(b); err != nil {
				t.Fatalf("%s, to ….%d: finished: %v", build.Describe(b), last, err)
			}
		}
	}
}

// TestUnfinished: what a sender left to a card is told from what is finished.
func TestUnfinished(t *testing.T) {
	for _, p := range []*build.Packet{
		build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "A").Payload(1001),
		build.IPv6("2001:db8::1", "2001:db8::2").TCP(1000, 80, "A").Payload(0),
		build.IPv4("192.0.2.1", "192.0.2.2").UDP(1000, 80).Payload(777),
		build.IPv6("2001:db8::1", "2001:db8::2").UDP(1000, 80).Payload(778),
	} {
		b, in := large(t, p.Bytes())
		if !Unfinished(b, &in) {
			t.Errorf("%s: passes for finished", build.Describe(b))
		}
		PutChecksum(b, &in)
		if Unfinished(b, &in) {
			t.Errorf("%s: passes for unfinished", build.Describe(b))
		}
		if in.Tuple.Proto == ProtoUDP {
			b[in.L4+6], b[in.L4+7] = 0, 0
			if Unfinished(b, &in) {
				t.Errorf("%s: none passes for unfinished", build.Describe(b))
			}
		}
	}
	var in Info
	b := build.IPv4("192.0.2.1", "192.0.2.2").ICMP(8, 0, 0).Payload(10).Bytes()
	ParseIP(b, 0, len(b), &in)
	if Unfinished(b, &in) {
		t.Error("ICMP passes for unfinished")
	}
}

func TestPayloadAt(t *testing.T) {
	for _, c := range []struct {
		p  *build.Packet
		at int
		ok bool
	}{
		{build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(10), 40, true},
		{build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(0), 28, true},
		{build.IPv4("192.0.2.1", "192.0.2.2").ICMP(8, 0, 0).Payload(10), 0, false},
		{build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(64).Frag(1, 0, true), 0, false},
	} {
		b := c.p.Bytes()
		var in Info
		if f := ParseIP(b, 0, len(b), &in); f != FaultNone {
			t.Fatal(f)
		}
		if at, ok := PayloadAt(b, &in); at != c.at || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", build.Describe(b), at, ok, c.at, c.ok)
		}
	}
	b := build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(10).Bytes()
	var in Info
	ParseIP(b, 0, len(b), &in)
	b[in.L4+12] = 0xf0 // 60 bytes of header in 30
	if _, ok := PayloadAt(b, &in); ok {
		t.Error("a header longer than the packet was accepted")
	}
}

func BenchmarkSegments(b *testing.B) {
	p := build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(65535 - 40).Bytes()
	var in Info
	ParseIP(p, 0, len(p), &in)
	dst := make([]byte, 2048)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		for off := 40; off < len(p); off += 1448 {
			end := min(len(p), off+1448)
			q, n := in, 40+copy(dst[40:], p[off:end])
			copy(dst, p[:40])
			PutSegment(dst[:n], &q, Segment{Index: (off - 40) / 1448, Off: off - 40, Len: end - off, Last: end == len(p)})
			PutChecksum(dst[:n], &q)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/46, "ns/segment")
}
