package table

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

// twin is a dull Builder: maps, and a scan for everything.
type twin struct {
	vifs     map[VifID]Vif
	vrfs     map[VRFID]VRF
	nhs      map[NextHopID]NextHop
	routes   map[RouteKey]Route
	labels   map[Label]LabelEntry
	portMaps map[PortMapKey]PortMap
	peers    map[netip.Addr]netip.Addr
}

func newTwin() twin {
	return twin{map[VifID]Vif{}, map[VRFID]VRF{}, map[NextHopID]NextHop{}, map[RouteKey]Route{},
		map[Label]LabelEntry{}, map[PortMapKey]PortMap{}, map[netip.Addr]netip.Addr{}}
}

func (w twin) clone() twin {
	return twin{maps.Clone(w.vifs), maps.Clone(w.vrfs), maps.Clone(w.nhs), maps.Clone(w.routes),
		maps.Clone(w.labels), maps.Clone(w.portMaps), maps.Clone(w.peers)}
}

func (w twin) apply(d *Delta) {
	merge := &d.Upsert
	for _, v := range merge.Vifs {
		w.vifs[v.ID] = v
	}
	for _, v := range merge.VRFs {
		w.vrfs[v.ID] = v
	}
	for _, n := range merge.NextHops {
		w.nhs[n.ID] = n
	}
	for _, r := range merge.Routes {
		w.routes[r.Key()] = r
	}
	for _, l := range merge.Labels {
		w.labels[l.Label] = l
	}
	for _, m := range merge.PortMaps {
		w.portMaps[m.Key()] = m
	}
	for _, p := range merge.Peers {
		w.peers[p] = p
	}
	without(w.vifs, d.Remove.Vifs)
	without(w.vrfs, d.Remove.VRFs)
	without(w.nhs, d.Remove.NextHops)
	without(w.routes, d.Remove.Routes)
	without(w.labels, d.Remove.Labels)
	without(w.portMaps, d.Remove.PortMaps)
	without(w.peers, d.Remove.Peers)
}

func without[K comparable, V any](m map[K]V, keys []K) {
	for _, k := range keys {
		delete(m, k)
	}
}

func (w twin) state() (s State) {
	s.Vifs = slices.Collect(maps.Values(w.vifs))
	s.VRFs = slices.Collect(maps.Values(w.vrfs))
	s.NextHops = slices.Collect(maps.Values(w.nhs))
	s.Routes = slices.Collect(maps.Values(w.routes))
	s.Labels = slices.Collect(maps.Values(w.labels))
	s.PortMaps = slices.Collect(maps.Values(w.portMaps))
	s.Peers = slices.Collect(maps.Values(w.peers))
	return s
}

func (w twin) lookup(vrf VRFID, a netip.Addr) (hop Hop, ok bool) {
	for k, r := range w.routes {
		if k.VRF == vrf && k.Prefix.Contains(a) && (!ok || k.Prefix.Bits() > int(hop.Bits)) {
			hop, ok = r.hop(), true
		}
	}
	return hop, ok
}

// mutator makes deltas that are good or bad in about equal parts.
type mutator struct{ *rand.Rand }

func (m mutator) nhID() NextHopID {
	return pick(m, []NextHopID{0, toHost, toWeb1, toWeb2, toNode2, toNode3, webs, admins, vip, viaRed, nowhere, 60, 61})
}

// outside is a next hop for one listener in four, mostly a good one.
func (m mutator) outside() NextHopID {
	return pick(m, []NextHopID{0, 0, 0, webs, admins, 0, 0, m.nhID()})
}

func pick[T any](m mutator, list []T) T { return list[m.IntN(len(list))] }

func (m mutator) delta() (d Delta) {
	for range 1 + m.IntN(4) {
		m.upsert(&d.Upsert)
	}
	for range m.IntN(3) {
		m.remove(&d.Remove)
	}
	if m.IntN(8) == 0 {
		d.Upsert = network()
	}
	return d
}

