package table

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/packet"
)

// gens returns the generation of every next hop of the network, and of 0.
func gens(b *Builder) map[NextHopID]uint32 {
	m := map[NextHopID]uint32{0: b.Tables().NH(0).Gen}
	for _, n := range b.State().NextHops {
		m[n.ID] = b.Tables().NH(n.ID).Gen
	}
	return m
}

func vipMap(vif VifID, target uint16) PortMap {
	return PortMap{Vif: vif, VIP: ip("198.51.100.250"), Proto: packet.ProtoTCP, Port: 8888, Fixed: ip("198.51.100.11"), Target: target}
}

// Each row is a clause of the rule in Builder's comment: the next hops named
// move, exactly once, and no other does.
func TestGenerations(t *testing.T) {
	upserts := func(s State) Delta { return Delta{Upsert: s} }
	moves := func(ids ...NextHopID) []NextHopID { return ids }
	rt := func(prefix string, nh NextHopID) Delta {
		return routes(Route{VRF: red, Prefix: pfx(prefix), NH: nh})
	}
	for _, c := range []struct {
		what  string
		delta Delta
		moves []NextHopID
	}{
		{"nothing", Delta{}, nil},
		{"the same state again", upserts(network()), nil},

		{"tunnel changes", nhs(nh(toNode2, func(n *NextHop) { n.DstMAC = mac(77) })), moves(toNode2)},
		{"tunnel loses its neighbour", nhs(nh(toNode2, func(n *NextHop) { n.DstMAC = MAC{} })), moves(toNode2, webs, vip)},
		{"tunnel becomes resolve", nhs(nh(toNode2, func(n *NextHop) { n.Type = NHResolve })), moves(toNode2, webs, vip)},
		{"neighbour nobody needs is found", nhs(tunnel(toNode3, "192.0.2.3", mac(9))), moves(toNode3)},
		{"member drains", nhs(nh(webs, func(n *NextHop) { n.Members[1].Draining = true })), moves(webs, vip)},
		{"member leaves", nhs(nh(admins, func(n *NextHop) { n.Members = nil })), moves(admins, vip)},
		{"service changes", nhs(nh(vip, func(n *NextHop) { n.Listeners[0].Port = 80 })), moves(vip, webs, admins)},
		{"listener leaves", nhs(nh(vip, func(n *NextHop) { n.Listeners = n.Listeners[:1] })), moves(vip, webs, admins)},

		{"route is added under another", rt("198.51.100.13/32", toWeb1), moves(nowhere)},
		{"route is added under the default", rt("203.0.113.0/24", toWeb1), moves(toHost)},
		{"route is added under nothing", rt("2001:db8:1::/64", toWeb1), moves(0)},
		{"route to a VRF without routes", routes(Route{VRF: blue, Prefix: pfx("0.0.0.0/0"), NH: toHost}), moves(0)},
		{"route is added under a service", rt("198.51.100.250/32", toWeb1), moves(vip, webs, admins)},
		{"route changes its next hop", rt("198.51.100.11/32", toWeb2), moves(toWeb1)},
		{"route changes its label", routes(Route{VRF: red, Prefix: pfx("198.51.100.64/26"), NH: toNode2, Label: 18}), moves(toNode2)},
		{"route becomes reply-only", routes(Route{VRF: red, Prefix: pfx("198.51.100.11/32"), NH: toWeb1, ReplyOnly: true}), moves(toWeb1)},
		{"route of a service becomes reply-only", routes(Route{VRF: red, Prefix: pfx("198.51.100.250/32"), NH: vip, ReplyOnly: true}), moves(vip, webs, admins)},
		{"route translates", routes(Route{VRF: red, Prefix: pfx("0.0.0.0/0"), NH: toHost, Translate: true}), moves(toHost)},
		{"composite has affinity", nhs(nh(webs, func(n *NextHop) { n.Affinity = 60 })), moves(webs, vip)},
		{"listener is for the host", nhs(nh(vip, func(n *NextHop) { n.Listeners[0].HostOnly = true })), moves(vip, webs, admins)},
		{"listener differs for outside", nhs(nh(vip, func(n *NextHop) { n.Listeners = n.Listeners[:1]; n.Listeners[0].OutsideNH = admins })), moves(vip, webs, admins)},
		{"route is removed", Delta{Remove: Removal{Routes: []RouteKey{{red, pfx("198.51.100.12/32")}}}}, moves(toWeb2)},
		{"routes nest in one delta", Delta{Upsert: State{Routes: []Route{
			{VRF: red, Prefix: pfx("198.51.100.128/25"), NH: toWeb1}, {VRF: red, Prefix: pfx("198.51.100.130/32"), NH: toWeb2}}}}, moves(nowhere, toWeb1)},

		{"port map is added", portMaps(goodMap), moves(toWeb2, webs, vip)},
		{"port map changes", portMaps(vipMap(web1, 81)), moves(toWeb1, webs, admins, vip)},
		{"port map is removed", Delta{Remove: Removal{PortMaps: []PortMapKey{vipMap(web2, 0).Key()}}}, moves(toWeb2, webs, vip)},
		{"port map stays", portMaps(vipMap(web1, 80)), nil},

		{"vif changes its addresses", vifs(vif(web1, func(v *Vif) { v.Addrs = v.Addrs[:1] })), moves(toWeb1)},
		{"vif has a cluster address", vifs(vif(web1, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.91")} })), moves(toWeb1)},
		{"vif changes its VRF", vifs(vif(web1, func(v *Vif) { v.VRF = blue })), moves(toWeb1)},
		{"vif changes its MAC", vifs(vif(web1, func(v *Vif) { v.MAC = mac(9) })), nil},
		{"fabric changes its addresses", vifs(vif(fabric, func(v *Vif) { v.Addrs = nil })), nil},
		{"label changes", labels(LabelEntry{17, toWeb2}), nil},
		{"VRF changes", upserts(State{VRFs: []VRF{{ID: red, Name: "crimson", Router4: ip("192.0.2.7")}}}), nil},
		{"peer comes", upserts(State{Peers: []netip.Addr{ip("192.0.2.9")}}), nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := built(t, network())
			before := gens(b)
			apply(t, b, c.delta)
			after := gens(b)
			var moved []NextHopID
			for _, id := range sortedKeys(after) {
				if before[id] != after[id] {
					moved = append(moved, id)
				}
				if after[id] != before[id] && after[id] != b.gen {
					t.Errorf("next hop %d has generation %d, published was %d", id, after[id], b.gen)
				}
			}
			if want := sorted(c.moves); !slices.Equal(moved, want) {
				t.Errorf("moved: %v, want %v", moved, want)
			}
		})
	}
}

// One publication moves a generation once, whatever happens in it.
func TestGenerationsAreCoalesced(t *testing.T) {
	b := built(t, network())
	last := b.gen
	d := Delta{}
	for i := range 100 {
		d.Upsert.Routes = append(d.Upsert.Routes, Route{VRF: red, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + i)}), 32), NH: toWeb1})
	}
	apply(t, b, d)
	if b.gen != last+1 {
		t.Errorf("%d generations for one delta", b.gen-last)
	}
}

