package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

var start = time.Unix(1_000_000, 0)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func pod(n int, network string, addrs ...string) Pod {
	p := Pod{
		Key: record.AttachmentKey{ContainerID: fmt.Sprintf("c%d", n), Ifname: "eth0"}, VMI: fmt.Sprintf("vmi%d", n),
		Name: fmt.Sprintf("default/pod%d", n), Network: network, Tap: fmt.Sprintf("tap%d", n), Ifindex: 100 + n,
		MAC: table.MAC{2, 0, 0, 0, 0, byte(n)}, MTU: 1468, Current: true, Version: "v1",
	}
	for _, a := range addrs {
		p.Addrs = append(p.Addrs, addr(a))
	}
	return p
}

// node1 is a node with two pods, one of them behind a service, and one peer.
func node1() *Input {
	web := pod(1, "pods", "192.0.2.1", "2001:db8:1::1")
	web.PortMaps = []PortMap{
		{VIP: addr("198.51.100.10"), Proto: 6, Port: 8888, Target: 80},
		{VIP: addr("2001:db8:99::10"), Proto: 6, Port: 8888, Target: 80},
	}
	return &Input{
		Node:   "n1",
		Fabric: Fabric{Name: "eth0", Ifindex: 2, MAC: table.MAC{2, 1}, MTU: 1500, Address: addr("172.31.0.11")},
		Host:   &Host{Tap: "tapvhost0", Ifindex: 9, MAC: table.MAC{2, 9}, MTU: 1468, Addrs: []netip.Addr{addr("192.0.2.9"), addr("2001:db8:1::9")}},
		Networks: []*Network{{
			Name: "pods", Subnets: []netip.Prefix{prefix("192.0.0.0/16"), prefix("2001:db8:1::/64")},
			ServiceSubnets: []netip.Prefix{prefix("198.51.100.0/24"), prefix("2001:db8:99::/112")}, Host: true,
		}},
		Blocks: []Block{{"pods", prefix("192.0.2.0/26"), 3}, {"pods", prefix("2001:db8:1::/122"), 3}},
		Peers:  []netip.Addr{addr("172.31.0.12")},
		Routes: []*Route{{"pods", prefix("192.0.2.64/26"), []Path{{"n2", addr("172.31.0.12"), 77}}}},
		LoadBalancers: []*LoadBalancer{{
			UUID: "lb1", Namespace: "default", Service: "web", Networks: []string{"pods"},
			VIPs: []netip.Addr{addr("198.51.100.10"), addr("2001:db8:99::10")},
			Listeners: []Listener{{Proto: 6, Port: 8888, Members: []Member{
				{UUID: "m1", Name: "default/pod1", VMI: "vmi1", Node: "n1", Tunnel: addr("172.31.0.11"), Label: 20, Address: addr("192.0.2.1"), Port: 80},
				{UUID: "m2", Name: "default/pod7", VMI: "vmi7", Node: "n2", Tunnel: addr("172.31.0.12"), Label: 30, Address: addr("192.0.2.70"), Port: 80},
				{UUID: "m3", Name: "default/pod1", VMI: "vmi1", Node: "n1", Tunnel: addr("172.31.0.11"), Label: 20, Address: addr("2001:db8:1::1"), Port: 80},
			}}},
		}},
		Pods:     []Pod{web, pod(2, "pods", "192.0.2.2", "2001:db8:1::2")},
		Underlay: map[netip.Addr]Neighbour{addr("172.31.0.12"): {SrcMAC: table.MAC{2, 1}, DstMAC: table.MAC{2, 2}, MTU: 1400}},
	}
}

func run(in *Input) *Output { return Compile(in, NewIDs(nil, start), nil) }