func (m mutator) upsert(s *State) {
	switch m.IntN(7) {
	case 0:
		v := vif(pick(m, []VifID{fabric, host, web1, web2}), func(*Vif) {})
		switch m.IntN(4) {
		case 0:
			v.MAC[5] = byte(m.IntN(3))
		case 1:
			v.VRF = VRFID(1 + m.IntN(2))
		case 2:
			v.Ifindex = 2 + m.IntN(6)
		case 3:
			v.ID = VifID(1 + m.IntN(6))
		}
		s.Vifs = append(s.Vifs, v)
	case 1, 2:
		s.NextHops = append(s.NextHops, m.nextHop())
	case 3, 4:
		s.Routes = append(s.Routes, Route{VRF: VRFID(1 + m.IntN(2)), Prefix: m.prefix(), NH: m.nhID(), Label: Label(m.IntN(2) * 20),
			ReplyOnly: m.IntN(4) == 0, Translate: m.IntN(4) == 0})
	case 5:
		s.Labels = append(s.Labels, LabelEntry{Label(16 + m.IntN(3)), m.nhID()})
	case 6:
		s.PortMaps = append(s.PortMaps, vipMap(pick(m, []VifID{web1, web2, 5}), uint16(80+m.IntN(2))))
		s.Peers = append(s.Peers, netip.AddrFrom4([4]byte{192, 0, 2, byte(m.IntN(20))}))
	}
}

func (m mutator) nextHop() NextHop {
	id := m.nhID()
	if id == 0 {
		id = 62
	}
	switch m.IntN(8) {
	case 0, 1:
		n := tunnel(id, fmt.Sprintf("192.0.2.%d", 2+m.IntN(2)), MAC{})
		if m.IntN(2) == 0 {
			n.DstMAC = mac(byte(m.IntN(3)))
		}
		if m.IntN(4) == 0 {
			n.Type = NHResolve
		}
		return n
	case 2:
		return NextHop{ID: id, Type: NHEncap, Vif: VifID(2 + m.IntN(4))}
	case 3, 4:
		n := NextHop{ID: id, Type: NHComposite}
		for k := range m.IntN(4) {
			n.Members = append(n.Members, Member{NH: m.nhID(), Label: Label(m.IntN(2) * 30), Key: uint64(k), Draining: m.IntN(4) == 0})
		}
		return n
	case 5:
		n := NextHop{ID: id, Type: NHService}
		for k := range m.IntN(3) {
			n.Listeners = append(n.Listeners, Listener{Proto: packet.ProtoTCP, Port: uint16(1 + k), NH: m.nhID(), OutsideNH: m.outside()})
		}
		return n
	case 6:
		return NextHop{ID: id, Type: NHVRFTranslate, VRF: VRFID(1 + m.IntN(3))}
	}
	s := network()
	return pick(m, s.NextHops)
}

var fuzzAddrs = []netip.Addr{ip("198.51.100.11"), ip("198.51.100.12"), ip("198.51.100.65"), ip("198.51.100.250"), ip("203.0.113.1"), ip("2001:db8::11")}

func (m mutator) prefix() netip.Prefix {
	a := pick(m, fuzzAddrs)
	p, err := a.Prefix(pick(m, []int{0, 8, 24, 26, 31, 32}))
	if err != nil {
		panic(err)
	}
	return p
}

func (m mutator) remove(r *Removal) {
	s := network()
	switch m.IntN(7) {
	case 0:
		r.Vifs = append(r.Vifs, VifID(1+m.IntN(6)))
	case 1:
		r.NextHops = append(r.NextHops, m.nhID())
	case 2, 3:
		r.Routes = append(r.Routes, RouteKey{VRFID(1 + m.IntN(2)), m.prefix()}, pick(m, s.Routes).Key())
	case 4:
		r.Labels = append(r.Labels, Label(16+m.IntN(3)))
	case 5:
		r.PortMaps = append(r.PortMaps, pick(m, s.PortMaps).Key())
		r.Peers = append(r.Peers, pick(m, s.Peers))
	case 6:
		r.VRFs = append(r.VRFs, VRFID(1+m.IntN(3)))
	}
}

