package table

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

func TestReads(t *testing.T) {
	tab := built(t, network()).Tables()

	v := tab.Vif(web1)
	if v == nil || v.Name != "tap1" || !v.Owns(addr("2001:db8::11")) || !v.Owns(addr("198.51.100.11")) || v.Owns(addr("198.51.100.12")) {
		t.Errorf("web1 is %+v", v)
	}
	if tab.Vif(9) != nil || tab.Vif(MaxID+1) != nil || tab.VRF(9) != nil {
		t.Error("there are objects nobody made")
	}
	if r := tab.VRF(red); r.Router4 != addr("169.254.1.1") || r.Router6 != addr("fe80::1") {
		t.Errorf("red's routers are %v and %v", r.Router4, r.Router6)
	}
	if r := tab.VRF(blue); r.Router4 != addr("198.51.100.1") || r.Router6 != addr("2001:db8::1") {
		t.Errorf("blue's routers are %v and %v", r.Router4, r.Router6)
	}
	for _, l := range []struct {
		label Label
		nh    NextHopID
		ok    bool
	}{{16, viaRed, true}, {17, toWeb1, true}, {MaxLabel, toWeb2, true}, {18, 0, false}, {MaxLabel + 1, 0, false}, {1 << 31, 0, false}} {
		if nh, ok := tab.Label(l.label); ok != l.ok || ok && nh != l.nh {
			t.Errorf("label %d leads to %d, %v", l.label, nh, ok)
		}
	}
	if !tab.Peer(addr("192.0.2.2")) || tab.Peer(addr("192.0.2.1")) || tab.Peer(packet.Addr{}) || (&Tables{}).Peer(packet.Addr{}) {
		t.Error("wrong peers")
	}
}

func TestLookup(t *testing.T) {
	b := built(t, network())
	apply(t, b, routes(Route{VRF: red, Prefix: pfx("198.51.100.12/32"), NH: toWeb2, ReplyOnly: true, Translate: true}))
	tab := b.Tables()
	for _, l := range []struct {
		vrf  VRFID
		addr string
		hop  Hop
		ok   bool
	}{
		{red, "198.51.100.11", Hop{NH: toWeb1, Label: 0, Bits: 32}, true},
		{red, "198.51.100.12", Hop{NH: toWeb2, Bits: 32, Flags: ReplyOnly | Translate}, true},
		{red, "198.51.100.13", Hop{NH: nowhere, Label: 0, Bits: 24}, true},
		{red, "198.51.100.65", Hop{NH: toNode2, Label: 16, Bits: 26}, true},
		{red, "203.0.113.1", Hop{NH: toHost, Label: 0, Bits: 0}, true},
		{red, "2001:db8::11", Hop{NH: toWeb1, Label: 0, Bits: 128}, true},
		{red, "2001:db8::12", Hop{}, false},
		{blue, "198.51.100.11", Hop{}, false},
		{9, "198.51.100.11", Hop{}, false},
	} {
		if hop, ok := tab.Lookup(l.vrf, addr(l.addr)); hop != l.hop || ok != l.ok {
			t.Errorf("%s in VRF %d leads to %+v, %v, want %+v, %v", l.addr, l.vrf, hop, ok, l.hop, l.ok)
		}
	}
}

func TestPortMaps(t *testing.T) {
	tab := built(t, network()).Tables()
	for _, p := range []struct {
		vif    VifID
		vip    string
		proto  uint8
		port   uint16
		fixed  string
		target uint16
	}{
		{web1, "198.51.100.250", packet.ProtoTCP, 8888, "198.51.100.11", 80},
		{web1, "198.51.100.250", packet.ProtoTCP, 9999, "198.51.100.11", 90},
		{web2, "198.51.100.250", packet.ProtoTCP, 8888, "198.51.100.12", 80},
		{web2, "198.51.100.250", packet.ProtoTCP, 9999, "", 0},
		{web1, "198.51.100.250", packet.ProtoUDP, 8888, "", 0},
		{web1, "198.51.100.251", packet.ProtoTCP, 8888, "", 0},
		{9, "198.51.100.250", packet.ProtoTCP, 8888, "", 0},
	} {
		fixed, target, ok := tab.PortMap(p.vif, addr(p.vip), p.proto, p.port)
		if ok != (p.fixed != "") || ok && (fixed != addr(p.fixed) || target != p.target) {
			t.Errorf("%+v is %v:%d, %v", p, fixed, target, ok)
		}
	}
	if !tab.HasVIP(web1, addr("198.51.100.250")) || tab.HasVIP(web1, addr("198.51.100.249")) || tab.HasVIP(9, addr("198.51.100.250")) {
		t.Error("wrong VIPs")
	}
}

