package forward

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// elapse turns the workers while d passes, in steps of 50 ms, or larger when it is long.
func (b *bed) elapse(d time.Duration) {
	b.t.Helper()
	step := max(50*time.Millisecond, d/4000)
	for range d / step {
		b.now += uint64(step)
		for _, n := range b.nodes {
			if n.cache != nil {
				n.cache.Pass(b.now)
			}
		}
		b.run()
	}
}

// talks checks that a connection of c through the VIP works both ways, as before.
func (b *bed) talks(sport uint16, backend string) {
	b.t.Helper()
	p := where(backend)
	n, hops := b.nodes[p.node], uint8(62)
	if p.node == "n1" {
		hops = 63
	}
	pass(b, b.nodes["n1"], "c", n, backend, false, build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "A"), build.IPv4("10.0.0.2", p.addr).TTL(hops).TCP(sport, 80, "A"))
	pass(b, n, backend, b.nodes["n1"], "c", false, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "A"), build.IPv4(vip, "10.0.0.2").TTL(hops).TCP(8888, sport, "A"))
}

// TestPortsComeAndGo: a VIP's route leads to a service or, with one port, straight to
// its composite. Connections stay when another port comes or goes.
func TestPortsComeAndGo(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		at := map[uint16]string{}
		for i := range uint16(20) {
			at[3000+i] = connect(b, 3000+i)
		}
		state := n1.builder.State()
		tcp := state.NextHops[slices.IndexFunc(state.NextHops, func(nh table.NextHop) bool { return nh.ID == nhTCP })]
		service := state.NextHops[slices.IndexFunc(state.NextHops, func(nh table.NextHop) bool { return nh.ID == nhService })]
		route := table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(vip + "/32"), NH: nhTCP}
		alone := tcp
		alone.Proto, alone.Port = packet.ProtoTCP, 8888
		n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{alone}, Routes: []table.Route{route}}, Remove: table.Removal{NextHops: []table.NextHopID{nhService}}})
		for sport, backend := range at {
			b.talks(sport, backend)
		}
		route.NH = nhService
		n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tcp, service}, Routes: []table.Route{route}}})
		for sport, backend := range at {
			b.talks(sport, backend)
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestVIPGoes: when nothing leads to the VIP any more, neither does an old flow, even
// though the next hop it was decided under is still there.
func TestVIPGoes(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		connect(b, 3000)
		n1.apply(table.Delta{Upsert: table.State{Routes: []table.Route{{VRF: vrf, Prefix: netip.MustParsePrefix("10.96.0.0/16"), NH: 0}}},
			Remove: table.Removal{Routes: []table.RouteKey{{VRF: vrf, Prefix: netip.MustParsePrefix(vip + "/32")}}}})
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "A").Bytes())
		b.run()
		n1.one("c") // network unreachable
		b.wantDrops(" n1.no-route=1")
		b.frames()
	})
}

// TestPodMoves: the address of a pod is another interface's now. Flows to it go on,
// and its replies are those of the same flow.
func TestPodMoves(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		talk := func(pod string) {
			t.Helper()
			for sport := range uint16(10) {
				sport += 1000
				pass(b, n1, "c", n1, pod, false, build.IPv4("10.0.0.2", "10.0.0.3").TCP(sport, 7, "A"), build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).TCP(sport, 7, "A"))
				pass(b, n1, pod, n1, "c", false, build.IPv4("10.0.0.3", "10.0.0.2").TCP(7, sport, "A"), build.IPv4("10.0.0.3", "10.0.0.2").TTL(63).TCP(7, sport, "A"))
			}
		}
		talk("b1")
		v := *n1.builder.Tables().Vif(11)
		v.ID, v.NH, v.Name, v.Ifindex = 50, 60, "b1bis", 50
		n1.apply(table.Delta{Upsert: table.State{Vifs: []table.Vif{v.Vif}, NextHops: []table.NextHop{{ID: 60, Type: table.NHEncap, Vif: 50, VRF: vrf}},
			Routes: []table.Route{{VRF: vrf, Prefix: netip.MustParsePrefix("10.0.0.3/32"), NH: 60}}}})
		talk("b1bis")
		b.wantDrops("")
		b.frames()
	})
}

// TestNeighbourFlaps: while the underlay neighbour is unknown, packets from there still
// come in, those to there are dropped under that name, and no flow is lost.
func TestNeighbourFlaps(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, _, n2 := twoNodes(t, workers)
		b.backends("b2")
		connect(b, 3000)
		known := tunnelTo("192.0.2.2", "192.0.2.1", table.MAC{2, 0, 0, 0, 0, 7})
		unknown := known
		unknown.Type, unknown.DstMAC = table.NHResolve, table.MAC{}
		n2.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{unknown}}})
		n2.send("b2", build.IPv4("10.0.1.2", "10.0.0.2").TCP(80, 3000, "A").Bytes())
		b.run()
		b.wantDrops(" n2.unresolved=1")
		b.nodes["n1"].send("c", build.IPv4("10.0.0.2", vip).TCP(3001, 8888, "S").Bytes())
		b.run()
		n2.one("b2") // a new flow, from a peer whose neighbour is unknown
		n2.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{known}}})
		pass(b, n2, "b2", b.nodes["n1"], "c", false, build.IPv4("10.0.1.2", "10.0.0.2").TCP(80, 3000, "A"), build.IPv4(vip, "10.0.0.2").TTL(62).TCP(8888, 3000, "A"))
		pass(b, n2, "b2", b.nodes["n1"], "c", false, build.IPv4("10.0.1.2", "10.0.0.2").TCP(80, 3001, "SA"), build.IPv4(vip, "10.0.0.2").TTL(62).TCP(8888, 3001, "SA"))
		b.wantDrops(" n2.unresolved=1")
		b.frames()
	})
}

