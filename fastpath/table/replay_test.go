package table

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

func inSync(t *testing.T, b *Builder, epoch uint64) {
	t.Helper()
	if err := b.InSync(epoch); err != nil {
		t.Fatal(err)
	}
	consistent(t, b)
}

// Replaying what is there, in pieces, publishes nothing and moves nothing.
func TestReplayOfTheSame(t *testing.T) {
	b := built(t, network())
	before := b.Tables()
	b.Begin(7)
	s := network()
	for _, piece := range pieces(s) {
		upsert(t, b, piece)
	}
	inSync(t, b, 7)
	if b.Tables() != before {
		t.Error("something was published")
	}
	if b.Epoch() != 7 {
		t.Errorf("epoch is %d", b.Epoch())
	}
}

// pieces cuts s so that references lead only backwards.
func pieces(s State) []State {
	list := []State{{VRFs: s.VRFs}, {Vifs: s.Vifs, NextHops: s.NextHops}}
	for _, r := range s.Routes {
		list = append(list, State{Routes: []Route{r}})
	}
	for _, m := range s.PortMaps {
		list = append(list, State{PortMaps: []PortMap{m}})
	}
	return append(list, State{Labels: s.Labels, Peers: s.Peers})
}

// What was not replayed goes with InSync, and not before.
func TestSweep(t *testing.T) {
	b := built(t, network())
	full := b.State()
	want := State{
		VRFs:     []VRF{{ID: red, Name: "red"}},
		Vifs:     []Vif{vif(fabric, func(*Vif) {}), vif(web1, func(*Vif) {})},
		NextHops: []NextHop{nh(toWeb1, func(*NextHop) {}), nh(viaRed, func(*NextHop) {})},
		Routes:   []Route{{VRF: red, Prefix: pfx("198.51.100.11/32"), NH: toWeb1}},
		Labels:   []LabelEntry{{17, toWeb1}},
		PortMaps: []PortMap{vipMap(web1, 80)},
		Peers:    []netip.Addr{ip("192.0.2.3")},
	}
	b.Begin(8)
	upsert(t, b, want)
	if got := b.State(); !reflect.DeepEqual(got, full) {
		t.Errorf("before InSync the state is %+v", got)
	}
	inSync(t, b, 8)
	if got := b.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("state is %+v\nwant %+v", got, want)
	}
	b.Begin(9)
	inSync(t, b, 9)
	if got := b.State(); !reflect.DeepEqual(got, State{}) {
		t.Errorf("after an empty replay the state is %+v", got)
	}
}

// What a delta adds between Begin and InSync stays even if the replay had said
// it already; what one removes is gone.
func TestDeltasDuringReplay(t *testing.T) {
	b := built(t, network())
	b.Begin(8)
	upsert(t, b, network())
	apply(t, b, Delta{Upsert: State{Routes: []Route{{VRF: blue, Prefix: pfx("0.0.0.0/0"), NH: toHost}}},
		Remove: Removal{Labels: []Label{16}}})
	inSync(t, b, 8)
	if _, ok := b.Tables().Lookup(blue, addr("192.0.2.1")); !ok {
		t.Error("the new route was swept")
	}
	if _, ok := b.Tables().Label(16); ok {
		t.Error("the removed label is back")
	}
}

// Something that stays may not lead to what goes: the error says what, nothing
// is swept, and the replay can be completed.
func TestSweepRefused(t *testing.T) {
	b := built(t, network())
	full := b.State()
	s := network()
	s.NextHops = s.NextHops[:9] // without nowhere
	b.Begin(8)
	upsert(t, b, s)
	wantError(t, b.InSync(8), "in sync for epoch 8: remove next hop 50: route 198.51.100.0/24 in VRF 1 still leads to it; it was not replayed")
	if got := b.State(); !reflect.DeepEqual(got, full) {
		t.Error("something was swept")
	}
	upsert(t, b, State{NextHops: []NextHop{{ID: nowhere, Type: NHDiscard}}})
	inSync(t, b, 8)
}

func TestInSyncWithoutReplay(t *testing.T) {
	b := built(t, network())
	wantError(t, b.InSync(1), "in sync for epoch 1: no such replay is open")
	b.Begin(2)
	wantError(t, b.InSync(1), "no such replay is open")
	b.Begin(3)
	wantError(t, b.InSync(2), "no such replay is open")
	upsert(t, b, network())
	inSync(t, b, 3)
	wantError(t, b.InSync(3), "no such replay is open")
}

