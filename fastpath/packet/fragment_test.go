package packet_test

import (
	"bytes"
	"testing"

	. "github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// cut fragments b to mtu with PutFragment.
func cut(b []byte, mtu int) [][]byte {
	ihl := int(b[0]&0xf) * 4
	hdr, payload := b[:ihl], b[ihl:]
	var out [][]byte
	for off, room := 0, FragmentRoom(mtu, ihl); off < len(payload); off += room {
		part := payload[off:min(len(payload), off+room)]
		dst := bytes.Repeat([]byte{0xaa}, mtu)
		out = append(out, dst[:PutFragment(dst, hdr, part, off, off+len(part) < len(payload))])
	}
	return out
}

func TestPutFragment(t *testing.T) {
	for _, n := range []int{1281, 1480, 1481, 2961, 9000, 65535 - 28} {
		whole := build.IPv4(a4, b4).ID(77).TTL(9).TOS(0xb8).UDP(1, 2).Payload(n).Bytes()
		for _, mtu := range []int{68, 576, 1280, 1500} {
			got, want := cut(whole, mtu), build.Fragments(whole, mtu, 77)
			if len(got) != len(want) {
				t.Fatalf("%d bytes at MTU %d: %d fragments, want %d", n, mtu, len(got), len(want))
			}
			for i := range got {
				if d := build.Diff(got[i], want[i]); d != "" {
					t.Fatalf("%d bytes at MTU %d, fragment %d: %s", n, mtu, i, d)
				}
				parse(t, got[i])
			}
		}
	}
}

// Fragments of fragments are the fragments of the whole.
func TestPutFragmentTwice(t *testing.T) {
	whole := build.IPv4(a4, b4).ID(77).UDP(1, 2).Payload(4000).Bytes()
	var got [][]byte
	for _, f := range cut(whole, 20+1600) {
		got = append(got, cut(f, 20+400)...)
	}
	want := cut(whole, 20+400)
	if len(got) != len(want) {
		t.Fatalf("%d fragments, want %d", len(got), len(want))
	}
	for i := range got {
		if d := build.Diff(got[i], want[i]); d != "" {
			t.Errorf("fragment %d: %s", i, d)
		}
	}
}

func TestPutFragmentOptions(t *testing.T) {
	alert, record := []byte{148, 4, 0, 0}, []byte{7, 7, 4, 0, 0, 0, 0}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct{ first, others []byte }{
		"copied":             {alert, alert},
		"not copied":         {record, nil},
		"both":               {join(record, []byte{1}, alert), alert},
		"odd length":         {join([]byte{130, 5, 1, 2, 3}, record), []byte{130, 5, 1, 2, 3}},
		"behind the end":     {join([]byte{1, 0}, alert), nil},
		"malformed length 0": {[]byte{148, 0, 0, 0}, nil},
		"malformed length":   {[]byte{148, 9, 0, 0}, nil},
	} {
		whole := build.IPv4(a4, b4).ID(5).Options(c.first...).UDP(1, 2).Payload(100).Bytes()
		got := cut(whole, 100)
		want0 := build.IPv4(a4, b4).Options(c.first...).Frag(5, 0, true).Proto(17)
		ihl := int(whole[0]&0xf) * 4
		room := FragmentRoom(100, ihl)
		want1 := build.IPv4(a4, b4).Options(c.others...).Frag(5, room, len(whole)-ihl > 2*room).Proto(17)
		if d := build.Diff(got[0], want0.Payload(whole[ihl:ihl+room]).Bytes()); d != "" {
			t.Errorf("%s, first: %s", name, d)
		}
		if d := build.Diff(got[1], want1.Payload(whole[ihl+room:min(len(whole), ihl+2*room)]).Bytes()); d != "" {
			t.Errorf("%s, second: %s", name, d)
		}
	}
}

func TestFragmentRoom(t *testing.T) {
	for _, c := range []struct{ mtu, hdr, want int }{{1500, 20, 1480}, {1499, 20, 1472}, {68, 60, 8}, {27, 20, 0}, {10, 20, 0}} {
		if got := FragmentRoom(c.mtu, c.hdr); got != c.want {
			t.Errorf("MTU %d, header %d: got %d, want %d", c.mtu, c.hdr, got, c.want)
		}
	}
}
