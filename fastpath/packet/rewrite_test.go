package packet_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// families let a row be written once for both.
var families = []struct {
	name string
	a, b string // the packet before
	x, y string // after
}{
	{"IPv4", a4, b4, "203.0.113.200", "10.96.0.10"},
	{"IPv6", a6, b6, "2001:db8:ffff:ffff::1", "fd00:10:96::a"},
}

func TestRewrite(t *testing.T) {
	for _, f := range families {
		to := tuple(f.x, f.y, 60000, 8080, 0)
		rows := map[string]struct{ before, after *build.Packet }{
			"UDP, smallest": {build.IP(f.a, f.b).UDP(1, 2), build.IP(f.x, f.y).UDP(60000, 8080)},
			"UDP, largest": {
				build.IP(f.a, f.b).UDP(1, 2).Payload(65507),
				build.IP(f.x, f.y).UDP(60000, 8080).Payload(65507),
			},
			"TCP, TTL 1": {
				build.IP(f.a, f.b).TTL(1).TCP(1000, 80, "S").MSS(1460).Payload(3),
				build.IP(f.x, f.y).TTL(1).TCP(60000, 8080, "S").MSS(1460).Payload(3),
			},
			"SCTP": {build.IP(f.a, f.b).SCTP(1, 2).Payload(99), build.IP(f.x, f.y).SCTP(60000, 8080).Payload(99)},
			"echo request": {
				build.IP(f.a, f.b).Echo(7, 3).Payload(56),
				build.IP(f.x, f.y).Echo(60000, 3).Payload(56),
			},
			"echo reply": {
				build.IP(f.a, f.b).EchoReply(7, 3).Payload(56),
				build.IP(f.x, f.y).EchoReply(8080, 3).Payload(56),
			},
			"ICMP without identifier": {build.IP(f.a, f.b).ICMP(200, 1, 5), build.IP(f.x, f.y).ICMP(200, 1, 5)},
			"ESP":                     {build.IP(f.a, f.b).Proto(50).Payload(16), build.IP(f.x, f.y).Proto(50).Payload(16)},
			"tail fragment": {
				build.IP(f.a, f.b).Frag(5, 1480, false).Proto(17).Payload(16),
				build.IP(f.x, f.y).Frag(5, 1480, false).Proto(17).Payload(16),
			},
			"UDP without checksum": {
				build.IP(f.a, f.b).UDP(1, 2).NoChecksum().Payload(4),
				build.IP(f.x, f.y).UDP(60000, 8080).NoChecksum().Payload(4),
			},
		}
		for name, c := range rows {
			t.Run(f.name+" "+name, func(t *testing.T) {
				b, want := c.before.Bytes(), c.after.Bytes()
				in := parse(t, b)
				if sctp := rewrite(b, in, to); sctp != (name == "SCTP") {
					t.Errorf("Rewrite returns %v", sctp)
				} else if sctp {
					PutSCTPChecksum(b, in.L4)
				}
				if d := build.Diff(b, want); d != "" {
					t.Error(d)
				}
				if got := parse(t, b); *got != *in {
					t.Errorf("Info after the rewrite:\ngot  %+v\nwant %+v", *in, *got)
				}
			})
		}
	}
}

func TestRewriteOnePart(t *testing.T) {
	for name, c := range map[string]struct{ to, want Tuple }{
		"nothing":          {tuple(a4, b4, 1000, 80, 6), tuple(a4, b4, 1000, 80, 6)},
		"source":           {tuple(c4, b4, 1000, 80, 6), tuple(c4, b4, 1000, 80, 6)},
		"destination port": {tuple(a4, b4, 1000, 8080, 6), tuple(a4, b4, 1000, 8080, 6)},
		"ports swapped":    {tuple(a4, b4, 80, 1000, 6), tuple(a4, b4, 80, 1000, 6)},
		"another protocol": {tuple(c4, b4, 1000, 80, 17), tuple(c4, b4, 1000, 80, 6)},
	} {
		b := build.IPv4(a4, b4).TCP(1000, 80, "A").Payload(5).Bytes()
		in := parse(t, b)
		rewrite(b, in, c.to)
		want := build.IPv4(c.want.Src.String(), b4).TCP(c.want.Sport, c.want.Dport, "A").Payload(5).Bytes()
		if d := build.Diff(b, want); d != "" || in.Tuple != c.want {
			t.Errorf("%s: %v %s", name, in.Tuple, d)
		}
	}
	// An SCTP packet whose addresses alone change keeps its CRC.
	b := build.IPv4(a4, b4).SCTP(1, 2).Bytes()
	if rewrite(b, parse(t, b), tuple(c4, b4, 1, 2, 0)) {
		t.Error("SCTP: the CRC does not cover addresses")
	}
	if err := build.Verify(b); err != nil {
		t.Error(err)
	}
}