// FuzzBuilder makes random deltas and replays. A Builder must
//   - be in the state the twin is in, and refuse exactly what a Builder that is
//     told the whole result at once refuses;
//   - change nothing when it refuses;
//   - move the generation of whatever a flow that would now be decided
//     differently was decided under.
func FuzzBuilder(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed, uint8(40))
	}
	f.Fuzz(func(t *testing.T, seed uint64, deltas uint8) {
		m := mutator{rand.New(rand.NewPCG(seed, 7))}
		b, w := built(t, network()), newTwin()
		w.apply(&Delta{Upsert: network()})
		for range deltas {
			d := m.delta()
			step(t, b, w, &d)
			if m.IntN(20) == 0 {
				w = replayed(t, m, b, w)
			}
			compare(t, b, w)
		}
	})
}

// step applies d to both, if b takes it.
func step(t *testing.T, b *Builder, w twin, d *Delta) {
	before := b.Tables()
	next := w.clone()
	next.apply(d)
	err := b.Apply(d)
	whole := NewBuilder().Apply(&Delta{Upsert: next.state()})
	if err != nil {
		if b.Tables() != before {
			t.Fatalf("%v, but something was published", err)
		}
		if whole == nil && !overlaps(d) && d.Upsert.unique() == nil && !slices.Contains(d.Remove.NextHops, 0) {
			t.Fatalf("refused: %v\nbut its result is fine: %+v", err, next.state())
		}
		return
	}
	if whole != nil && b.replay == nil {
		t.Fatalf("accepted: %+v\nbut its result is refused: %v", d, whole)
	}
	w.apply(d)
	soundGenerations(t, before, b.Tables())
}

// overlaps reports whether d takes away what it adds: it may then be refused
// for something it would have taken away.
func overlaps(d *Delta) bool {
	w := newTwin()
	w.apply(&Delta{Upsert: d.Upsert})
	n := len(w.vifs) + len(w.vrfs) + len(w.nhs) + len(w.routes) + len(w.labels) + len(w.portMaps)
	w.apply(d)
	return n != len(w.vifs)+len(w.vrfs)+len(w.nhs)+len(w.routes)+len(w.labels)+len(w.portMaps)
}

// replayed replays a part of w, changed, and returns what is left.
func replayed(t *testing.T, m mutator, b *Builder, w twin) twin {
	b.Begin(uint64(m.Uint32()))
	epoch, said := b.replay.epoch, newTwin()
	s := w.state()
	for range 1 + m.IntN(4) {
		var part State
		part.VRFs = s.VRFs
		for _, r := range s.Routes {
			if m.IntN(3) > 0 {
				part.Routes = append(part.Routes, r)
			}
		}
		part.Vifs, part.NextHops, part.Labels, part.PortMaps = s.Vifs, s.NextHops, s.Labels, s.PortMaps
		m.upsert(&part)
		d := Delta{Upsert: part}
		if err := b.Apply(&d); err == nil {
			w.apply(&d)
			said.apply(&d)
		}
	}
	before := b.Tables()
	if err := b.InSync(epoch); err != nil {
		// Whatever is there: a state that is good alone can be replayed over it.
		b.Begin(1)
		apply(t, b, Delta{Upsert: network()})
		inSync(t, b, 1)
		said = newTwin()
		said.apply(&Delta{Upsert: network()})
	}
	soundGenerations(t, before, b.Tables())
	return said
}