// A next hop that goes and comes back has a generation it never had.
func TestGenerationsNeverRepeat(t *testing.T) {
	b := built(t, network())
	seen := map[uint32]bool{}
	for range 50 {
		apply(t, b, nhs(NextHop{ID: 60, Type: NHVRFTranslate, VRF: red}))
		gen := b.Tables().NH(60).Gen
		if seen[gen] || gen == 0 {
			t.Fatalf("generation %d twice, or 0", gen)
		}
		seen[gen] = true
		apply(t, b, Delta{Remove: Removal{NextHops: []NextHopID{60}}})
		if gen := b.Tables().NH(60).Gen; gen != 0 {
			t.Fatalf("a removed next hop has generation %d", gen)
		}
	}
}

// Generation 0 is skipped when the counter wraps: it means "does not exist".
func TestGenerationWraps(t *testing.T) {
	b := built(t, network())
	b.gen = ^uint32(0)
	apply(t, b, nhs(NextHop{ID: 60, Type: NHDiscard}))
	if gen := b.Tables().NH(60).Gen; gen != 1 {
		t.Errorf("generation %d after the largest, want 1", gen)
	}
}

// The generations of a process are those of its time of birth.
func TestGenerationSeed(t *testing.T) {
	b := NewBuilder()
	now := uint32(time.Now().Unix() << 8)
	if d := now - b.gen; d > 2<<8 && -d > 2<<8 {
		t.Errorf("first generation is %d, the time %d", b.gen, now)
	}
}