// The dull twin: whatever the checksum was and becomes, 0x0000 and 0xffff
// included, the incremental result is the one of a full computation, bit for bit.
func TestRewriteEveryChecksum(t *testing.T) {
	for _, f := range families {
		to := tuple(f.x, f.y, 60000, 8080, 0)
		for name, p := range map[string]*build.Packet{
			"UDP":  build.IP(f.a, f.b).UDP(1, 2).Payload(2),
			"TCP":  build.IP(f.a, f.b).TCP(1, 2, "A").Payload(2),
			"ICMP": build.IP(f.a, f.b).Echo(1, 2).Payload(2),
		} {
			b := p.Bytes()
			seen := map[uint16]int{}
			for v := range 0x10000 {
				x := append([]byte(nil), b...)
				binary.BigEndian.PutUint16(x[len(x)-2:], uint16(v))
				if name == "UDP" && v == 0 {
					continue // its checksum field may be 0 here, which Fix leaves
				}
				build.Fix(x)
				in := parse(t, x)
				rewrite(x, in, to)
				y := append([]byte(nil), x...)
				build.Fix(y)
				if !bytes.Equal(x, y) {
					t.Fatalf("%s %s, payload %#04x: %s", f.name, name, v, build.Diff(x, y))
				}
				at := map[string]int{"UDP": 6, "TCP": 16, "ICMP": 2}[name]
				seen[binary.BigEndian.Uint16(x[in.L4+at:])]++
			}
			if name == "UDP" && (seen[0] != 0 || seen[0xffff] == 0) || name != "UDP" && seen[0] == 0 {
				t.Errorf("%s %s: checksum 0 was seen %d times, 0xffff %d times", f.name, name, seen[0], seen[0xffff])
			}
		}
	}
}

// The same for the IPv4 header checksum, by every identification.
func TestHeaderEveryChecksum(t *testing.T) {
	to := tuple(c4, "203.0.113.255", 0, 0, 0)
	for id := range 0x10000 {
		b := build.IPv4(a4, b4).ID(uint16(id)).TTL(2).Bytes()
		in := parse(t, b)
		rewrite(b, in, to)
		DecTTL(b, in)
		want := build.IPv4(c4, "203.0.113.255").ID(uint16(id)).TTL(1).Bytes()
		if !bytes.Equal(b, want) {
			t.Fatalf("id %#04x: %s", id, build.Diff(b, want))
		}
	}
}

// The one packet whose words are all 0: an echo reply with identifier, sequence and
// data 0. Its checksum is 0xffff and must never become 0.
func TestRewriteAllZero(t *testing.T) {
	for _, n := range []int{0, 1, 8} {
		b := build.IPv4(a4, b4).EchoReply(0, 0).Payload(make([]byte, n)).Bytes()
		want := build.IPv4(c4, b4).EchoReply(0, 0).Payload(make([]byte, n)).Bytes()
		in := parse(t, b)
		rewrite(b, in, tuple(c4, b4, 0, 0, 0))
		if d := build.Diff(b, want); d != "" {
			t.Error(d)
		}
		rewrite(b, in, tuple(c4, b4, 0, 77, 0))
		rewrite(b, in, tuple(c4, b4, 0, 0, 0))
		if d := build.Diff(b, want); d != "" {
			t.Error(d)
		}
	}
	// Data that adds up to zero in another way.
	b := build.IPv4(a4, b4).EchoReply(9, 0).Payload([]byte{0xff, 0xff}).Bytes()
	rewrite(b, parse(t, b), tuple(a4, b4, 0, 0, 0))
	if err := build.Verify(b); err != nil {
		t.Error(err)
	}
}

// A datagram rewritten in pieces is whole when put together: the checksum in the
// head covers the tails too.
func TestRewriteFragments(t *testing.T) {
	for _, f := range families {
		for name, p := range map[string]*build.Packet{
			"UDP":  build.IP(f.a, f.b).UDP(1000, 53).Payload(4001),
			"TCP":  build.IP(f.a, f.b).TCP(1000, 80, "A").Payload(4001),
			"ICMP": build.IP(f.a, f.b).Echo(9, 1).Payload(4001),
		} {
			whole := p.Bytes()
			var payload []byte
			for _, piece := range build.Fragments(whole, 1280, 3) {
				in := parse(t, piece)
				rewrite(piece, in, tuple(f.x, f.y, 40000, 5353, 0))
				if err := build.Verify(piece); err != nil {
					t.Error(err)
				}
				header := 20
				if in.V6 {
					header = 48
				}
				payload = append(payload, piece[header:]...)
			}
			proto := map[string]uint8{"UDP": 17, "TCP": 6, "ICMP": 1}[name]
			if name == "ICMP" && f.name == "IPv6" {
				proto = ProtoICMPv6
			}
			if err := build.Verify(build.IP(f.x, f.y).Proto(proto).Payload(payload).Bytes()); err != nil {
				t.Errorf("%s %s: %v", f.name, name, err)
			}
		}
	}
}

func TestDecTTL(t *testing.T) {
	for _, f := range families {
		for ttl := 2; ttl < 256; ttl++ {
			b := build.IP(f.a, f.b).TTL(uint8(ttl)).UDP(1, 2).Bytes()
			in := parse(t, b)
			DecTTL(b, in)
			want := build.IP(f.a, f.b).TTL(uint8(ttl-1)).UDP(1, 2).Bytes()
			if d := build.Diff(b, want); d != "" || int(in.TTL) != ttl-1 {
				t.Fatalf("TTL %d, Info %d: %s", ttl, in.TTL, d)
			}
		}
	}
}

