package packet_test

import (
	"net/netip"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
)

func addr(s string) Addr { return AddrFrom(netip.MustParseAddr(s)) }

func tuple(src, dst string, sport, dport uint16, proto uint8) Tuple {
	return Tuple{Src: addr(src), Dst: addr(dst), Sport: sport, Dport: dport, Proto: proto}
}

func TestAddr(t *testing.T) {
	for _, c := range []struct {
		text                        string
		is4, unspecified, multicast bool
	}{
		{"192.0.2.1", true, false, false},
		{"0.0.0.0", true, true, false},
		{"224.0.0.1", true, false, true},
		{"239.255.255.255", true, false, true},
		{"240.0.0.1", true, false, false},
		{"255.255.255.255", true, false, true},
		{"::", false, true, false},
		{"2001:db8::1", false, false, false},
		{"ff02::1", false, false, true},
		{"::ffff:0:c000:201", false, false, false}, // translated, not mapped
	} {
		a := addr(c.text)
		if a.Netip() != netip.MustParseAddr(c.text) || a.String() != c.text {
			t.Errorf("%s comes back as %v", c.text, a)
		}
		if a.Is4() != c.is4 || a.IsUnspecified() != c.unspecified || a.IsMulticast() != c.multicast {
			t.Errorf("%s: Is4 %v, IsUnspecified %v, IsMulticast %v", c.text, a.Is4(), a.IsUnspecified(), a.IsMulticast())
		}
		if c.is4 {
			if b := a.As4(); AddrFrom4(b[:]) != a {
				t.Errorf("%s: AddrFrom4 differs from AddrFrom", c.text)
			}
		}
	}
	for text, want := range map[string]bool{
		"169.254.1.1": true, "169.253.1.1": false, "fe80::1": true, "febf::1": true, "fec0::1": false, "::ffff:169.254.1.1": true, "2001:db8::1": false,
	} {
		if got := addr(text).IsLinkLocal(); got != want {
			t.Errorf("%s: IsLinkLocal %v", text, got)
		}
	}
	if AddrFrom(netip.Addr{}) != (Addr{}) {
		t.Error("no address is not ::")
	}
}

// The steering program computes the same numbers: these were computed by hand
// from the definition and must never change.
func TestHashVectors(t *testing.T) {
	for _, c := range []struct {
		tuple Tuple
		want  uint32
	}{
		{tuple("192.0.2.1", "192.0.2.2", 1000, 53, ProtoUDP), 0x5218320c},
		{tuple("192.0.2.1", "192.0.2.2", 0, 0, ProtoUDP), 0xc9f2dc32},
		{tuple("0.0.0.0", "0.0.0.0", 0, 0, 0), 0xff19274a},
		{tuple("255.255.255.255", "255.255.255.255", 65535, 65535, 255), 0xd4b0bab5},
		{tuple("2001:db8::1", "2001:db8::2", 40000, 443, ProtoTCP), 0xa11a3ef5},
		{tuple("10.32.0.5", "10.96.0.10", 33000, 8888, ProtoTCP), 0xc142e88c},
		{tuple("2001:db8::1", "2001:db8::2", 7, 0, ProtoICMPv6), 0x5566eebf},
	} {
		if got := c.tuple.Hash(); got != c.want {
			t.Errorf("%v: hash %#08x, want %#08x", c.tuple, got, c.want)
		}
		if r := c.tuple.Reverse(); r.Hash() != c.want {
			t.Errorf("%v: hash is not symmetric", c.tuple)
		}
	}
}

func FuzzHashSymmetric(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"), uint16(1), uint16(2), uint8(6))
	f.Fuzz(func(t *testing.T, b []byte, sport, dport uint16, proto uint8) {
		if len(b) < 32 {
			return
		}
		x := Tuple{Src: Addr(b[:16]), Dst: Addr(b[16:32]), Sport: sport, Dport: dport, Proto: proto}
		y := x.Reverse()
		if x.Hash() != y.Hash() {
			t.Errorf("%v: %#x, reversed %#x", x, x.Hash(), y.Hash())
		}
		if y.Reverse() != x {
			t.Errorf("%v is not itself when reversed twice", x)
		}
	})
}

// Flows that differ in one port, or in one address, spread evenly.
func TestOwnerSpreads(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 4, 7} {
		byPort, byAddr := make([]int, workers), make([]int, workers)
		const n = 6000
		for i := range n {
			x := tuple("192.0.2.1", "198.51.100.9", uint16(30000+i), 443, ProtoTCP)
			byPort[Owner(x.Hash(), workers)]++
			x = tuple("192.0.2.1", "198.51.100.9", 30000, 443, ProtoTCP)
			x.Src[14], x.Src[15] = byte(i>>8), byte(i)
			byAddr[Owner(x.Hash(), workers)]++
		}
		for w := range workers {
			for _, got := range []int{byPort[w], byAddr[w]} {
				if want := n / workers; got < want*85/100 || got > want*115/100 {
					t.Errorf("%d workers: worker %d owns %d of %d flows", workers, w, got, n)
				}
			}
		}
	}
	if Owner(0xffffffff, 3) != 2 || Owner(0, 3) != 0 {
		t.Error("Owner leaves its range")
	}
}

func TestTupleString(t *testing.T) {
	for want, x := range map[string]Tuple{
		"192.0.2.1:1000 > 192.0.2.2:53 UDP":      tuple("192.0.2.1", "192.0.2.2", 1000, 53, ProtoUDP),
		"[2001:db8::1]:1 > [2001:db8::2]:2 SCTP": tuple("2001:db8::1", "2001:db8::2", 1, 2, ProtoSCTP),
		"192.0.2.1 > 192.0.2.2 ICMP":             tuple("192.0.2.1", "192.0.2.2", 7, 0, ProtoICMP),
		"192.0.2.1 > 192.0.2.2 50":               tuple("192.0.2.1", "192.0.2.2", 0, 0, 50),
	} {
		if got := x.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestFaultNames(t *testing.T) {
	seen := map[string]Fault{}
	for f := FaultNone; f < NumFaults; f++ {
		if other, ok := seen[f.String()]; ok || f.String() == "" {
			t.Errorf("fault %d has no name of its own: %q, like %d", f, f, other)
		}
		seen[f.String()] = f
	}
	if NumFaults.String() != "unknown fault" {
		t.Errorf("unknown fault prints %q", NumFaults)
	}
}