func nextHop(t *testing.T, s *table.State, id table.NextHopID) table.NextHop {
	t.Helper()
	for _, n := range s.NextHops {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no next hop %d", id)
	return table.NextHop{}
}

func routeTo(t *testing.T, s *table.State, p string) table.Route {
	t.Helper()
	for _, r := range s.Routes {
		if r.Prefix == prefix(p) {
			return r
		}
	}
	t.Fatalf("no route %s", p)
	return table.Route{}
}

// The routes of a node, as an operator would read them.
func TestRoutes(t *testing.T) {
	out := run(node1())
	want := map[string]string{
		"0.0.0.0/0": "host", "::/0": "host",
		"192.0.0.0/16": "discard", "2001:db8:1::/64": "discard",
		"198.51.100.0/24": "discard", "2001:db8:99::/112": "discard",
		"192.0.2.0/26": "discard", "2001:db8:1::/122": "discard",
		"192.0.2.1/32": "encap tap1", "2001:db8:1::1/128": "encap tap1",
		"192.0.2.2/32": "encap tap2", "2001:db8:1::2/128": "encap tap2",
		"192.0.2.9/32": "host", "2001:db8:1::9/128": "host",
		"192.0.2.64/26":    "tunnel 172.31.0.12 label 77",
		"198.51.100.10/32": "composite 8888/6 [encap tap1, tunnel 172.31.0.12 label 30]", "2001:db8:99::10/128": "composite 8888/6 [encap tap1]",
	}
	got := map[string]string{}
	for _, r := range out.State.Routes {
		got[r.Prefix.String()] = describe(t, &out.State, r.NH, r.Label)
	}
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s leads to %q, want %q", p, got[p], w)
		}
	}
	if len(got) != len(want) || len(out.Problems) > 0 {
		t.Errorf("%d routes, want %d; problems %v", len(got), len(want), out.Problems)
	}
}

func describe(t *testing.T, s *table.State, id table.NextHopID, label table.Label) string {
	if id == 0 {
		return "discard"
	}
	n := nextHop(t, s, id)
	text := string(n.Type)
	switch n.Type {
	case table.NHEncap:
		for _, v := range s.Vifs {
			if v.ID == n.Vif {
				text += " " + v.Name
			}
		}
	case table.NHTunnel, table.NHResolve:
		text += fmt.Sprintf(" %v label %d", n.Dip, label)
	case table.NHComposite:
		var to []string
		for _, m := range n.Members {
			d := describe(t, s, m.NH, m.Label)
			if m.DNAT.IsValid() {
				d += " dnat " + m.DNAT.String()
			}
			to = append(to, d)
		}
		slices.Sort(to)
		if n.Port != 0 {
			text += fmt.Sprintf(" %d/%d", n.Port, n.Proto)
		}
		text += " [" + strings.Join(to, ", ") + "]"
	case table.NHService:
		for _, l := range n.Listeners {
			text += fmt.Sprintf(" %d/%d: %s;", l.Port, l.Proto, describe(t, s, l.NH, 0))
		}
	}
	return text
}

func TestServiceWithTwoListeners(t *testing.T) {
	in := node1()
	lb := in.LoadBalancers[0]
	lb.Listeners = append(lb.Listeners, Listener{Proto: 17, Port: 53, Members: []Member{
		{UUID: "x", Name: "192.0.2.200:5353", Address: addr("203.0.113.5"), Port: 5353},
	}})
	out := run(in)
	four := describe(t, &out.State, routeTo(t, &out.State, "198.51.100.10/32").NH, 0)
	want := "service 8888/6: composite [encap tap1, tunnel 172.31.0.12 label 30]; 53/17: composite [host dnat 203.0.113.5:5353];"
	if four != want {
		t.Errorf("got  %s\nwant %s", four, want)
	}
	lb.Listeners = nil
	out = run(in)
	if d := describe(t, &out.State, routeTo(t, &out.State, "198.51.100.10/32").NH, 0); d != "service" {
		t.Errorf("a VIP without listeners leads to %q", d)
	}
}

func TestNoBackend(t *testing.T) {
	in := node1()
	in.LoadBalancers[0].Listeners[0].Members = nil
	out := run(in)
	if d := describe(t, &out.State, routeTo(t, &out.State, "198.51.100.10/32").NH, 0); d != "composite 8888/6 []" {
		t.Errorf("leads to %q", d)
	}
	if _, ok := out.Announce.Routes[LocalRouteKey{"pods", prefix("198.51.100.10/32")}]; ok {
		t.Error("a VIP without backends here is announced")
	}
}

func TestUnresolvedNeighbour(t *testing.T) {
	in := node1()
	in.Underlay = nil
	out := run(in)
	if d := describe(t, &out.State, routeTo(t, &out.State, "192.0.2.64/26").NH, 77); d != "resolve 172.31.0.12 label 77" {
		t.Errorf("leads to %q", d)
	}
}