func TestRewriteInner(t *testing.T) {
	for _, f := range families {
		router := map[string]string{"IPv4": c4, "IPv6": c6}[f.name]
		to := tuple(f.x, f.y, 60000, 8080, 0)
		big := func(a, b string, s, d uint16) *build.Packet { return build.IP(a, b).TCP(s, d, "A").Payload(1000) }
		rows := map[string]struct{ before, after []byte }{
			"UDP":  {build.IP(f.a, f.b).UDP(1, 2).Payload(9).Bytes(), build.IP(f.x, f.y).UDP(60000, 8080).Payload(9).Bytes()},
			"TCP":  {build.IP(f.a, f.b).TCP(1, 2, "S").Bytes(), build.IP(f.x, f.y).TCP(60000, 8080, "S").Bytes()},
			"echo": {build.IP(f.a, f.b).Echo(1, 2).Bytes(), build.IP(f.x, f.y).Echo(60000, 2).Bytes()},
			"ESP":  {build.IP(f.a, f.b).Proto(50).Payload(8).Bytes(), build.IP(f.x, f.y).Proto(50).Payload(8).Bytes()},
			"UDP without checksum": {
				build.IP(f.a, f.b).UDP(1, 2).NoChecksum().Payload(9).Bytes(),
				build.IP(f.x, f.y).UDP(60000, 8080).NoChecksum().Payload(9).Bytes(),
			},
			"tail fragment": {
				build.IP(f.a, f.b).Frag(1, 64, false).Proto(17).Payload(8).Bytes(),
				build.IP(f.x, f.y).Frag(1, 64, false).Proto(17).Payload(8).Bytes(),
			},
		}
		// TCP cut off at every byte from its ports to beyond its checksum.
		whole, after := big(f.a, f.b, 1, 2).Bytes(), big(f.x, f.y, 60000, 8080).Bytes()
		l4 := len(whole) - 1020
		for n := l4 + 8; n < l4+24; n++ {
			quoted := append([]byte(nil), after[:n]...)
			if n == l4+17 {
				quoted[n-1] = whole[n-1] // half a checksum stays
			}
			rows[fmt.Sprintf("TCP, %d bytes quoted", n-l4)] = struct{ before, after []byte }{whole[:n], quoted}
		}
		// SCTP quotes a CRC over bytes that are not there: it stays.
		sctp := build.IP(f.x, f.y).SCTP(60000, 8080).Payload(64).Bytes()[:l4+12]
		old := build.IP(f.a, f.b).SCTP(1, 2).Payload(64).Bytes()[:l4+12]
		copy(sctp[l4+8:], old[l4+8:])
		rows["SCTP"] = struct{ before, after []byte }{old, sctp}

		for name, c := range rows {
			t.Run(f.name+" "+name, func(t *testing.T) {
				b := build.IP(router, f.a).PortUnreachable(c.before).Bytes()
				want := build.IP(router, f.a).PortUnreachable(c.after).Bytes()
				in := parse(t, b)
				RewriteInner(b, in, to)
				if d := build.Diff(b, want); d != "" {
					t.Error(d)
				}
				if got := parse(t, b); *got != *in {
					t.Errorf("Info after the rewrite:\ngot  %+v\nwant %+v", *in, *got)
				}
				// Then the outer packet, as NAT does both.
				rewrite(b, in, tuple(f.y, f.x, 0, 0, 0))
				if d := build.Diff(b, build.IP(f.y, f.x).PortUnreachable(c.after).Bytes()); d != "" {
					t.Error(d)
				}
			})
		}
	}
	// Nothing embedded: nothing happens.
	b := build.IPv4(c4, a4).TimeExceeded([]byte("garbage that is no packet")).Bytes()
	before := append([]byte(nil), b...)
	RewriteInner(b, parse(t, b), tuple(a4, b4, 1, 2, 0))
	if d := build.Diff(b, before); d != "" {
		t.Error(d)
	}
}

// An error may quote a header whose checksum is already out of date (RFC 1812
// 4.3.2.3 lets routers quote after the TTL was decremented): it stays so, and the
// ICMP checksum is still right.
func TestRewriteInnerStale(t *testing.T) {
	quoted := build.IPv4(a4, b4).UDP(1, 2).Payload(9).Bytes()
	quoted[8]--
	b := build.IPv4(c4, a4).TimeExceeded(quoted).Bytes()
	in := parse(t, b)
	RewriteInner(b, in, tuple(c4, b4, 7, 8, 0))
	if err := build.Verify(b); err != nil {
		t.Error(err)
	}
	if build.Verify(b[in.InnerL3:]) == nil {
		t.Error("the quoted header's checksum was corrected: its fault is hidden")
	}
}

func rewrite(b []byte, in *Info, to Tuple) bool { return Rewrite(b, in, &to) }
