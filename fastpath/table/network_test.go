package table

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) packet.Addr { return packet.AddrFrom(ip(s)) }
func mac(last byte) MAC         { return MAC{2, 0, 0x5e, 0, 0, last} }

// Names of the network that most tests start from.
const (
	red  VRFID = 1
	blue VRFID = 2

	fabric VifID = 1
	host   VifID = 2
	web1   VifID = 3
	web2   VifID = 4

	toHost   NextHopID = 2
	toWeb1   NextHopID = 3
	toWeb2   NextHopID = 4
	toNode2  NextHopID = 10
	toNode3  NextHopID = 11 // its neighbour is not known
	webs     NextHopID = 20 // web1, web2, one on node2
	admins   NextHopID = 21 // web1 alone
	vip      NextHopID = 30 // 8888 to webs, 9999 to admins
	viaRed   NextHopID = 40
	nowhere  NextHopID = 50
	netRoute           = "198.51.100.0/24"
)

// network is two pods and the host of node 192.0.2.1, with a service of two ports.
func network() State {
	return State{
		VRFs: []VRF{{ID: red, Name: "red"}, {ID: blue, Name: "blue", Router4: ip("198.51.100.1"), Router6: ip("2001:db8::1")}},
		Vifs: []Vif{
			{ID: fabric, Kind: VifFabric, Name: "eth0", Ifindex: 2, MAC: mac(1), Addrs: []netip.Addr{ip("192.0.2.1")}, MTU: 1500},
			{ID: host, Kind: VifHost, Name: "tapvhost0", Ifindex: 3, VRF: red, NH: toHost, MAC: mac(2), MTU: 1468},
			{ID: web1, Kind: VifVirtual, Name: "tap1", Ifindex: 4, VRF: red, NH: toWeb1, MAC: mac(3),
				Addrs: []netip.Addr{ip("198.51.100.11"), ip("2001:db8::11")}, MTU: 1468, Owner: "default/web1"},
			{ID: web2, Kind: VifVirtual, Name: "tap2", Ifindex: 5, VRF: red, NH: toWeb2, MAC: mac(4),
				Addrs: []netip.Addr{ip("198.51.100.12")}, MTU: 1468, Owner: "default/web2"},
		},
		NextHops: []NextHop{
			{ID: toHost, Type: NHHost, Vif: host, VRF: red},
			{ID: toWeb1, Type: NHEncap, Vif: web1, VRF: red},
			{ID: toWeb2, Type: NHEncap, Vif: web2, VRF: red},
			tunnel(toNode2, "192.0.2.2", mac(22)),
			{ID: toNode3, Type: NHResolve, Sip: ip("192.0.2.1"), Dip: ip("192.0.2.3")},
			{ID: webs, Type: NHComposite, VRF: red, Members: []Member{
				{NH: toWeb1, Key: 1, Name: "default/web1"}, {NH: toWeb2, Key: 2}, {NH: 0}, {NH: toNode2, Label: 100, Key: 3}}},
			{ID: admins, Type: NHComposite, VRF: red, Members: []Member{{NH: toWeb1, Key: 1}}},
			{ID: vip, Type: NHService, VRF: red, Listeners: []Listener{
				{Proto: packet.ProtoTCP, Port: 8888, NH: webs}, {Proto: packet.ProtoTCP, Port: 9999, NH: admins}}},
			{ID: viaRed, Type: NHVRFTranslate, VRF: red},
			{ID: nowhere, Type: NHDiscard},
		},
		Routes: []Route{
			{VRF: red, Prefix: pfx("0.0.0.0/0"), NH: toHost},
			{VRF: red, Prefix: pfx(netRoute), NH: nowhere},
			{VRF: red, Prefix: pfx("198.51.100.11/32"), NH: toWeb1},
			{VRF: red, Prefix: pfx("198.51.100.12/32"), NH: toWeb2},
			{VRF: red, Prefix: pfx("198.51.100.64/26"), NH: toNode2, Label: 16},
			{VRF: red, Prefix: pfx("198.51.100.250/32"), NH: vip},
			{VRF: red, Prefix: pfx("2001:db8::11/128"), NH: toWeb1},
		},
		Labels: []LabelEntry{{16, viaRed}, {17, toWeb1}, {MaxLabel, toWeb2}},
		PortMaps: []PortMap{
			{Vif: web1, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 8888, Fixed: ip("198.51.100.11"), Target: 80},
			{Vif: web1, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 9999, Fixed: ip("198.51.100.11"), Target: 90},
			{Vif: web2, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 8888, Fixed: ip("198.51.100.12"), Target: 80},
		},
		Peers: []netip.Addr{ip("192.0.2.2"), ip("192.0.2.3")},
	}
}

