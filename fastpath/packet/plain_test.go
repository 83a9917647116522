package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// ParseIP and ParseTunnel read plain packets themselves and leave the others to
// parseAny: both must say the same of everything.

func sameIP(t *testing.T, b []byte, off, total int) Fault {
	t.Helper()
	got, want := dirtyInfo, dirtyInfo
	f, wanted := ParseIP(b, off, total, &got), parseAny(b, off, total, &want)
	if f != wanted || f == FaultNone && got != want {
		t.Fatalf("% x at %d, %d in all: %v\n%+v\nwant %v\n%+v", b, off, total, f, got, wanted, want)
	}
	return f
}

func sameTunnel(t *testing.T, b []byte, total int) Fault {
	t.Helper()
	got, want := dirtyTunnel, dirtyTunnel
	f, wanted := ParseTunnel(b, total, &got), want.parseAny(b, total)
	if f != wanted || f == FaultNone && got != want {
		t.Fatalf("% x, %d in all: %v\n%+v\nwant %v\n%+v", b, total, f, got, wanted, want)
	}
	return f
}

// What the packet before has left behind.
var (
	dirtyInfo = Info{L3: 9, L4: 9, Len: 9, V6: true, DF: true, Multicast: true, TTL: 9, Frag: FragTail, FragID: 9, FragOff: 9,
		Tuple: Tuple{Addr{9, 15: 9}, Addr{9, 15: 9}, 9, 9, 9}, Partial: true, TCPFlags: 9, ICMPType: 9, ICMPCode: 9, ND: 9,
		ICMPError: true, InnerL3: 9, InnerL4: 9, Inner: Tuple{Addr{9}, Addr{9}, 9, 9, 9}}
	dirtyTunnel = Tunnel{Addr{9, 15: 9}, Addr{9, 15: 9}, 9, 9, 9, 9}
)

// plainKinds are what may be in a tunnel and is plain.
var plainKinds = []struct {
	ip    int // length of the IP header
	proto uint8
}{{IPv4Len, ProtoTCP}, {IPv4Len, ProtoUDP}, {IPv6Len, ProtoTCP}, {IPv6Len, ProtoUDP}}

// plainFrame is a tunnel around a segment or datagram of a kind with n bytes of payload.
func plainFrame(kind, n int) []byte {
	k := plainKinds[kind]
	header := UDPLen
	if k.proto == ProtoTCP {
		header = TCPLen
	}
	inner := make([]byte, k.ip+header+n)
	if k.ip == IPv4Len {
		putIPv4(inner, len(inner), k.proto, [4]byte{10, 0, 0, 1}, [4]byte{10, 0, 0, 2})
	} else {
		copy(inner, []byte{0x60, 4: 0, byte(header + n), k.proto, 64, 0x20, 1, 0xd, 0xb8, 23: 1, 0x20, 1, 0xd, 0xb8, 39: 2})
	}
	l4 := inner[k.ip:]
	copy(l4, []byte{0x04, 0x01, 0x00, 0x50})
	if k.proto == ProtoTCP {
		l4[12], l4[13] = TCPLen/4<<4, ACK
	} else {
		put16(l4[4:], uint16(UDPLen+n))
	}
	frame := make([]byte, EthernetLen+TunnelLen, EthernetLen+TunnelLen+len(inner))
	put16(frame[12:], TypeIPv4)
	PutTunnel(frame[EthernetLen:], &Outer{[4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2}, 0xC001, 17}, len(inner))
	return append(frame, inner...)
}

// fix4 makes the checksum of the IPv4 header at b[off:] right, whatever else is wrong.
func fix4(b []byte, off int) {
	if n := int(b[off]&0xf) * 4; n >= IPv4Len && off+n <= len(b) {
		put16(b[off+ipv4Checksum:], 0)
		put16(b[off+ipv4Checksum:], ^fold(add(0, b[off:off+n])))
	}
}