func TestNextHops(t *testing.T) {
	tab := built(t, network()).Tables()
	for id, usable := range map[NextHopID]bool{0: false, toHost: true, toWeb1: true, toNode2: true, toNode3: false,
		webs: true, vip: true, viaRed: true, nowhere: false, 999: false, MaxID + 5: false} {
		if n := tab.NH(id); n.Usable != usable {
			t.Errorf("usable: %+v", n)
		}
	}
	if n := tab.NH(999); n == nil || n.Type != NHDiscard || n.Gen != 0 {
		t.Errorf("an unknown next hop is %+v", n)
	}
	if n := tab.NH(0); n.Type != NHDiscard || n.Gen == 0 {
		t.Errorf("next hop 0 is %+v", n)
	}
	if n, want := tab.NH(toNode2), [14]byte{2, 0, 0x5e, 0, 0, 22, 2, 0, 0x5e, 0, 0, 1, 8, 0}; n.Eth != want ||
		n.Src4 != [4]byte{192, 0, 2, 1} || n.Dst4 != [4]byte{192, 0, 2, 2} {
		t.Errorf("tunnel is %+v", n)
	}
	if n, want := tab.NH(toWeb2), [14]byte{2, 0, 0x5e, 0, 0, 4, 0, 0, 0x5e, 0, 1, 0, 8, 0}; n.Eth != want {
		t.Errorf("encap writes % x", n.Eth)
	}
	if n := tab.NH(webs); tab.Holding(n, 3, false, false) != 3 || tab.Holding(n, 3, true, true) != -1 || tab.Holding(n, 9, false, true) != -1 || tab.Holding(n, 1, true, false) != 0 {
		t.Error("members are not where they should be")
	}
}

func TestListener(t *testing.T) {
	b := built(t, network())
	upsert(t, b, State{NextHops: []NextHop{nh(webs, func(n *NextHop) { n.ID, n.Proto, n.Port = 60, packet.ProtoUDP, 53 })}})
	tab := b.Tables()
	for _, l := range []struct {
		nh    NextHopID
		proto uint8
		port  uint16
		to    NextHopID
		ok    bool
	}{
		{vip, packet.ProtoTCP, 8888, webs, true}, {vip, packet.ProtoTCP, 9999, admins, true},
		{vip, packet.ProtoUDP, 8888, 0, false}, {vip, packet.ProtoTCP, 1, 0, false},
		{60, packet.ProtoUDP, 53, 60, true}, {60, packet.ProtoTCP, 53, 0, false},
		{webs, packet.ProtoTCP, 1, webs, true}, {toWeb1, packet.ProtoTCP, 1, 0, false},
	} {
		if to, ok := tab.NH(l.nh).Listener(l.proto, l.port); ok != l.ok || ok && to.NH != l.to {
			t.Errorf("listener %d/%d of %d is %d, %v", l.port, l.proto, l.nh, to.NH, ok)
		}
	}
}

// The published state is what was applied, whatever the order, and however
// often it is applied; a vif's new address reaches the frames sent to it.
func TestStateRoundTrip(t *testing.T) {
	want := built(t, network()).State()
	if len(want.Routes) != 7 || len(want.NextHops) != 10 || len(want.PortMaps) != 3 || len(want.Labels) != 3 {
		t.Fatalf("state is %+v", want)
	}
	for seed := range uint64(20) {
		s := network()
		r := rand.New(rand.NewPCG(seed, 1))
		shuffle(r, s.Vifs)
		shuffle(r, s.VRFs)
		shuffle(r, s.NextHops)
		shuffle(r, s.Routes)
		shuffle(r, s.Labels)
		shuffle(r, s.PortMaps)
		shuffle(r, s.Peers)
		b := built(t, s)
		before := b.Tables()
		upsert(t, b, network())
		if got := b.State(); !reflect.DeepEqual(got, want) {
			t.Fatalf("state is %+v\nwant %+v", got, want)
		}
		if b.Tables() != before {
			t.Error("saying the same again published something")
		}
	}
}

