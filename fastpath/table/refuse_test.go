package table

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

func nhs(n ...NextHop) Delta       { return Delta{Upsert: State{NextHops: n}} }
func vifs(v ...Vif) Delta          { return Delta{Upsert: State{Vifs: v}} }
func routes(r ...Route) Delta      { return Delta{Upsert: State{Routes: r}} }
func labels(l ...LabelEntry) Delta { return Delta{Upsert: State{Labels: l}} }
func portMaps(m ...PortMap) Delta  { return Delta{Upsert: State{PortMaps: m}} }

func member(m Member) NextHop {
	return NextHop{ID: 60, Type: NHComposite, Members: []Member{m}}
}

func listeners(l ...Listener) NextHop { return NextHop{ID: 60, Type: NHService, Listeners: l} }

var goodMap = PortMap{Vif: web2, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 1, Fixed: ip("198.51.100.12"), Target: 2}

func portMap(change func(*PortMap)) Delta {
	m := goodMap
	change(&m)
	return portMaps(m)
}

type refusal struct {
	what  string
	delta Delta
	names []string // in the error
}

var refusals = []refusal{
	{"vif id 0", vifs(vif(web1, func(v *Vif) { v.ID = 0 })), []string{"vif 0 (tap1): the id must be 1 to 4194304"}},
	{"vif id", vifs(vif(web1, func(v *Vif) { v.ID = MaxID + 1 })), []string{"vif 4194305 (tap1): the id must be"}},
	{"vif without name", vifs(vif(web1, func(v *Vif) { v.Name = "" })), []string{"vif 3 (): it has no name"}},
	{"vif ifindex", vifs(vif(web1, func(v *Vif) { v.Ifindex = 0 })), []string{"ifindex 0 is not an interface"}},
	{"vif MTU", vifs(vif(web1, func(v *Vif) { v.MTU = 67 })), []string{"vif 3 (tap1): MTU 67, want 68 to 65535"}},
	{"vif MTU", vifs(vif(web1, func(v *Vif) { v.MTU = 65536 })), []string{"MTU 65536"}},
	{"vif kind", vifs(vif(web1, func(v *Vif) { v.Kind = "bridge" })), []string{`kind "bridge" is unknown`}},
	{"vif MAC", vifs(vif(web1, func(v *Vif) { v.MAC = MAC{} })), []string{"00:00:00:00:00:00 is not the MAC of one station"}},
	{"vif MAC", vifs(vif(web1, func(v *Vif) { v.MAC = MAC{1} })), []string{"01:00:00:00:00:00 is not"}},
	{"vif address", vifs(vif(web1, func(v *Vif) { v.Addrs = []netip.Addr{ip("224.0.0.1")} })), []string{"address 224.0.0.1 is not unicast"}},
	{"vif address", vifs(vif(web1, func(v *Vif) { v.Addrs = []netip.Addr{ip("fe80::1%eth0")} })), []string{"address fe80::1%eth0 has a zone"}},
	{"vif address", vifs(vif(web1, func(v *Vif) { v.Addrs = []netip.Addr{{}} })), []string{"vif 3 (tap1): it has no address"}},
	{"cluster address", vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("0.0.0.0")} })), []string{"vif 3 (tap1): cluster address 0.0.0.0 is not unicast"}},
	{"cluster address", vifs(vif(web2, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("2001:db8::99")} })), []string{"vif 4 (tap2): cluster address 2001:db8::99 stands for no address of its family"}},
	{"cluster address", vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.11")} })), []string{"cluster address 198.51.100.11 is its own address as well"}},
	{"cluster addresses", vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.91"), ip("198.51.100.92")} })), []string{"cluster addresses 198.51.100.91 and 198.51.100.92 are of one family"}},
	{"host's cluster address", vifs(vif(host, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.91")} })), []string{"vif 2 (tapvhost0): a host vif has no cluster addresses"}},
	{"vif without VRF", vifs(vif(web1, func(v *Vif) { v.VRF = 0 })), []string{"needs a VRF and a next hop"}},
	{"vif's VRF", vifs(vif(web1, func(v *Vif) { v.VRF = 9 })), []string{"vif 3 (tap1): VRF 9 is unknown"}},
	{"vif's next hop", vifs(vif(web1, func(v *Vif) { v.NH = 99 })), []string{"vif 3 (tap1): next hop 99 is unknown"}},
	{"vif's next hop", vifs(vif(web1, func(v *Vif) { v.NH = webs })), []string{"next hop 20 (composite) does not deliver to it, want type encap"}},
	{"vif's next hop", vifs(vif(host, func(v *Vif) { v.NH = toWeb1 })), []string{"vif 2 (tapvhost0): next hop 3 (encap) does not deliver to it, want type host"}},
	{"vif's next hop", vifs(vif(web1, func(v *Vif) { v.NH = toWeb2 })), []string{"next hop 4 (encap) delivers to vif 4"}},
	{"vif's ifindex", vifs(vif(web1, func(v *Vif) { v.ID, v.Ifindex = web1, 5 })), []string{"vif 3 (tap1): ifindex 5 belongs to vif 4 (tap2)"}},
	{"vif's kind", vifs(vif(web1, func(v *Vif) { v.Kind = VifFabric })), []string{"vif 3 (tap1): next hop 3 (encap): vif 3 (tap1) is of kind fabric, want virtual"}},
	{"vif twice", vifs(vif(web1, func(*Vif) {}), vif(web1, func(*Vif) {})), []string{"vif 3 (tap1) appears twice"}},

	{"VRF id", Delta{Upsert: State{VRFs: []VRF{{Name: "x"}}}}, []string{"VRF 0 (x): the id must be 1"}},
	{"VRF router", Delta{Upsert: State{VRFs: []VRF{{ID: 3, Router4: ip("2001:db8::1")}}}}, []string{"router4 2001:db8::1 is not an IPv4 address"}},
	{"VRF router", Delta{Upsert: State{VRFs: []VRF{{ID: 3, Router6: ip("192.0.2.1")}}}}, []string{"router6 192.0.2.1 is not an IPv6 address"}},
	{"VRF twice", Delta{Upsert: State{VRFs: []VRF{{ID: 3}, {ID: 3}}}}, []string{"VRF 3 () appears twice"}},

	{"next hop 0", nhs(NextHop{Type: NHEncap, Vif: web1}), []string{"next hop 0 (encap): id 0 is reserved"}},
	{"next hop id", nhs(NextHop{ID: MaxID + 1, Type: NHDiscard}), []string{"next hop 4194305 (discard): the id must be"}},
	{"next hop type", nhs(NextHop{ID: 60, Type: "mirror"}), []string{`next hop 60 (mirror): type "mirror" is unknown`}},
	{"next hop twice", nhs(NextHop{ID: 60, Type: NHDiscard}, NextHop{ID: 60, Type: NHDiscard}), []string{"next hop 60 (discard) appears twice"}},
	{"encap without vif", nhs(NextHop{ID: 60, Type: NHEncap}), []string{"next hop 60 (encap): it needs a vif"}},
	{"encap's vif", nhs(NextHop{ID: 60, Type: NHEncap, Vif: 9}), []string{"next hop 60 (encap): vif 9 is unknown"}},
	{"encap's vif", nhs(NextHop{ID: 60, Type: NHEncap, Vif: fabric}), []string{"vif 1 (eth0) is of kind fabric, want virtual"}},
	{"host's vif", nhs(NextHop{ID: 60, Type: NHHost, Vif: web1}), []string{"vif 3 (tap1) is of kind virtual, want host"}},
	{"encap moves", nhs(nh(toWeb1, func(n *NextHop) { n.Vif = web2 })), []string{"vif 3 (tap1): next hop 3 (encap) delivers to vif 4"}},
	{"translate without VRF", nhs(NextHop{ID: 60, Type: NHVRFTranslate}), []string{"next hop 60 (vrf-translate): it needs a VRF"}},
	{"translate's VRF", nhs(NextHop{ID: 60, Type: NHVRFTranslate, VRF: 9}), []string{"next hop 60 (vrf-translate): VRF 9 is unknown"}},
	{"tunnel source", nhs(nh(toNode2, func(n *NextHop) { n.Sip = netip.Addr{} })), []string{"next hop 10 (tunnel): sip invalid IP is not an IPv4 address"}},
	{"tunnel destination", nhs(nh(toNode2, func(n *NextHop) { n.Dip = ip("2001:db8::1") })), []string{"dip 2001:db8::1 is not an IPv4 address"}},
	{"tunnel destination", nhs(nh(toNode2, func(n *NextHop) { n.Dip = ip("255.255.255.255") })), []string{"dip 255.255.255.255 is not unicast"}},
	{"resolve destination", nhs(nh(toNode3, func(n *NextHop) { n.Dip = netip.Addr{} })), []string{"next hop 11 (resolve): dip"}},
	{"tunnel MTU", nhs(nh(toNode2, func(n *NextHop) { n.MTU = 99 })), []string{"MTU 99, want 100 to 65535"}},
	{"tunnel without vif", nhs(nh(toNode2, func(n *NextHop) { n.Vif = 0 })), []string{"it needs the fabric vif"}},
	{"tunnel's vif", nhs(nh(toNode2, func(n *NextHop) { n.Vif = web1 })), []string{"vif 3 (tap1) is of kind virtual, want fabric"}},
	{"composite's port", nhs(NextHop{ID: 60, Type: NHComposite, Port: 80}), []string{"protocol 0 and port 80: want both or none"}},
	{"member unknown", nhs(member(Member{NH: 99})), []string{"next hop 60 (composite): member 0: next hop 99 is unknown"}},
	{"member composite", nhs(member(Member{NH: webs})), []string{"next hop 20 (composite) cannot be a member"}},
	{"member service", nhs(member(Member{NH: vip})), []string{"next hop 30 (service) cannot be a member"}},
	{"member itself", nhs(member(Member{NH: 60})), []string{"next hop 60 (composite) cannot be a member"}},
	{"member without label", nhs(member(Member{NH: toNode2})), []string{"member 0: next hop 10 (tunnel) needs the label of the backend"}},
	{"member's label", nhs(member(Member{NH: toNode2, Label: 15})), []string{"member 0: label 15, want 16 to 1048575"}},
	{"member's DNAT", nhs(member(Member{NH: toWeb1, DNAT: netip.MustParseAddrPort("192.0.2.9:6443")})), []string{"translation to 192.0.2.9:6443 leaves by the host, not by next hop 3 (encap)"}},
	{"member's DNAT", nhs(member(Member{NH: toHost, DNAT: netip.MustParseAddrPort("192.0.2.9:0")})), []string{"cannot translate to 192.0.2.9:0"}},
	{"member's key", nhs(NextHop{ID: 60, Type: NHComposite, Members: []Member{{NH: toWeb1, Key: 7}, {}, {NH: toWeb2, Key: 7}}}), []string{"members 0 and 2 have the same key 0x7"}},
	{"many members", nhs(NextHop{ID: 60, Type: NHComposite, Members: make([]Member, MaxMembers+1)}), []string{"4096 members, want at most 4095"}},
	{"listener unknown", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80, NH: 99})), []string{"next hop 60 (service): listener 80/TCP: next hop 99 is unknown"}},
	{"listener encap", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80, NH: toWeb1})), []string{"next hop 3 (encap) is not a composite"}},
	{"listener for outside", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80, NH: webs, OutsideNH: 99})), []string{"next hop 60 (service): listener 80/TCP: next hop 99 is unknown"}},
	{"listener for outside", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80, NH: webs, OutsideNH: toWeb1})), []string{"next hop 3 (encap) is not a composite"}},
	{"listener without next hop", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80})), []string{"next hop 0 (discard) is not a composite"}},
	{"affinity", nhs(NextHop{ID: 60, Type: NHComposite, Affinity: MaxAffinity + 1}), []string{"next hop 60 (composite): affinity of 86401 seconds, want at most 86400"}},
	{"listener twice", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 80, NH: webs}, Listener{Proto: packet.ProtoTCP, Port: 80, NH: admins})), []string{"listener 80/TCP appears twice"}},
	{"listener port", nhs(listeners(Listener{Proto: packet.ProtoTCP, Port: 0, NH: webs})), []string{"listener 0/TCP: it needs a protocol and a port"}},
	{"composite becomes encap", nhs(NextHop{ID: webs, Type: NHEncap, Vif: web1}), []string{"next hop 30 (service): listener 8888/TCP: next hop 20 (encap) is not a composite"}},
	{"encap becomes composite", nhs(NextHop{ID: toWeb2, Type: NHComposite}), []string{"next hop 4 (composite) cannot be a member"}},
	{"encap becomes discard", nhs(NextHop{ID: toHost, Type: NHDiscard}), []string{"vif 2 (tapvhost0): next hop 2 (discard) does not deliver to it"}},
	{"service becomes tunnel", nhs(tunnel(vip, "192.0.2.4", mac(4))), []string{"route 198.51.100.250/32 in VRF 1: next hop 30 (tunnel) needs a label"}},
	{"translate becomes tunnel", nhs(tunnel(viaRed, "192.0.2.4", mac(4))), []string{"label 16: next hop 40 (tunnel) would send what came from the fabric back to it"}},

	{"label 15", labels(LabelEntry{15, toWeb1}), []string{"label 15: labels are 16 to 1048575"}},
	{"label 2^20", labels(LabelEntry{1 << 20, toWeb1}), []string{"label 1048576: labels are 16 to 1048575"}},
	{"label's next hop", labels(LabelEntry{20, 99}), []string{"label 20: next hop 99 is unknown"}},
	{"label to tunnel", labels(LabelEntry{20, toNode2}), []string{"label 20: next hop 10 (tunnel) would send"}},
	{"label twice", labels(LabelEntry{20, toWeb1}, LabelEntry{20, toWeb2}), []string{"label 20 appears twice"}},

	{"route's VRF", routes(Route{VRF: 9, Prefix: pfx(netRoute)}), []string{"route 198.51.100.0/24 in VRF 9: VRF 9 is unknown"}},
	{"route's next hop", routes(Route{VRF: red, Prefix: pfx(netRoute), NH: 99}), []string{"route 198.51.100.0/24 in VRF 1: next hop 99 is unknown"}},
	{"route's prefix", routes(Route{VRF: red}), []string{"it has no prefix"}},
	{"route's prefix", routes(Route{VRF: red, Prefix: pfx("198.51.100.1/24")}), []string{"host bits are set; want 198.51.100.0/24"}},
	{"route's prefix", routes(Route{VRF: red, Prefix: pfx("::ffff:198.51.100.0/120")}), []string{"write IPv4 prefixes as IPv4"}},
	{"route's label", routes(Route{VRF: red, Prefix: pfx(netRoute), NH: toNode2}), []string{"next hop 10 (tunnel) needs a label"}},
	{"route's label", routes(Route{VRF: red, Prefix: pfx(netRoute), NH: toNode2, Label: 3}), []string{"label 3, want 16"}},
	{"route twice", routes(Route{VRF: red, Prefix: pfx(netRoute)}, Route{VRF: red, Prefix: pfx(netRoute)}), []string{"route 198.51.100.0/24 in VRF 1 appears twice"}},

	{"port map's vif", portMap(func(m *PortMap) { m.Vif = 9 }), []string{"port map 198.51.100.250 port 1/TCP on vif 9: the vif is unknown"}},
	{"port map's protocol", portMap(func(m *PortMap) { m.Proto = packet.ProtoICMP }), []string{"protocol 1 has no ports to map"}},
	{"port map's port", portMap(func(m *PortMap) { m.Target = 0 }), []string{"0 is not a port"}},
	{"port map's families", portMap(func(m *PortMap) { m.Fixed = ip("2001:db8::1") }), []string{"198.51.100.250 and 2001:db8::1 are of different families"}},
	{"port map's VIP", portMap(func(m *PortMap) { m.VIP = ip("0.0.0.0") }), []string{"vip 0.0.0.0 is not unicast"}},
	{"port map twice", portMaps(goodMap, goodMap), []string{"port map 198.51.100.250 port 1/TCP on vif 4 appears twice"}},

	{"peer", Delta{Upsert: State{Peers: []netip.Addr{ip("2001:db8::1")}}}, []string{"peer 2001:db8::1: tunnels run over IPv4"}},
	{"peer", Delta{Upsert: State{Peers: []netip.Addr{ip("0.0.0.0")}}}, []string{"peer 0.0.0.0: address 0.0.0.0 is not unicast"}},
	{"no peer", Delta{Upsert: State{Peers: []netip.Addr{{}}}}, []string{"peer invalid IP"}},

	{"next hop 0 removed", Delta{Remove: Removal{NextHops: []NextHopID{0}}}, []string{"remove next hop 0: it is reserved"}},
	{"vif's next hop removed", Delta{Remove: Removal{NextHops: []NextHopID{toHost}}}, []string{"remove next hop 2: vif 2 (tapvhost0) still leads to it"}},
	{"route's next hop removed", Delta{Remove: Removal{NextHops: []NextHopID{nowhere}}}, []string{"remove next hop 50: route 198.51.100.0/24 in VRF 1 still leads to it"}},
	{"label's next hop removed", Delta{Remove: Removal{NextHops: []NextHopID{viaRed}}}, []string{"remove next hop 40: label 16 still leads to it"}},
	{"member's next hop removed", Delta{Remove: Removal{NextHops: []NextHopID{toWeb1}}}, []string{"remove next hop 3: next hop 20 (composite) still leads to it"}},
	{"listener's next hop removed", Delta{Remove: Removal{NextHops: []NextHopID{webs}}}, []string{"remove next hop 20: next hop 30 (service) still leads to it"}},
	{"outside's next hop removed", Delta{Upsert: State{NextHops: []NextHop{nh(vip, func(n *NextHop) {
		n.Listeners = []Listener{{Proto: packet.ProtoTCP, Port: 8888, NH: webs, OutsideNH: admins}}
	})}},
		Remove: Removal{NextHops: []NextHopID{admins}}}, []string{"remove next hop 21: next hop 30 (service) still leads to it"}},
	{"vif removed", Delta{Remove: Removal{Vifs: []VifID{host}}}, []string{"remove vif 2: next hop 2 (host) still delivers to it"}},
	{"mapped vif removed", Delta{Remove: Removal{Vifs: []VifID{web2}}}, []string{"remove vif 4: port map 198.51.100.250 port 8888/TCP on vif 4 still belongs to it"}},
	{"VRF removed", Delta{Remove: Removal{VRFs: []VRFID{red}}}, []string{"remove VRF 1: route ", " still belongs to it"}},
}

