package packet_test

import (
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// reply calls write with a dirty buffer and returns what was written.
func reply(size int, write func(dst []byte) int) []byte {
	dst := make([]byte, size)
	for i := range dst {
		dst[i] = 0xaa
	}
	return dst[:write(dst)]
}

func TestErrors(t *testing.T) {
	small := build.IPv4(a4, b4).DF().UDP(1, 2).Payload(9).Bytes()
	options := build.IPv4(a4, b4).Options(make1(40)...).TCP(1, 2, "A").Payload(1000).Bytes()
	small6 := build.IPv6(a6, b6).UDP(1, 2).Payload(9).Bytes()
	large6 := build.IPv6(a6, b6).UDP(1, 2).Payload(9000).Bytes()
	from4, from6 := func() *build.Packet { return build.IPv4(c4, a4).DF().TOS(0xc0) }, func() *build.Packet { return build.IPv6(c6, a6) }
	for name, c := range map[string]struct {
		orig  []byte
		write func(dst, orig []byte, in *Info, src Addr) int
		want  *build.Packet
	}{
		"time exceeded":         {small, TimeExceeded, from4().TimeExceeded(small)},
		"time exceeded, long":   {options, TimeExceeded, from4().TimeExceeded(options[:60+128])},
		"time exceeded, IPv6":   {small6, TimeExceeded, from6().TimeExceeded(small6)},
		"fragmentation needed":  {small, fragNeeded(1400), from4().FragNeeded(1400, small)},
		"MTU beyond 16 bits":    {small, fragNeeded(70000), from4().FragNeeded(65535, small)},
		"packet too big":        {large6, fragNeeded(1400), from6().FragNeeded(1400, large6[:1232])},
		"packet too big, jumbo": {small6, fragNeeded(70000), from6().FragNeeded(70000, small6)},
		"net":                   {small, unreachable(UnreachNet), from4().ICMP(3, 0, 0).Payload(small)},
		"host":                  {small, unreachable(UnreachHost), from4().ICMP(3, 1, 0).Payload(small)},
		"port":                  {small, unreachable(UnreachPort), from4().ICMP(3, 3, 0).Payload(small)},
		"admin":                 {small, unreachable(UnreachAdmin), from4().ICMP(3, 13, 0).Payload(small)},
		"no route, IPv6":        {small6, unreachable(UnreachNet), from6().ICMP(1, 0, 0).Payload(small6)},
		"address, IPv6":         {small6, unreachable(UnreachHost), from6().ICMP(1, 3, 0).Payload(small6)},
		"port, IPv6":            {small6, unreachable(UnreachPort), from6().ICMP(1, 4, 0).Payload(small6)},
		"admin, IPv6":           {small6, unreachable(UnreachAdmin), from6().ICMP(1, 1, 0).Payload(small6)},
	} {
		t.Run(name, func(t *testing.T) {
			src := addr(c4)
			if c.orig[0]>>4 == 6 {
				src = addr(c6)
			}
			in := parse(t, c.orig)
			padded := append(append([]byte(nil), c.orig...), 1, 2, 3) // Ethernet padding is not quoted
			got := reply(2000, func(dst []byte) int { return c.write(dst, padded, in, src) })
			if d := build.Diff(got, c.want.Bytes()); d != "" {
				t.Error(d)
			}
			if len(got) > 1280 {
				t.Errorf("%d bytes", len(got))
			}
			if parse(t, got).Inner != in.Tuple {
				t.Errorf("embeds %v, want %v", parse(t, got).Inner, in.Tuple)
			}
			// The smallest buffer allowed: an IPv6 quotation is shorter, the packet still good.
			got = reply(ReplyLen, func(dst []byte) int { return c.write(dst[:0], padded, in, src) })
			if err := build.Verify(got); err != nil || len(got) > ReplyLen {
				t.Errorf("in %d bytes: %d bytes, %v", ReplyLen, len(got), err)
			}
			// The frame may be in two chunks: only what is in the first is quoted.
			cut := min(len(c.orig), 101)
			got = reply(2000, func(dst []byte) int { return c.write(dst, c.orig[:cut], in, src) })
			if err := build.Verify(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func fragNeeded(mtu int) func(dst, orig []byte, in *Info, src Addr) int {
	return func(dst, orig []byte, in *Info, src Addr) int { return FragNeeded(dst, orig, in, src, mtu) }
}

func unreachable(why Unreach) func(dst, orig []byte, in *Info, src Addr) int {
	return func(dst, orig []byte, in *Info, src Addr) int { return Unreachable(dst, orig, in, src, why) }
}

func TestMayAnswer(t *testing.T) {
	udp4, udp6 := build.IPv4(a4, b4).UDP(1, 2).Bytes(), build.IPv6(a6, b6).UDP(1, 2).Bytes()
	for name, c := range map[string]struct {
		packet *build.Packet
		want   bool
	}{
		"UDP":                    {build.IPv4(a4, b4).UDP(1, 2), true},
		"TCP, IPv6":              {build.IPv6(a6, b6).TCP(1, 2, "S"), true},
		"first fragment":         {build.IPv4(a4, b4).Frag(1, 0, true).UDP(1, 2), true},
		"unknown protocol":       {build.IPv4(a4, b4).Proto(50).Payload(8), true},
		"echo request":           {build.IPv4(a4, b4).Echo(1, 1), true},
		"echo reply":             {build.IPv4(a4, b4).EchoReply(1, 1), true},
		"echo request, IPv6":     {build.IPv6(a6, b6).Echo(1, 1), true},
		"tail fragment":          {build.IPv4(a4, b4).Frag(1, 64, false).Proto(17).Payload(8), false},
		"multicast":              {build.IPv4(a4, "224.0.0.1").UDP(1, 2), false},
		"broadcast":              {build.IPv4(a4, "255.255.255.255").UDP(1, 2), false},
		"multicast, IPv6":        {build.IPv6(a6, "ff02::1").UDP(1, 2), false},
		"unreachable":            {build.IPv4(a4, b4).PortUnreachable(udp4), false},
		"time exceeded":          {build.IPv4(a4, b4).TimeExceeded(udp4), false},
		"redirect":               {build.IPv4(a4, b4).ICMP(5, 1, 0), false},
		"source quench":          {build.IPv4(a4, b4).ICMP(4, 0, 0), false},
		"unreachable, IPv6":      {build.IPv6(a6, b6).PortUnreachable(udp6), false},
		"unknown error, IPv6":    {build.IPv6(a6, b6).ICMP(100, 0, 0), false},
		"redirect, IPv6":         {build.IPv6(a6, b6).ICMP(137, 0, 0).Payload(32), false},
		"from nobody, IPv6":      {build.IPv6("::", "ff02::16").ICMP(143, 0, 0), false},
		"neighbour solicitation": {build.IPv6(a6, b6).TTL(255).ICMP(135, 0, 0).Payload(16), true},
	} {
		if got := MayAnswer(parse(t, c.packet.Bytes())); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestReset(t *testing.T) {
	for _, f := range families {
		seg := func(flags string) *build.Packet { return build.IP(f.a, f.b).TCP(1000, 80, flags).Seq(500).Ack(7000) }
		rst := func(flags string, seq, ack uint32) *build.Packet {
			p := build.IP(f.b, f.a).TCP(80, 1000, flags).Seq(seq).Ack(ack).Window(0)
			if f.name == "IPv4" {
				p.DF()
			}
			return p
		}
		for name, c := range map[string]struct{ packet, want *build.Packet }{
			"SYN":                       {seg("S"), rst("RA", 0, 501)},
			"SYN with options and data": {seg("S").MSS(1460).Payload(10), rst("RA", 0, 511)},
			"FIN":                       {seg("F").Payload(3), rst("RA", 0, 504)},
			"nothing set":               {seg("").Payload(3), rst("RA", 0, 503)},
			"sequence number wraps":     {seg("S").Seq(0xffffffff), rst("RA", 0, 0)},
			"ACK":                       {seg("A").Payload(3), rst("R", 7000, 0)},
			"SYN ACK":                   {seg("SA"), rst("R", 7000, 0)},
			"FIN ACK":                   {seg("FA"), rst("R", 7000, 0)},
			"RST":                       {seg("R"), nil},
			"RST ACK":                   {seg("RA"), nil},
			"UDP":                       {build.IP(f.a, f.b).UDP(1, 2).Payload(20), nil},
			"first fragment":            {seg("S").Frag(1, 0, true).Payload(4), nil},
			"tail fragment":             {build.IP(f.a, f.b).Frag(1, 64, false).Proto(6).Payload(8), nil},
			"padding is not counted":    {seg("S").Pad(6), rst("RA", 0, 501)},
			"largest":                   {seg("S").Payload(65000), rst("RA", 0, 500+65001)},
		} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				orig := c.packet.Bytes()
				in := parse(t, orig)
				got := reply(ReplyLen, func(dst []byte) int { return Reset(dst, orig[:min(len(orig), 128)], in) })
				if c.want == nil {
					if len(got) != 0 {
						t.Errorf("answered with %s", build.Describe(got))
					}
					return
				}
				if d := build.Diff(got, c.want.Bytes()); d != "" {
					t.Error(d)
				}
			})
		}
	}
}
