package way

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// The next hops of these tests, one of each kind.
const (
	toPod table.NextHopID = 1 + iota
	toHost
	toTunnel
	toNowhere
	toVRF
	toMembers
	toService
	toUnresolved
	kinds = iota
)

// kindsOf has a VRF 1 with a pod and a VRF 2, and what leads to all next hops.
func kindsOf() table.State {
	sip, dip := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	return table.State{
		VRFs: []table.VRF{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "host"}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 1, MAC: table.MAC{2, 5: 1}, Addrs: []netip.Addr{sip}, MTU: 1500},
			{ID: 2, Kind: table.VifHost, Name: "host", Ifindex: 2, MAC: table.MAC{2, 5: 2}, VRF: 3, NH: toHost, MTU: 1500},
			{ID: 3, Kind: table.VifVirtual, Name: "pod", Ifindex: 3, MAC: table.MAC{2, 5: 3}, VRF: 1, NH: toPod, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, MTU: 1400},
		},
		NextHops: []table.NextHop{
			{ID: toPod, Type: table.NHEncap, Vif: 3, VRF: 1},
			{ID: toHost, Type: table.NHHost, Vif: 2, VRF: 3},
			{ID: toTunnel, Type: table.NHTunnel, Vif: 1, Sip: sip, Dip: dip, DstMAC: table.MAC{2}, MTU: 1500},
			{ID: toNowhere, Type: table.NHDiscard},
			{ID: toVRF, Type: table.NHVRFTranslate, VRF: 2},
			{ID: toMembers, Type: table.NHComposite, Members: []table.Member{{NH: toPod, Key: 1}}},
			{ID: toService, Type: table.NHService, Listeners: []table.Listener{{Proto: 6, Port: 80, NH: toMembers}}},
			{ID: toUnresolved, Type: table.NHResolve, Vif: 1, Sip: sip, Dip: dip, MTU: 1500},
		},
		Peers: []netip.Addr{dip},
	}
}

// behindLabels are those that a label may lead to.
var behindLabels = []table.NextHopID{toPod, toHost, toNowhere, toVRF, toMembers, toService}

func apply(t *testing.T, b *table.Builder, d table.Delta) {
	t.Helper()
	if err := b.Apply(&d); err != nil {
		t.Fatal(err)
	}
}

// TestTunnel: what each kind of next hop means behind a label.
func TestTunnel(t *testing.T) {
	s := kindsOf()
	for _, nh := range behindLabels {
		s.Labels = append(s.Labels, table.LabelEntry{Label: 100 + table.Label(nh), NH: nh})
	}
	b := table.NewBuilder()
	apply(t, b, table.Delta{Upsert: s})
	peer, other := packet.AddrFrom4([]byte{192, 0, 2, 2}), packet.AddrFrom4([]byte{192, 0, 2, 3})
	for name, c := range map[string]struct {
		src   packet.Addr
		label uint32
		want  Tunnel
	}{
		"pod":           {peer, 101, Tunnel{NH: toPod, VRF: 1}},
		"host":          {peer, 102, Tunnel{NH: toHost, VRF: 3}},
		"discard":       {peer, 104, Tunnel{NH: toNowhere, Dead: reason.InvalidLabel}},
		"VRF":           {peer, 105, Tunnel{NH: toVRF, VRF: 2, ByRoute: true}},
		"members":       {peer, 106, Tunnel{NH: toMembers, VRF: 1}},
		"service":       {peer, 107, Tunnel{NH: toService, VRF: 1}},
		"unknown label": {peer, 109, Tunnel{Refused: reason.InvalidLabel}},
		"unknown peer":  {other, 101, Tunnel{Refused: reason.UnknownPeer}},
		"neither known": {other, 109, Tunnel{Refused: reason.UnknownPeer}},
	} {
		var recent Recent
		c.want.Peer, c.want.label, c.want.view = c.src, c.label, 1
		if got := recent.Tunnel(b.Tables(), 1, &packet.Tunnel{Src: c.src, Label: c.label}); *got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, *got, c.want)
		}
	}
}