// TestSeveralRoads: a prefix behind two gateways is reached by either, and believed
// from either; when one goes its flows move, and nobody is reset.
func TestSeveralRoads(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.node("gw1", "192.0.2.11", 1, 64)
		b.node("gw2", "192.0.2.12", 1, 64)
		roads := table.NextHop{ID: 40, Type: table.NHComposite, VRF: vrf}
		up := table.State{Peers: addrs("192.0.2.11", "192.0.2.12"), Routes: []table.Route{{VRF: vrf, Prefix: netip.MustParsePrefix("203.0.113.0/24"), NH: 40}}}
		for i, gw := range []string{"192.0.2.11", "192.0.2.12"} {
			nh := tunnelTo("192.0.2.1", gw, table.MAC{2, 0, 0, 0, 0, 7})
			nh.ID = table.NextHopID(41 + i)
			up.NextHops = append(up.NextHops, nh)
			roads.Members = append(roads.Members, table.Member{NH: nh.ID, Label: table.Label(500 + i), Key: uint64(i), Name: gw})
		}
		up.NextHops = append(up.NextHops, roads)
		n1.apply(table.Delta{Upsert: up})

		out := func(sport uint16) (gw string) {
			t.Helper()
			b.wire = nil
			n1.send("c", build.IPv4("10.0.0.2", "203.0.113.9").TCP(sport, 80, "A").Bytes())
			b.run()
			var outer packet.Tunnel
			if len(b.wire) != 1 || packet.ParseTunnel(b.wire[0], len(b.wire[0]), &outer) != packet.FaultNone || outer.Label != 500+uint32(b.wire[0][33])-11 {
				t.Fatalf("%d tunnel packets%s", len(b.wire), n1.drops())
			}
			return outer.Dst.String()
		}
		in := func(gw string, sport uint16) {
			t.Helper()
			n1.inject(build.Eth(build.Tunnel(build.IPv4("203.0.113.9", "10.0.0.2").TCP(80, sport, "A").Bytes(), gw, "192.0.2.1", vrfLabel), link.VifMAC(1), mac))
			b.run()
			n1.want("c", build.IPv4("203.0.113.9", "10.0.0.2").TTL(63).TCP(80, sport, "A"))
		}
		by := map[string]int{}
		for sport := range uint16(30) {
			gw := out(1000 + sport)
			by[gw]++
			in(gw, 1000+sport)
			in("192.0.2.11", 2000+sport) // the first packet comes from outside
			n1.send("c", build.IPv4("10.0.0.2", "203.0.113.9").TCP(2000+sport, 80, "A").Bytes())
			b.run()
		}
		if len(by) != 2 {
			t.Errorf("all flows take one road: %v", by)
		}
		roads.Members[0].NH = 0
		n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{roads}}})
		for sport := range uint16(30) {
			for _, base := range []uint16{1000, 2000} {
				if gw := out(base + sport); gw != "192.0.2.12" {
					t.Errorf("port %d goes to %s", base+sport, gw)
				}
				in("192.0.2.12", base+sport)
			}
		}
		n1.inject(build.Eth(build.Tunnel(build.IPv4("203.0.113.9", "10.0.0.2").TCP(80, 9, "S").Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), link.VifMAC(1), mac))
		b.run()
		if got := n1.drops(); got != " n1.invalid-source=1" {
			t.Errorf("drops:%s", got)
		}
		b.frames()
	})
}

// TestSuccessor: a worker that takes over a table with other generations keeps the
// flows, counts their quota, and clears what a crash left behind.
func TestSuccessor(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		at := map[uint16]string{}
		for i := range uint16(20) {
			at[3000+i] = connect(b, 3000+i)
		}
		before := len(n1.flows())
		for i, w := range n1.workers {
			k := flow.Key{KeyNH: nhPods, Tuple: packet.Tuple{Sport: 1, Dport: 2, Proto: packet.ProtoTCP}}
			slot, _ := w.flows.Insert(&k)
			e := w.flows.Entry(slot)
			e.Action, e.Flags = flow.ActionForward, flow.FlagForward
			w.flows.Cold(slot).Reverse = flow.Index(200, 5)
			n1.succeed(i)
		}
		if got := len(n1.flows()); got != before {
			t.Errorf("%d entries, want %d", got, before)
		}
		quota := uint32(0)
		for _, w := range n1.workers {
			quota += uint32(w.quota.Sum(nhPods))
		}
		if quota != 20 {
			t.Errorf("c holds %d flows, want 20", quota)
		}
		for sport, backend := range at {
			b.talks(sport, backend)
		}
		if got := len(n1.flows()); got != before {
			t.Errorf("%d entries, want %d", got, before)
		}
		b.wantDrops("")
	})
}

// succeed replaces worker i by a new one on the same flow memory. All generations
// differ, as after a restart.
func (n *node) succeed(i int) {
	t := n.workers[i].flows
	t.Scan(t.Slots(), func(slot uint32, _ *flow.Entry) { t.Cold(slot).Gen -= 1000 })
	n.workers[i] = n.shared.Worker(i, n.links[i], n.links[i])
}