func TestPortMaps(t *testing.T) {
	out := run(node1())
	var got []string
	for _, m := range out.State.PortMaps {
		got = append(got, fmt.Sprintf("%v %d/%d -> %v:%d", m.VIP, m.Port, m.Proto, m.Fixed, m.Target))
	}
	want := []string{"198.51.100.10 8888/6 -> 192.0.2.1:80", "2001:db8:99::10 8888/6 -> 2001:db8:1::1:80"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnnouncement(t *testing.T) {
	in := node1()
	in.Pods[1].Version = "" // an orphan
	in.Pods = append(in.Pods, pod(3, "pods", "192.0.2.3"))
	in.Pods[2].Ifindex = 0 // not there yet
	out := run(in)
	a := out.Announce
	if len(a.VMIs) != 1 || len(a.VMIs["vmi1"].PortMaps) == 0 || a.VMIs["vmi1"].Label < table.MinLabel {
		t.Errorf("VMIs %+v", a.VMIs)
	}
	if len(a.Routes) != 4 {
		t.Errorf("routes %+v", a.Routes)
	}
	for _, p := range []string{"192.0.2.0/26", "2001:db8:1::/122"} {
		label := a.Routes[LocalRouteKey{"pods", prefix(p)}].Label
		i := slices.IndexFunc(out.State.Labels, func(l table.LabelEntry) bool { return l.Label == label })
		if i < 0 || nextHop(t, &out.State, out.State.Labels[i].NH).Type != table.NHVRFTranslate {
			t.Errorf("block %s is announced with label %d", p, label)
		}
	}
	vip := a.Routes[LocalRouteKey{"pods", prefix("198.51.100.10/32")}]
	i := slices.IndexFunc(out.State.Labels, func(l table.LabelEntry) bool { return l.Label == vip.Label })
	if i < 0 || describe(t, &out.State, out.State.Labels[i].NH, 0) != "composite 8888/6 [encap tap1]" || !slices.Equal(vip.VMIs, []string{"vmi1"}) {
		t.Errorf("VIP is announced as %+v", vip)
	}
	if a.Blocks[BlockKey{"pods", prefix("192.0.2.0/26")}] != 3 || len(a.Host) != 2 {
		t.Errorf("blocks %v, host %v", a.Blocks, a.Host)
	}
}

// A new sandbox takes over the label and the service; the old one keeps its
// address until it is gone.
func TestTwoSandboxes(t *testing.T) {
	in := node1()
	ids := NewIDs(nil, start)
	before := Compile(in, ids, nil)
	again := pod(8, "pods", "192.0.2.8")
	again.VMI = "vmi1"
	in.Pods[0].Current = false
	in.Pods = append(in.Pods, again)
	out := Compile(in, ids, before.Memory)
	if d := describe(t, &out.State, routeTo(t, &out.State, "198.51.100.10/32").NH, 0); !strings.Contains(d, "tap8") || strings.Contains(d, "tap1") {
		t.Errorf("service leads to %s", d)
	}
	if d := describe(t, &out.State, routeTo(t, &out.State, "192.0.2.1/32").NH, 0); d != "encap tap1" {
		t.Errorf("the old address leads to %s", d)
	}
	if got, want := out.Announce.VMIs["vmi1"].Label, before.Announce.VMIs["vmi1"].Label; got != want {
		t.Errorf("label %d became %d", want, got)
	}
}

// Members stay where they are: of others' coming and going they notice nothing.
func TestPositionsStay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	p := positions{}
	at := map[uint64]int{}
	for range 500 {
		var members []table.Member
		for key := range uint64(20) {
			if rnd.IntN(3) > 0 {
				members = append(members, table.Member{NH: table.NextHopID(key + 1), Key: key + 1})
			}
		}
		rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		placed := p.place(7, members)
		now := map[uint64]int{}
		for i, m := range placed {
			if m.NH != 0 {
				now[m.Key] = i
			}
		}
		if len(now) != len(members) || len(placed) > 20 || len(placed) > 0 && placed[len(placed)-1].NH == 0 {
			t.Fatalf("%d members in %d places, last %+v", len(now), len(placed), placed)
		}
		for key, i := range now {
			if was, ok := at[key]; ok && was != i {
				t.Fatalf("member %d moved from %d to %d", key, was, i)
			}
		}
		at = now
		p[7] = keysOf(placed)
	}
}

func TestPositionsAreReadBack(t *testing.T) {
	in := node1()
	ids := NewIDs(nil, start)
	first := Compile(in, ids, nil)
	if got := Recall(&first.State); !reflect.DeepEqual(got.positions, first.Memory.positions) {
		t.Errorf("got %v, want %v", got.positions, first.Memory.positions)
	}
	if got := Compile(in, ids, Recall(&first.State)); !reflect.DeepEqual(got.State, first.State) {
		t.Error("the same input gave other tables")
	}
}

// Inputs in another order, said twice, or after a restart give the same tables.
func TestOrderMeansNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for seed := range 30 {
		in := random(rand.New(rand.NewPCG(uint64(seed), 1)))
		ids := NewIDs(nil, start)
		want := Compile(in, ids, nil)
		shuffle(rnd, in)
		if got := run(in); !reflect.DeepEqual(got.State, want.State) || !reflect.DeepEqual(got.Announce, want.Announce) || !reflect.DeepEqual(got.Outside, want.Outside) {
			t.Fatalf("seed %d: another order gave other tables", seed)
		}
		again := NewIDs(storedIDs(ids), start.Add(time.Hour))
		got := Compile(in, again, Recall(&want.State))
		if !reflect.DeepEqual(got.State, want.State) {
			t.Fatalf("seed %d: other tables after a restart", seed)
		}
		if c := again.TakeChanges(); len(c) != 0 {
			t.Fatalf("seed %d: numbers changed by a restart: %v", seed, c)
		}
	}
}