func compare(t *testing.T, b *Builder, w twin) {
	t.Helper()
	consistent(t, b)
	fresh := NewBuilder()
	if err := fresh.Apply(&Delta{Upsert: w.state()}); err != nil {
		t.Fatalf("the twin's state is refused: %v", err)
	}
	if got, want := b.State(), fresh.State(); !reflect.DeepEqual(got, want) {
		t.Fatalf("state is %+v\nwant %+v", got, want)
	}
	tab := b.Tables()
	for _, n := range b.State().NextHops {
		got, want := tab.NH(n.ID), fresh.Tables().NH(n.ID)
		if got.Out != want.Out || got.Fits != want.Fits || got.To != nil && got.To != tab.Vif(n.Vif) || (got.To == nil) != (want.To == nil) {
			t.Fatalf("packets leave by %s as %d of %d bytes to %p, want %d of %d to %p", got.name(), got.Out, got.Fits, got.To, want.Out, want.Fits, tab.Vif(n.Vif))
		}
	}
	for vrf := range VRFID(3) {
		for _, a := range fuzzAddrs {
			hop, ok := tab.Lookup(vrf, packet.AddrFrom(a))
			if want, there := w.lookup(vrf, a); hop != want || ok != there {
				t.Fatalf("%v in VRF %d leads to %+v, want %+v", a, vrf, hop, want)
			}
		}
	}
	for i := range 20 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		if _, want := w.peers[a]; tab.Peer(packet.AddrFrom(a)) != want {
			t.Fatalf("peer %v: want %v", a, want)
		}
	}
}

// soundGenerations fails if a flow would be decided differently and its scope's
// generation is the same. The scope is the next hop the route led to, or the
// composite below it.
func soundGenerations(t *testing.T, before, after *Tables) {
	t.Helper()
	for vrf := range VRFID(3) {
		for _, a := range fuzzAddrs {
			was, _ := before.Lookup(vrf, packet.AddrFrom(a))
			is, _ := after.Lookup(vrf, packet.AddrFrom(a))
			for _, l := range append(before.NH(was.NH).Listeners, Listener{}) {
				for _, scope := range []NextHopID{was.NH, l.NH, l.OutsideNH} {
					if scope == 0 && was.NH != 0 {
						continue // a listener without that side
					}
					x, y := side(before, was.NH, l, scope), side(after, is.NH, l, scope)
					if (was != is || x != y) && before.NH(scope).Gen == after.NH(scope).Gen {
						t.Fatalf("flows to %v in VRF %d went by %+v\n%s\nnow by %+v\n%s\nnext hop %d has still generation %d",
							a, vrf, was, x, is, y, scope, after.NH(scope).Gen)
					}
				}
			}
		}
	}
}

// side is all that a flow decided under scope may depend on that is led to id
// and, if that is a service, to its listener l. What lies below a composite of
// a service does not matter to the flows of the listener's other composite.
func side(t *Tables, id NextHopID, l Listener, scope NextHopID) string {
	n := t.NH(id)
	if scope == id || n.Type != NHService || !slices.Contains(n.Listeners, l) {
		return outcome(t, id, l)
	}
	return fmt.Sprintf("%s host only=%v\n- ", n.name(), l.HostOnly) + outcome(t, scope, l)
}

// outcome is all that a flow may depend on that is led to id and, if that is a
// service, to its listener l.
func outcome(t *Tables, id NextHopID, l Listener) string {
	n := t.NH(id)
	s := fmt.Sprintf("%s %+v", n.name(), n.Composite)
	if n.Type != NHService {
		s += fmt.Sprintf(" usable=%v", n.Usable)
	}
	if v := t.Vif(n.Vif); n.Type == NHEncap && v != nil {
		s += fmt.Sprintf(" to vif %d with %d port maps", v.ID, len(v.ports.All()))
		for _, p := range v.ports.All() {
			s += fmt.Sprint(" ", p.Target)
		}
	}
	if n.Type == NHComposite {
		for _, m := range n.targets() {
			s += "\n- " + outcome(t, m, l)
		}
	}
	if n.Type == NHService && slices.Contains(n.Listeners, l) {
		s += fmt.Sprintf(" host only=%v\n- ", l.HostOnly) + outcome(t, l.NH, l)
		if l.OutsideNH != 0 {
			s += "\n- " + outcome(t, l.OutsideNH, l)
		}
	}
	return s
}