// TestEnd: what each kind of next hop means behind a route.
func TestEnd(t *testing.T) {
	for nh, want := range map[table.NextHopID]struct {
		nh  table.NextHopID
		why reason.Reason
	}{
		toPod: {toPod, reason.None}, toHost: {toHost, reason.None}, toMembers: {toMembers, reason.None}, toService: {toService, reason.None},
		toTunnel: {0, reason.PacketLoop}, toUnresolved: {0, reason.PacketLoop}, toNowhere: {}, toVRF: {}, 0: {},
	} {
		s := kindsOf()
		if nh != 0 { // 0: no route
			s.Routes = []table.Route{{VRF: 2, Prefix: netip.MustParsePrefix("203.0.113.0/24"), NH: nh, Label: 16}}
		}
		b := table.NewBuilder()
		apply(t, b, table.Delta{Upsert: s})
		var recent Recent
		dst := packet.AddrFrom4([]byte{203, 0, 113, 9})
		if got, why := recent.End(b.Tables(), 1, 2, &dst); got != want.nh || why != want.why {
			t.Errorf("route to next hop %d: %d, %v, want %d, %v", nh, got, why, want.nh, want.why)
		}
	}
}

// TestRecent: whatever was asked before, under whichever tables, the answer is that of
// the tables.
func TestRecent(t *testing.T) {
	b := table.NewBuilder()
	apply(t, b, table.Delta{Upsert: kindsOf()})
	r := rand.New(rand.NewPCG(1, 2))
	var recent Recent
	kind := func() table.NextHopID { return table.NextHopID(1 + r.IntN(kinds)) }
	peer := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + r.IntN(20))}) }
	for view := uint32(1); view < 50; view++ {
		var d table.Delta
		for n := range 20 { // each prefix and label once
			at := netip.AddrFrom4([4]byte{198, 51, byte(r.IntN(4)), byte(n * 12)})
			d.Upsert.Routes = append(d.Upsert.Routes, table.Route{VRF: table.VRFID(1 + r.IntN(2)), Prefix: netip.PrefixFrom(at, 30), NH: kind(), Label: 16})
			d.Upsert.Labels = append(d.Upsert.Labels, table.LabelEntry{Label: table.Label(16 + 5*n + r.IntN(5)), NH: behindLabels[r.IntN(len(behindLabels))]})
		}
		d.Upsert.Peers = append(d.Upsert.Peers, peer())
		apply(t, b, d)
		d = table.Delta{Remove: table.Removal{Labels: []table.Label{d.Upsert.Labels[0].Label}, Routes: []table.RouteKey{d.Upsert.Routes[0].Key()}}}
		if gone := peer(); b.Tables().Peer(packet.AddrFrom(gone)) {
			d.Remove.Peers = append(d.Remove.Peers, gone)
		}
		apply(t, b, d)
		for range 3000 {
			dst := packet.AddrFrom4([]byte{198, 51, byte(r.IntN(4)), byte(r.IntN(256))})
			vrf := table.VRFID(1 + r.IntN(3))
			var end end
			end.learn(b.Tables(), view, vrf, &dst)
			if nh, why := recent.End(b.Tables(), view, vrf, &dst); nh != end.nh || why != end.reason {
				t.Fatalf("view %d, VRF %d, %s: %v, %v, want %v, %v", view, vrf, dst, nh, why, end.nh, end.reason)
			}
			outer := packet.Tunnel{Src: packet.AddrFrom(peer()), Label: uint32(16 + r.IntN(120))}
			var want Tunnel
			want.learn(b.Tables(), view, &outer)
			if got := recent.Tunnel(b.Tables(), view, &outer); *got != want {
				t.Fatalf("view %d, label %d from %s: %+v, want %+v", view, outer.Label, outer.Src, *got, want)
			}
		}
	}
	dst := packet.AddrFrom4([]byte{198, 51, 1, 1})
	outer := packet.Tunnel{Src: packet.AddrFrom4([]byte{192, 0, 2, 2}), Label: 17}
	view := uint32(50)
	if n := testing.AllocsPerRun(100, func() {
		recent.End(b.Tables(), view, 1, &dst)
		recent.Tunnel(b.Tables(), view, &outer)
		view++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