func tunnel(id NextHopID, dip string, to MAC) NextHop {
	return NextHop{ID: id, Type: NHTunnel, Vif: fabric, Sip: ip("192.0.2.1"), Dip: ip(dip), SrcMAC: mac(1), DstMAC: to, MTU: 1500}
}

// built returns a Builder that holds s.
func built(t testing.TB, s State) *Builder {
	t.Helper()
	b := NewBuilder()
	upsert(t, b, s)
	return b
}

func upsert(t testing.TB, b *Builder, s State) {
	t.Helper()
	apply(t, b, Delta{Upsert: s})
}

func apply(t testing.TB, b *Builder, d Delta) {
	t.Helper()
	if err := b.Apply(&d); err != nil {
		t.Fatal(err)
	}
	consistent(t, b)
}

// nh returns a next hop of the network, changed by change.
func nh(id NextHopID, change func(*NextHop)) NextHop {
	s := network()
	n := s.NextHops[slices.IndexFunc(s.NextHops, func(n NextHop) bool { return n.ID == id })]
	change(&n)
	return n
}

func vif(id VifID, change func(*Vif)) Vif {
	s := network()
	v := s.Vifs[slices.IndexFunc(s.Vifs, func(v Vif) bool { return v.ID == id })]
	change(&v)
	return v
}

// consistent compares the index and everything resolved with what a Builder
// makes of the same state from nothing.
func consistent(t testing.TB, b *Builder) {
	t.Helper()
	fresh := NewBuilder()
	if err := fresh.Apply(&Delta{Upsert: b.State()}); err != nil {
		if b.replay != nil {
			return // what will be swept may be wrong
		}
		t.Fatalf("own state is refused: %v", err)
	}
	have, want := b.Tables(), fresh.Tables()
	for id := range uint32(len(have.nhs.pages) * pageSize) {
		if x, y := b.index.nhRefs.get(id), fresh.index.nhRefs.get(id); x != y && id != 0 {
			t.Errorf("next hop %d: %d references, want %d", id, x, y)
		}
		if x, y := sorted(b.index.users.get(id)), sorted(fresh.index.users.get(id)); !slices.Equal(x, y) {
			t.Errorf("next hop %d: users %v, want %v", id, x, y)
		}
		x, y := have.NH(NextHopID(id)), want.NH(NextHopID(id))
		if put := whole(y); !equalNH(x, &put) || x.Usable != y.Usable || x.Eth != y.Eth || x.Src4 != y.Src4 || x.Dst4 != y.Dst4 ||
			!reflect.DeepEqual(x.Composite, y.Composite) {
			t.Errorf("next hop %d is %+v, want %+v", id, x, y)
		}
	}
	for id := range uint32(16) {
		if x, y := sorted(b.index.vifNHs.get(id)), sorted(fresh.index.vifNHs.get(id)); !slices.Equal(x, y) {
			t.Errorf("vif %d: next hops %v, want %v", id, x, y)
		}
		if x, y := b.index.vrfRefs.get(id), fresh.index.vrfRefs.get(id); x != y && id != 0 {
			t.Errorf("VRF %d: %d references, want %d", id, x, y)
		}
	}
}

// whole is n as it was put in.
func whole(n *NH) NextHop {
	w := n.nextHop()
	w.Members = n.List()
	return w
}

func sorted[T interface{ ~uint32 }](s []T) []T {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error is %q, want %q in it", err, p)
		}
	}
}