// samePlain compares on frame b, as it is and with right header checksums, whole, longer
// than it says, cut off, and in two buffers.
func samePlain(t *testing.T, b []byte, cut int) (good int) {
	t.Helper()
	const inner = EthernetLen + TunnelLen
	for range 2 {
		parts := [][]byte{b, b[:min(len(b), cut)]}
		if cut >= len(b) {
			parts = parts[:1]
		}
		for _, part := range parts {
			for _, total := range []int{len(b), len(part), len(b) + 7, min(len(b), cut) - 1} {
				if sameTunnel(t, part, total) == FaultNone {
					good++
				}
				if sameIP(t, part, inner, total-inner) == FaultNone {
					good++
				}
			}
		}
		if len(b) < inner+IPv4Len {
			break
		}
		b = slices.Clone(b)
		fix4(b, EthernetLen)
		fix4(b, inner)
	}
	return good
}

// TestPlainEveryByte: every value of every byte of the headers, and every length.
func TestPlainEveryByte(t *testing.T) {
	for kind := range plainKinds {
		for _, payload := range []int{0, 9} {
			frame := plainFrame(kind, payload)
			for at := 12; at < len(frame)-payload; at++ {
				good, was := 0, frame[at]
				for v := range 256 {
					frame[at] = byte(v)
					good += samePlain(t, frame, len(frame))
				}
				frame[at] = was
				if good == 0 {
					t.Errorf("%v: no value at %d is good", plainKinds[kind], at)
				}
			}
			for cut := range len(frame) {
				samePlain(t, frame, cut)
				samePlain(t, frame[:cut], cut)
			}
		}
	}
	for _, first := range []byte{0x45, 0x60} {
		for _, off := range []int{-1, 0, 4, 5, 1 << 40} {
			sameIP(t, []byte{first, 0, 0, 0}, off, 1<<20)
		}
	}
}

// TestPlainAddresses: every pair of IPv6 addresses of which some are impossible.
func TestPlainAddresses(t *testing.T) {
	const inner = EthernetLen + TunnelLen
	for kind, k := range plainKinds {
		if k.ip != IPv6Len {
			continue
		}
		frame, good := plainFrame(kind, 6), 0
		addrs := []string{"::", "::1", "::2", "::ffff:192.0.2.1", "::1:0:0:0:0", "fe80::1", "ff02::1", "2001:db8::1", "1::", "fe::"}
		for _, src := range addrs {
			for _, dst := range addrs {
				from, to := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
				copy(frame[inner+ipv6Src:], from[:])
				copy(frame[inner+ipv6Dst:], to[:])
				if sameIP(t, frame, inner, len(frame)-inner) == FaultNone {
					good++
				}
			}
		}
		if good != 6*7 {
			t.Errorf("%v: %d pairs are good", k, good)
		}
	}
}

// TestPlainRandom changes several fields at a time to values that bounds are near to.
func TestPlainRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	values := []uint16{0, 1, 4, 7, 8, 11, 12, 19, 20, 21, 28, 32, 39, 40, 0x4000, 0x2000, 0x8000, 0x4500, 0x4600, 0x6000, TunnelPort, 0xffff}
	good := 0
	for range 60_000 {
		frame := plainFrame(r.IntN(len(plainKinds)), r.IntN(30))
		for range r.IntN(4) {
			at := 12 + 2*r.IntN(50)
			if at+2 > len(frame) {
				continue
			}
			v := values[r.IntN(len(values))]
			switch r.IntN(3) {
			case 0:
				v = uint16(r.Uint32())
			case 1:
				v = be16(frame[at:]) + uint16(r.IntN(9)) - 4
			}
			binary.BigEndian.PutUint16(frame[at:], v)
		}
		good += samePlain(t, frame, r.IntN(len(frame)+1))
	}
	if good < 50_000 {
		t.Errorf("%d were good: the test sees too few", good)
	}
}

// FuzzPlain feeds garbage.
func FuzzPlain(f *testing.F) {
	for kind := range plainKinds {
		f.Add(plainFrame(kind, 6), uint16(100))
		f.Add(plainFrame(kind, 0), uint16(60))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) { samePlain(t, b, int(cut)) })
}