// A second Begin forgets what the first replay has said.
func TestReplayStartsOver(t *testing.T) {
	b := built(t, network())
	b.Begin(8)
	upsert(t, b, network())
	b.Begin(8)
	inSync(t, b, 8)
	if got := b.State(); !reflect.DeepEqual(got, State{}) {
		t.Errorf("state is %+v", got)
	}
}

// A refused delta does not keep anything from being swept.
func TestRefusedDeltaMarksNothing(t *testing.T) {
	b := built(t, network())
	b.Begin(8)
	s := network()
	s.Routes = append(s.Routes, Route{VRF: red, Prefix: pfx("192.0.2.0/24"), NH: 99})
	wantError(t, b.Apply(&Delta{Upsert: s}), "next hop 99 is unknown")
	inSync(t, b, 8)
	if got := b.State(); !reflect.DeepEqual(got, State{}) {
		t.Errorf("state is %+v", got)
	}
}

// An agent that lost its ledger numbers everything anew. The old objects are in
// the way of the new ones until InSync, and must not be an obstacle.
func TestReplayWithOtherIDs(t *testing.T) {
	s := network()
	for i := range s.Vifs { // 1..4 become 4..1
		s.Vifs[i].ID = 5 - s.Vifs[i].ID
	}
	for i := range s.PortMaps {
		s.PortMaps[i].Vif = 5 - s.PortMaps[i].Vif
	}
	id := map[NextHopID]NextHopID{toHost: 20, toWeb1: 30, toWeb2: 40, toNode2: 3, toNode3: 2, webs: 4, admins: 50, vip: 10, viaRed: 21, nowhere: 11}
	renumber(&s, id)
	b := built(t, network())
	b.Begin(8)
	for _, piece := range pieces(s) {
		upsert(t, b, piece)
	}
	inSync(t, b, 8)
	fresh := built(t, s)
	if got, want := b.State(), fresh.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("state is %+v\nwant %+v", got, want)
	}
	if n := b.Tables().NH(id[webs]); n.Takers() != 3 || n.Pick(1) < 0 {
		t.Errorf("the service has %d usable members", n.Takers())
	}
}

func renumber(s *State, id map[NextHopID]NextHopID) {
	for i := range s.Vifs {
		s.Vifs[i].NH = id[s.Vifs[i].NH]
	}
	for i := range s.NextHops {
		n := &s.NextHops[i]
		n.ID = id[n.ID]
		if n.Vif != 0 {
			n.Vif = 5 - n.Vif
		}
		for j := range n.Members {
			n.Members[j].NH = id[n.Members[j].NH]
		}
		for j := range n.Listeners {
			n.Listeners[j].NH = id[n.Listeners[j].NH]
		}
	}
	for i := range s.Routes {
		s.Routes[i].NH = id[s.Routes[i].NH]
	}
	for i := range s.Labels {
		s.Labels[i].NH = id[s.Labels[i].NH]
	}
}

// An interface may change hands in one delta.
func TestIfindexChangesHands(t *testing.T) {
	b := built(t, network())
	s := State{
		Vifs:     []Vif{vif(web2, func(v *Vif) { v.ID, v.NH, v.Name = 9, 60, "tap9" })},
		NextHops: []NextHop{{ID: 60, Type: NHEncap, Vif: 9}},
	}
	wantError(t, b.Apply(&Delta{Upsert: s}), "vif 9 (tap9): ifindex 5 belongs to vif 4 (tap2)")
	s.NextHops = append(s.NextHops, nh(webs, func(n *NextHop) { n.Members[1] = Member{} }))
	apply(t, b, Delta{Upsert: s, Remove: Removal{
		Vifs: []VifID{web2}, NextHops: []NextHopID{toWeb2}, Labels: []Label{MaxLabel},
		Routes:   []RouteKey{{red, pfx("198.51.100.12/32")}},
		PortMaps: []PortMapKey{{web2, ip("198.51.100.250"), packet.ProtoTCP, 8888}},
	}})
}

// During a replay only vifs that were not replayed give way.
func TestIfindexTwiceInReplay(t *testing.T) {
	b := built(t, network())
	b.Begin(8)
	other := vif(fabric, func(v *Vif) { v.ID, v.Name = 9, "eth9" })
	wantError(t, b.Apply(&Delta{Upsert: State{Vifs: []Vif{vif(fabric, func(*Vif) {}), other}}}), "vif 9 (eth9): ifindex 2 belongs to vif 1 (eth0)")
	upsert(t, b, State{Vifs: []Vif{vif(fabric, func(*Vif) {})}})
	wantError(t, b.Apply(&Delta{Upsert: State{Vifs: []Vif{other}}}), "vif 9 (eth9): ifindex 2 belongs to vif 1 (eth0)")
}