// Every refusal names the object and the cause.
func TestRefusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.what, func(t *testing.T) {
			b := built(t, network())
			before, state := b.Tables(), b.State()
			good := State{ // of what is good in the same delta nothing happens either
				VRFs: []VRF{{ID: 70, Name: "new"}}, Vifs: []Vif{vif(fabric, func(v *Vif) { v.ID, v.Name, v.Ifindex = 70, "eth1", 70 })},
				NextHops: []NextHop{{ID: 70, Type: NHComposite, Members: []Member{{NH: toWeb1}}}}, Labels: []LabelEntry{{70, 70}},
				PortMaps: []PortMap{{Vif: web1, VIP: ip("192.0.2.70"), Proto: packet.ProtoTCP, Port: 70, Fixed: ip("192.0.2.7"), Target: 70}},
				Routes:   []Route{{VRF: red, Prefix: pfx("192.0.2.70/32"), NH: 70}},
			}
			d := c.delta
			d.Upsert = merge(good, d.Upsert)
			wantError(t, b.Apply(&d), c.names...)
			if b.Tables() != before || !reflect.DeepEqual(b.State(), state) {
				t.Error("something happened all the same")
			}
			consistent(t, b)
			upsert(t, b, good)
		})
	}
}

func merge(a, b State) State {
	return State{
		Vifs: append(a.Vifs, b.Vifs...), VRFs: append(a.VRFs, b.VRFs...), NextHops: append(a.NextHops, b.NextHops...),
		Routes: append(a.Routes, b.Routes...), Labels: append(a.Labels, b.Labels...),
		PortMaps: append(a.PortMaps, b.PortMaps...), Peers: append(a.Peers, b.Peers...),
	}
}