func shuffle[T any](r *rand.Rand, s []T) {
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// A snapshot that a worker holds never changes, and shares what did not change.
func TestSnapshotsAreImmutable(t *testing.T) {
	b := built(t, network())
	old, before := b.Tables(), b.State()
	apply(t, b, Delta{
		Upsert: State{
			Vifs:     []Vif{vif(web1, func(v *Vif) { v.MAC = mac(99) })},
			NextHops: []NextHop{nh(webs, func(n *NextHop) { n.Members[0].Draining = true })},
			Routes:   []Route{{VRF: red, Prefix: pfx("198.51.100.11/32"), NH: toWeb2}},
			Labels:   []LabelEntry{{17, toWeb2}},
			PortMaps: []PortMap{{Vif: web1, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 8888, Fixed: ip("198.51.100.11"), Target: 81}},
			Peers:    []netip.Addr{ip("192.0.2.4")},
		},
		Remove: Removal{
			Routes: []RouteKey{{red, pfx("0.0.0.0/0")}}, Labels: []Label{16}, Peers: []netip.Addr{ip("192.0.2.2")},
			PortMaps: []PortMapKey{{web2, ip("198.51.100.250"), packet.ProtoTCP, 8888}},
		},
	})
	if got := old.State(); !reflect.DeepEqual(got, before) {
		t.Errorf("an old snapshot became %+v", got)
	}
	if n := old.NH(toWeb1); n.Eth[5] != 3 {
		t.Errorf("an old next hop writes % x", n.Eth)
	}
	now := b.Tables()
	if n := now.NH(toWeb1); n.Eth[5] != 99 {
		t.Errorf("the next hop of a changed vif writes % x", n.Eth)
	}
	if old.NH(toNode2) != now.NH(toNode2) || old.Vif(host) != now.Vif(host) {
		t.Error("unchanged objects were copied")
	}
	if _, ok := now.Label(16); ok || !now.Peer(addr("192.0.2.4")) || now.Peer(addr("192.0.2.2")) || now.HasVIP(web2, addr("198.51.100.250")) {
		t.Error("removals or upserts were not made")
	}
	if _, target, _ := now.PortMap(web1, addr("198.51.100.250"), packet.ProtoTCP, 8888); target != 81 {
		t.Errorf("port map leads to %d", target)
	}
}

// The caller may do with a delta what it likes afterwards.
func TestDeltaIsNotKept(t *testing.T) {
	s := network()
	b := built(t, s)
	want := b.State()
	s.NextHops[5].Members[0].NH = 77
	s.NextHops[7].Listeners[0].Port = 1
	s.Vifs[2].Addrs[0] = ip("192.0.2.99")
	if got := b.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("state became %+v", got)
	}
}

// IPv4 addresses in their IPv6 form are the same objects.
func TestMappedAddresses(t *testing.T) {
	b := built(t, network())
	before := b.Tables()
	upsert(t, b, State{
		Peers:    []netip.Addr{ip("::ffff:192.0.2.2")},
		Vifs:     []Vif{vif(web2, func(v *Vif) { v.Addrs = []netip.Addr{ip("::ffff:198.51.100.12")} })},
		NextHops: []NextHop{nh(toNode2, func(n *NextHop) { n.Dip = ip("::ffff:192.0.2.2") })},
		PortMaps: []PortMap{{Vif: web2, VIP: ip("::ffff:198.51.100.250"), Proto: packet.ProtoTCP, Port: 8888, Fixed: ip("::ffff:198.51.100.12"), Target: 80}},
	})
	if b.Tables() != before {
		t.Error("they count as changes")
	}
}

// A cluster address and the own address of its family stand for each other.
func TestClusterAddrs(t *testing.T) {
	b := built(t, network())
	apply(t, b, vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("::ffff:198.51.100.91")} })))
	v := b.Tables().Vif(web1)
	if out, ok := v.Outside(addr("198.51.100.11")); !ok || out != addr("198.51.100.91") {
		t.Errorf("outside it is %v, %v", out, ok)
	}
	if own, ok := v.Inside(addr("198.51.100.91")); !ok || own != addr("198.51.100.11") {
		t.Errorf("inside it is %v, %v", own, ok)
	}
	if _, ok := v.Outside(addr("2001:db8::11")); ok {
		t.Error("IPv6 has none")
	}
	if _, ok := v.Inside(addr("198.51.100.11")); ok {
		t.Error("its own address is no cluster address")
	}
	before := b.Tables()
	apply(t, b, vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.91")} })))
	if b.Tables() != before {
		t.Error("the same vif again published something")
	}
}
