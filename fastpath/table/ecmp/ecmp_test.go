package ecmp

import (
	"net/netip"
	"slices"
	"testing"
	"unsafe"
)

var (
	dnat4 = netip.MustParseAddrPort("192.0.2.9:6443")
	dnat6 = netip.MustParseAddrPort("[2001:db8::9]:443")
	none6 = netip.IPv6Unspecified()
)

// Addresses are kept one way, whichever they were written in.
func TestDNATIsNormal(t *testing.T) {
	for put, want := range map[netip.AddrPort]netip.AddrPort{
		dnat4: dnat4,
		dnat6: dnat6,
		netip.MustParseAddrPort("[::ffff:192.0.2.9]:6443"): dnat4,
		netip.MustParseAddrPort("[2001:db8::9%eth0]:443"):  dnat6,
		netip.AddrPortFrom(netip.Addr{}, 80):               {},
		netip.AddrPortFrom(none6, 0):                       netip.AddrPortFrom(none6, 0),
	} {
		c := New([]Member{{NH: 1, DNAT: put}})
		if got := c.List()[0].DNAT; got != want || !c.Equal([]Member{{NH: 1, DNAT: want}}) {
			t.Errorf("%v comes back as %v, want %v", put, got, want)
		}
		if _, _, ok := c.DNAT(0); ok != want.IsValid() || (c.dnats != nil) != ok {
			t.Errorf("%v translates: %v", put, ok)
		}
	}
}

// Only who takes no new flow and stands before one that does makes positions necessary.
func TestPositions(t *testing.T) {
	const far, lost = 1, 2
	on, off := Member{NH: far}, Member{NH: far, Draining: true}
	for i, c := range []struct {
		members []Member
		takers  int
		want    []uint16
	}{
		{nil, 0, nil},
		{[]Member{on, on, on}, 3, nil},
		{[]Member{on, on, off, {}}, 2, nil},
		{[]Member{off, {}}, 0, nil},
		{[]Member{on, {}, on, off, on}, 3, []uint16{0, 2, 4}},
		{[]Member{off, on}, 1, []uint16{1}},
		{[]Member{on, {NH: lost}, on}, 2, []uint16{0, 2}},
	} {
		members := slices.Clone(c.members)
		for k := range members {
			members[k].Key = uint64(k)
		}
		got := New(members)
		for range 2 {
			got.Open(func(id NextHopID) bool { return id != lost })
			if got.Takers() != c.takers || !slices.Equal(got.positions, c.want) || (got.positions == nil) != (c.want == nil) {
				t.Errorf("%d: keys %v at %v, want %d at %v", i, got.keys, got.positions, c.takers, c.want)
			}
		}
		for k, key := range got.keys {
			if at := got.Taker(k); got.Members[at].Key != key {
				t.Errorf("%d: key %d is not that of the member at %d", i, key, at)
			}
		}
	}
}

func TestMembersAreSmall(t *testing.T) {
	if size := unsafe.Sizeof(MemberEntry{}); size != 24 {
		t.Errorf("a member has %d bytes", size)
	}
}