// A VRF that only a vif or a translation names is still in use.
func TestVRFInUse(t *testing.T) {
	b := built(t, State{VRFs: []VRF{{ID: 1}, {ID: 2}}, Vifs: []Vif{vif(fabric, func(v *Vif) { v.VRF = 1 })},
		NextHops: []NextHop{{ID: 5, Type: NHVRFTranslate, VRF: 2}}})
	wantError(t, b.Apply(&Delta{Remove: Removal{VRFs: []VRFID{1}}}), "remove VRF 1: vif 1 (eth0) still belongs to it")
	wantError(t, b.Apply(&Delta{Remove: Removal{VRFs: []VRFID{2}}}), "remove VRF 2: next hop 5 (vrf-translate) still belongs to it")
	apply(t, b, Delta{Remove: Removal{Vifs: []VifID{1}, NextHops: []NextHopID{5}, VRFs: []VRFID{1, 2}}})
}

// Everything can go in one delta, and again.
func TestRemoveEverything(t *testing.T) {
	b := built(t, network())
	all := removal(b.State())
	apply(t, b, Delta{Remove: all})
	if s := b.State(); !reflect.DeepEqual(s, State{}) {
		t.Errorf("left behind: %+v", s)
	}
	before := b.Tables()
	apply(t, b, Delta{Remove: all})
	if b.Tables() != before {
		t.Error("removing nothing published something")
	}
	for id := range b.index.nhRefs.pages[0].at {
		if id != 0 && b.index.nhRefs.get(uint32(id)) != 0 {
			t.Errorf("next hop %d is still referred to", id)
		}
	}
}

// What one delta adds and takes away was never there.
func TestUpsertAndRemove(t *testing.T) {
	s := network()
	b := NewBuilder()
	apply(t, b, Delta{Upsert: s, Remove: removal(s)})
	if got := b.State(); !reflect.DeepEqual(got, State{}) {
		t.Errorf("state is %+v", got)
	}
}

func removal(s State) (r Removal) {
	for _, v := range s.Vifs {
		r.Vifs = append(r.Vifs, v.ID)
	}
	for _, v := range s.VRFs {
		r.VRFs = append(r.VRFs, v.ID)
	}
	for _, n := range s.NextHops {
		r.NextHops = append(r.NextHops, n.ID)
	}
	for _, l := range s.Labels {
		r.Labels = append(r.Labels, l.Label)
	}
	for _, m := range s.PortMaps {
		r.PortMaps = append(r.PortMaps, m.Key())
	}
	for _, x := range s.Routes {
		r.Routes = append(r.Routes, x.Key())
	}
	r.Peers = s.Peers
	return r
}
