package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// Vectors of RFC 3720 B.4, which has the same CRC.
func TestSCTPChecksumVectors(t *testing.T) {
	zeros, ones, up, down := make([]byte, 32), make([]byte, 32), make([]byte, 32), make([]byte, 32)
	for i := range 32 {
		ones[i], up[i], down[i] = 0xff, byte(i), byte(31-i)
	}
	for _, c := range []struct {
		b    []byte
		want uint32
	}{{zeros, 0x8a9136aa}, {ones, 0x62a8ab43}, {up, 0x46dd794e}, {down, 0x113fdb5c}, {nil, 0}} {
		if got := SCTPChecksum(c.b); got != c.want {
			t.Errorf("% x: got %#08x, want %#08x", c.b, got, c.want)
		}
	}
	if SCTPChecksum(up[:1], up[1:13], nil, up[13:]) != 0x46dd794e {
		t.Error("parts do not add up to the whole")
	}
}

// However the packet is cut into chunks, the stored CRC is the builder's, which
// computes it bit by bit.
func TestPutSCTPChecksum(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 63, 64, 1000, 9000} {
		for _, want := range [][]byte{
			build.IPv4(a4, b4).SCTP(1, 2).Payload(n).Bytes(),
			build.IPv6(a6, b6).SCTP(1, 2).Payload(n).Bytes(),
			build.IPv4(a4, b4).SCTP(1, 2).Init(uint32(n)).Bytes(),
		} {
			in := parse(t, want)
			for _, cut := range []int{in.L4 + 12, in.L4 + 13, (in.L4 + 12 + len(want)) / 2, len(want)} {
				b := append([]byte(nil), want...)
				copy(b[in.L4+8:], "\x11\x22\x33\x44")
				head, tail := b[:cut:cut], b[cut:]
				PutSCTPChecksum(head, in.L4, tail[:len(tail)/3], tail[len(tail)/3:])
				if d := build.Diff(b, want); d != "" {
					t.Errorf("%d bytes, cut at %d: %s", n, cut, d)
				}
			}
		}
	}
}