func storedIDs(x *IDs) (list []record.ID) {
	for name, s := range x.spaces {
		for key, k := range s.byKey {
			list = append(list, record.ID{IDKey: record.IDKey{Space: name, Key: key}, Number: k.n})
		}
	}
	return list
}

func shuffle(rnd *rand.Rand, in *Input) {
	rnd.Shuffle(len(in.Networks), func(i, j int) { in.Networks[i], in.Networks[j] = in.Networks[j], in.Networks[i] })
	rnd.Shuffle(len(in.Blocks), func(i, j int) { in.Blocks[i], in.Blocks[j] = in.Blocks[j], in.Blocks[i] })
	rnd.Shuffle(len(in.Peers), func(i, j int) { in.Peers[i], in.Peers[j] = in.Peers[j], in.Peers[i] })
	rnd.Shuffle(len(in.Routes), func(i, j int) { in.Routes[i], in.Routes[j] = in.Routes[j], in.Routes[i] })
	rnd.Shuffle(len(in.Pods), func(i, j int) { in.Pods[i], in.Pods[j] = in.Pods[j], in.Pods[i] })
	lbs := in.LoadBalancers
	rnd.Shuffle(len(lbs), func(i, j int) { lbs[i], lbs[j] = lbs[j], lbs[i] })
	for _, lb := range lbs {
		rnd.Shuffle(len(lb.Listeners), func(i, j int) { lb.Listeners[i], lb.Listeners[j] = lb.Listeners[j], lb.Listeners[i] })
		for _, l := range lb.Listeners {
			rnd.Shuffle(len(l.Members), func(i, j int) { l.Members[i], l.Members[j] = l.Members[j], l.Members[i] })
		}
	}
}

// The builder of the fast path is the judge: it refuses whatever leads to
// nothing. Going from state to state by deltas ends where a replay ends.
func TestBuilderAcceptsEveryStep(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	ids := NewIDs(nil, start)
	b := table.NewBuilder()
	old, memory := table.State{}, (*Memory)(nil)
	for step := range 300 {
		ids.SetTime(start.Add(time.Duration(step) * 20 * time.Second))
		out := Compile(random(rnd), ids, memory)
		d := Diff(&old, &out.State)
		if rnd.IntN(4) == 0 {
			replay(t, b, &out.State, uint64(step+1))
		} else if err := b.Apply(&d); err != nil {
			t.Fatalf("step %d: delta: %v", step, err)
		}
		got := b.State()
		if diff := Diff(&out.State, &got); !harmless(&diff) {
			t.Fatalf("step %d: the builder holds something else: %+v", step, diff)
		}
		if d := Diff(&out.State, &out.State); !IsEmpty(&d) {
			t.Fatalf("step %d: a state differs from itself: %+v", step, d)
		}
		old, memory = out.State, out.Memory
	}
}

// harmless: next hop 0 is the builder's own.
func harmless(d *table.Delta) bool {
	d.Upsert.NextHops = slices.DeleteFunc(d.Upsert.NextHops, func(n table.NextHop) bool { return n.ID == 0 })
	if len(d.Upsert.NextHops) == 0 {
		d.Upsert.NextHops = nil
	}
	return IsEmpty(d)
}

func replay(t *testing.T, b *table.Builder, s *table.State, epoch uint64) {
	t.Helper()
	b.Begin(epoch)
	for i, d := range Replay(s, 5) {
		if err := b.Apply(&d); err != nil {
			t.Fatalf("replay, delta %d: %v", i, err)
		}
	}
	if err := b.InSync(epoch); err != nil {
		t.Fatal(err)
	}
}

