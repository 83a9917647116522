package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

var macA, macB = build.MAC("02:00:00:00:00:0a"), build.MAC("02:00:00:00:00:0b")

func TestTunnelBothWays(t *testing.T) {
	for name, inner := range map[string][]byte{
		"smallest": build.IPv4(a4, b4).Bytes(),
		"IPv6":     build.IPv6(a6, b6).UDP(1, 2).Bytes(),
		"largest":  build.IPv4(a4, b4).UDP(1, 2).Payload(65535 - TunnelLen - 28).Bytes(),
	} {
		for _, label := range []uint32{0, 16, 1<<20 - 1} {
			frame := build.Eth(build.Tunnel(inner, "198.51.100.1", "198.51.100.2", label), macB, macA)
			in := parse(t, inner)
			b := make([]byte, TunnelLen)
			for i := range b {
				b[i] = 0xaa // a used buffer
			}
			PutTunnel(b, &Outer{[4]byte{198, 51, 100, 1}, [4]byte{198, 51, 100, 2}, EntropyPort(in.Hash()), label}, len(inner))
			if d := build.Diff(append(b, inner...), frame[EthernetLen:]); d != "" {
				t.Errorf("%s: PutTunnel: %s", name, d)
			}
			var got Tunnel
			padded := append(append([]byte(nil), frame...), 0, 0, 0)
			f := ParseTunnel(padded, len(padded), &got)
			want := Tunnel{
				Src: addr("198.51.100.1"), Dst: addr("198.51.100.2"), Label: label,
				Sport: 0xC000 | uint16(in.Hash()&0x3fff), Inner: EthernetLen + TunnelLen, Len: len(inner),
			}
			if f != FaultNone || got != want {
				t.Errorf("%s: ParseTunnel: %v\ngot  %+v\nwant %+v", name, f, got, want)
			}
		}
	}
}

func TestParseTunnel(t *testing.T) {
	inner := build.IPv4(a4, b4).UDP(1, 2).Payload(5).Bytes()
	mpls := func(entry ...byte) []byte { return append(entry, inner...) }
	outer := func() *build.Packet { return build.IPv4("198.51.100.1", "198.51.100.2") }
	frame := func(p *build.Packet) []byte { return p.Eth(macB, macA).Bytes() }
	good := frame(outer().UDP(0xC001, 6635).Payload(mpls(0, 1, 0x11, 64)))
	for name, c := range map[string]struct {
		frame []byte
		want  Fault
	}{
		"UDP checksum":             {good, FaultNone},
		"UDP checksum 0":           {frame(outer().UDP(0xC001, 6635).NoChecksum().Payload(mpls(0, 1, 0x11, 1))), FaultNone},
		"IP options":               {frame(outer().Options(1, 1, 1, 0).UDP(1, 6635).Payload(mpls(0, 1, 0x11, 64))), FaultNone},
		"nothing inside":           {frame(outer().UDP(1, 6635).Payload([]byte{0, 1, 0x11, 64})), FaultNone},
		"wrong UDP checksum":       {patched(good, len(good)-1, 0xee), FaultChecksum},
		"wrong IP checksum":        {patched(good, 14+8, 63), FaultChecksum},
		"nothing":                  {nil, FaultNotTunnel},
		"ARP":                      {build.ARPRequest(macA, a4, b4), FaultNotTunnel},
		"IPv6":                     {build.IPv6(a6, b6).UDP(1, 6635).Eth(macB, macA).Bytes(), FaultNotTunnel},
		"TCP":                      {frame(outer().TCP(1, 6635, "S")), FaultNotTunnel},
		"another port":             {frame(outer().UDP(6635, 6636).Payload(mpls(0, 1, 0x11, 64))), FaultNotTunnel},
		"IHL 4":                    {patched(good, 14, 0x44), FaultHeader},
		"version 6 in IPv4":        {patched(good, 14, 0x65), FaultNotTunnel},
		"first fragment":           {frame(outer().Frag(9, 0, true).UDP(1, 6635).Payload(mpls(0, 1, 0x11, 64))), FaultFragment},
		"tail fragment":            {frame(outer().Frag(9, 8, false).Proto(17).Payload(8)), FaultFragment},
		"no label":                 {frame(outer().UDP(1, 6635)), FaultShort},
		"half a label":             {frame(outer().UDP(1, 6635).Payload(3).Pad(18)), FaultLength},
		"two labels":               {frame(outer().UDP(1, 6635).Payload(mpls(0, 1, 0x10, 64, 0, 2, 0x11, 64))), FaultLabelStack},
		"label TTL 0":              {frame(outer().UDP(1, 6635).Payload(mpls(0, 1, 0x11, 0))), FaultLabelTTL},
		"cut off":                  {good[:len(good)-1], FaultShort},
		"cut off in UDP":           {good[:40], FaultShort},
		"UDP length beyond IP":     {patched(good, 14+24, 0xff, 0xff), FaultLength},
		"UDP length too small":     {patched(good, 14+24, 0, 11), FaultLength},
		"total length below UDP's": {append(append([]byte(nil), good[:14]...), resummed(patched(good[14:], 2, 0, 28))...), FaultLength},
	} {
		t.Run(name, func(t *testing.T) {
			var tun Tunnel
			got := ParseTunnel(c.frame, len(c.frame), &tun)
			if got != c.want {
				t.Errorf("%s: got %v, want %v", build.Describe(c.frame), got, c.want)
			}
			if got == FaultNone && (tun.Label != 17 || tun.Inner+tun.Len != len(c.frame)) {
				t.Errorf("got %+v of %d bytes", tun, len(c.frame))
			}
			if got == FaultNone && len(c.frame) > 64 { // the rest in another chunk: no checksum to see
				if f := ParseTunnel(c.frame[:60], len(c.frame), &tun); f != FaultNone {
					t.Errorf("in two chunks: %v", f)
				}
			}
		})
	}
}

func TestEntropyPort(t *testing.T) {
	for hash, want := range map[uint32]uint16{0: 0xC000, 0xffffffff: 0xffff, 0x12345678: 0xC000 | 0x1678} {
		if got := EntropyPort(hash); got != want {
			t.Errorf("EntropyPort(%#x) = %#x, want %#x", hash, got, want)
		}
	}
}
