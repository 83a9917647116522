package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

func TestClampMSS(t *testing.T) {
	syn := func(options ...byte) *build.Packet {
		return build.IPv4(a4, b4).TCP(1, 2, "S").TCPOption(options...).Payload(3)
	}
	for name, c := range map[string]struct {
		before, after *build.Packet
		mtu           int
	}{
		"lowered":           {syn(2, 4, 0x05, 0xb4), syn(2, 4, 0x05, 0x8c), 1460},
		"fits exactly":      {syn(2, 4, 0x05, 0x8c), nil, 1460},
		"smaller already":   {syn(2, 4, 0x00, 0x64), nil, 1460},
		"SYN ACK":           {build.IPv4(a4, b4).TCP(1, 2, "SA").MSS(1460), build.IPv4(a4, b4).TCP(1, 2, "SA").MSS(1360), 1400},
		"not a SYN":         {build.IPv4(a4, b4).TCP(1, 2, "A").MSS(1460), nil, 1400},
		"at an odd offset":  {syn(1, 2, 4, 0x05, 0xb4), syn(1, 2, 4, 0x05, 0x8c), 1460},
		"behind others":     {syn(4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7, 2, 4, 0xff, 0xff), syn(4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7, 2, 4, 0x05, 0x8c), 1460},
		"odd, last":         {syn(1, 1, 1, 3, 3, 7, 1, 2, 4, 0xff, 0xff, 0), syn(1, 1, 1, 3, 3, 7, 1, 2, 4, 0x05, 0x8c, 0), 1460},
		"40 option bytes":   {syn(append(make1(36), 2, 4, 0xff, 0xff)...), syn(append(make1(36), 2, 4, 0x05, 0x8c)...), 1460},
		"behind the end":    {syn(0, 1, 2, 4, 0xff, 0xff), nil, 1460},
		"no options":        {syn(), nil, 1460},
		"option of size 0":  {syn(8, 0, 2, 4, 0xff, 0xff), nil, 1460},
		"option of size 3":  {syn(2, 3, 0xff, 1, 2, 4, 0xff, 0xff), syn(2, 3, 0xff, 1, 2, 4, 0x05, 0x8c), 1460},
		"option cut off":    {syn(1, 1, 2, 4), nil, 1460},
		"option too long":   {syn(8, 200, 2, 4, 0xff, 0xff), nil, 1460},
		"no room for data":  {syn(2, 4, 0x05, 0xb4), nil, 40},
		"IPv6":              {build.IPv6(a6, b6).TCP(1, 2, "S").MSS(1440), build.IPv6(a6, b6).TCP(1, 2, "S").MSS(1400), 1460},
		"first fragment":    {syn(2, 4, 0x05, 0xb4).Payload(8).Frag(1, 0, true), syn(2, 4, 0x05, 0x8c).Payload(8).Frag(1, 0, true), 1460},
		"not TCP":           {build.IPv4(a4, b4).UDP(1, 2).Payload(40), nil, 100},
		"tail of something": {build.IPv4(a4, b4).Frag(1, 80, false).Proto(6).Payload(40), nil, 100},
	} {
		t.Run(name, func(t *testing.T) {
			b, want := c.before.Bytes(), c.before.Bytes()
			if c.after != nil {
				want = c.after.Bytes()
			}
			if got := ClampMSS(b, parse(t, b), c.mtu); got != (c.after != nil) {
				t.Errorf("ClampMSS returns %v", got)
			}
			if d := build.Diff(b, want); d != "" {
				t.Error(d)
			}
		})
	}
}

// make1 returns n bytes of no-operation.
func make1(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 1
	}
	return b
}

// Every value at both parities of offset: the checksum stays right.
func TestClampMSSEveryValue(t *testing.T) {
	for _, pad := range []int{0, 1} {
		for v := range 0x10000 {
			b := build.IPv4(a4, b4).TCP(1, 2, "S").TCPOption(append(make1(pad), 2, 4, byte(v>>8), byte(v))...).Bytes()
			clamped := ClampMSS(b, parse(t, b), 1400)
			if clamped != (v > 1360) {
				t.Fatalf("MSS %d: %v", v, clamped)
			}
			if err := build.Verify(b); err != nil {
				t.Fatalf("MSS %d at parity %d: %v", v, pad, err)
			}
		}
	}
}