// An identical replay must move no generation: flows stay untouched.
func TestReplayOfTheSameMovesNothing(t *testing.T) {
	out := run(node1())
	b := table.NewBuilder()
	replay(t, b, &out.State, 1)
	before := b.Tables()
	gens := map[table.NextHopID]uint32{}
	for _, n := range out.State.NextHops {
		gens[n.ID] = before.NH(n.ID).Gen
	}
	replay(t, b, &out.State, 2)
	for id, gen := range gens {
		if now := b.Tables().NH(id).Gen; now != gen {
			t.Errorf("next hop %d: generation %d became %d", id, gen, now)
		}
	}
}

// What is remembered only saves work: with and without fragments the tables are
// the same, whatever changes in between.
func TestMemoryChangesNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	ids, twin := NewIDs(nil, start), NewIDs(nil, start)
	in := random(rnd)
	var memory *Memory
	last := table.State{}
	reused := 0
	for step := range 400 {
		fresh := random(rnd)
		switch rnd.IntN(8) {
		case 0:
			kept := slices.DeleteFunc(slices.Clone(in.LoadBalancers), func(lb *LoadBalancer) bool { return rnd.IntN(2) == 0 })
			for _, lb := range fresh.LoadBalancers {
				if !slices.ContainsFunc(kept, func(k *LoadBalancer) bool { return k.UUID == lb.UUID }) {
					kept = append(kept, lb)
				}
			}
			in.LoadBalancers = kept
		case 1:
			in.Pods = fresh.Pods
		case 2:
			in.Peers, in.Underlay, in.Routes = fresh.Peers, fresh.Underlay, fresh.Routes
		case 3:
			in.Host = fresh.Host
		case 4:
			in.Networks = fresh.Networks
		case 5:
			in.Zone, in.NodePorts = fresh.Zone, fresh.NodePorts
		}
		got, want := Compile(in, ids, memory), Compile(in, twin, Recall(&last))
		if !reflect.DeepEqual(got.State, want.State) || !reflect.DeepEqual(got.Announce, want.Announce) || !reflect.DeepEqual(got.Outside, want.Outside) {
			d := Diff(&want.State, &got.State)
			t.Fatalf("step %d: %+v", step, d)
		}
		memory, last = got.Memory, got.State
		reused += len(memory.fragments)
	}
	if reused == 0 {
		t.Error("nothing was ever reused")
	}
}

// scale is a node of the size we design for: 10,000 services, 250,000 endpoints.
func scale() *Input {
	in := node1()
	in.Pods, in.LoadBalancers, in.Routes = nil, nil, nil
	for n := range 250 {
		p := pod(n, "pods", fmt.Sprintf("192.0.%d.%d", n/200, n%200+1))
		p.MAC[4] = byte(n >> 8)
		in.Pods = append(in.Pods, p)
	}
	for n := range 5000 {
		tunnel := netip.AddrFrom4([4]byte{172, 20, byte(n >> 8), byte(n)})
		in.Peers = append(in.Peers, tunnel)
		in.Underlay[tunnel] = Neighbour{DstMAC: table.MAC{2, 2}}
		in.Routes = append(in.Routes, &Route{"pods", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 26), []Path{{fmt.Sprint("n", n), tunnel, 16}}})
	}
	for n := range 10_000 {
		lb := &LoadBalancer{UUID: fmt.Sprintf("00000000-0000-0000-0000-%012d", n), Networks: []string{"pods"}, VIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})}}
		l := Listener{Proto: 6, Port: 80}
		for m := range 25 {
			at := (n*25 + m) % 5000
			l.Members = append(l.Members, Member{
				UUID: fmt.Sprintf("00000000-0000-0000-0001-%06d%06d", n, m), Name: "default/x", VMI: fmt.Sprint("v", n, m), Node: fmt.Sprint("m", at),
				Tunnel: in.Peers[at+1], Label: 20, Address: addr("192.0.2.1"), Port: 80,
			})
		}
		lb.Listeners = []Listener{l}
		in.LoadBalancers = append(in.LoadBalancers, lb)
	}
	return in
}

func BenchmarkCompileAtScale(b *testing.B) {
	in := scale()
	ids := NewIDs(nil, start)
	out := Compile(in, ids, nil)
	for b.Loop() {
		out = Compile(in, ids, out.Memory)
	}
}

func BenchmarkDiffAtScale(b *testing.B) {
	in := scale()
	ids := NewIDs(nil, start)
	out := Compile(in, ids, nil)
	again := Compile(in, ids, out.Memory)
	for b.Loop() {
		if d := Diff(&out.State, &again.State); !IsEmpty(&d) {
			b.Fatal("differs")
		}
	}
}
