package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/engine/offloader"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// offloading builds two nodes whose kernels forward.
func offloading(t *testing.T, mode admit.Mode, workers int) (b *bed, n1, n2 *node) {
	b = newBed(t)
	b.offload = mode
	return b.twoNodes(workers)
}

func tupleOf(t *testing.T, ip []byte) packet.Tuple {
	t.Helper()
	var in packet.Info
	if fault := packet.ParseIP(ip, 0, len(ip), &in); fault != packet.FaultNone {
		t.Fatal(fault)
	}
	return in.Tuple
}

func eachForced(t *testing.T, f func(t *testing.T, b *bed, n1, n2 *node)) {
	for _, workers := range []int{1, 2, 3} {
		t.Run(string('0'+rune(workers)), func(t *testing.T) {
			b, n1, n2 := offloading(t, admit.Force, workers)
			f(t, b, n1, n2)
			b.frames()
		})
	}
}

// entry is the flow entry of packets from one address and port to another.
func (n *node) entry(src string, sport uint16, dst string, dport uint16) *flow.Record {
	for _, e := range n.flows() {
		if e.Src == addr(src) && e.Dst == addr(dst) && e.Sport == sport && e.Dport == dport {
			return &e
		}
	}
	n.bed.t.Fatalf("%s has no flow %s:%d > %s:%d", n.name, src, sport, dst, dport)
	return nil
}

// kernel counts what the node's kernel forwards while f runs.
func (n *node) kernel(f func()) int {
	was := n.cache.forwarded
	f()
	return n.cache.forwarded - was
}

// warm has a connection through the VIP given to the kernels, both ways.
func (b *bed) warm(sport uint16, backend string) {
	b.t.Helper()
	for range 6 {
		b.talks(sport, backend)
	}
}

// An established connection through a service is the kernel's, both ways, on both
// nodes, and becomes the same packets; the counters say so, and its end is seen.
func TestOffloadService(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, n2 *node) {
		for _, backend := range []string{"b1", "b2"} {
			b.backends(backend)
			sport := uint16(3000)
			connect(b, sport)
			b.warm(sport, backend)
			far := n1
			if backend == "b2" {
				far = n2
			}
			b.elapse(time.Second)
			before := n1.entry("10.0.0.2", sport, vip, 8888).Packets
			if got := n1.kernel(func() { b.talks(sport, backend); b.talks(sport, backend) }); got != 4 {
				t.Errorf("%s: n1's kernel forwarded %d of 4 packets\n%s", backend, got, n1.cache)
			}
			if got := far.kernel(func() { b.talks(sport, backend) }); got != 2 {
				t.Errorf("%s: the far kernel forwarded %d of 2 packets\n%s", backend, got, far.cache)
			}
			b.elapse(time.Second)
			e := n1.entry("10.0.0.2", sport, vip, 8888)
			if e.Flags&flow.FlagOffloaded == 0 || e.Packets != before+3 || e.Bytes == 0 {
				t.Errorf("%s: flags %b, %d packets, want %d", backend, e.Flags, e.Packets, before+3)
			}
			p := where(backend)
			for range 2 {
				n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "FA").Bytes())
				far.send(backend, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "FA").Bytes())
				b.run()
			}
			n1.got("c")
			far.got(backend)
			b.elapse(20 * time.Second)
			if len(n1.cache.Flows)+len(n2.cache.Flows) != 0 || len(n1.flows()) != 0 {
				t.Errorf("%s: left when it is over:\n%s%s", backend, n1.cache, n2.cache)
			}
		}
		b.wantDrops("")
	})
}

// What the kernel forwards keeps a flow alive; without packets it goes, from the kernel too.
func TestOffloadAges(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		send := func() {
			pass(b, n1, "c", n1, "b1", false, build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Payload(9), build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).UDP(1, 2).Payload(9))
			pass(b, n1, "b1", n1, "c", false, build.IPv4("10.0.0.3", "10.0.0.2").UDP(2, 1).Payload(9), build.IPv4("10.0.0.3", "10.0.0.2").TTL(63).UDP(2, 1).Payload(9))
		}
		for range 200 { // a forward entry whose answers another worker sees counts as established late
			send()
		}
		for range 4 {
			b.elapse(100 * time.Second)
			if got := n1.kernel(send); got != 2 {
				t.Fatalf("the kernel forwarded %d of 2 packets, flows:\n%s", got, n1.cache)
			}
		}
		b.elapse(400 * time.Second)
		if len(n1.flows()) != 0 || len(n1.cache.Flows) != 0 {
			t.Errorf("%d entries, in the kernel:\n%s", len(n1.flows()), n1.cache)
		}
	})
}

// When the network changes, the kernel forwards nothing by the old ways: not even
// before workers know the new ones. Then flows go back to it.
func TestOffloadGenerations(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, n2 *node) {
		b.backends("b1", "b2")
		backend := connect(b, 3000)
		b.warm(3000, backend)
		b.backends("b1", "b2", "b3") // the flow keeps its backend
		if got := n1.kernel(func() { b.talks(3000, backend) }); got > 1 {
			t.Errorf("the kernel forwarded %d packets under the old generation", got)
		}
		b.warm(3000, backend)
		if got := n1.kernel(func() { b.talks(3000, backend) }); got != 2 {
			t.Errorf("the kernel forwarded %d of 2 packets after the change\n%s", got, n1.cache)
		}
		other := map[string]string{"b1": "b2", "b2": "b1"}[backend]
		b.backends(other) // the backend is gone: the client hears it
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "A").Bytes())
		b.run()
		if got := n1.got("c"); len(got) != 1 {
			t.Errorf("the client received %d packets, want a reset", len(got))
		}
		b.elapse(10 * time.Second)
		b.wantDrops(" n1.backend-removed=1")
	})
}

// The kernel stops before workers see the change: what it learns comes first.
func TestOffloadBeforePublish(t *testing.T) {
	b, n1, _ := offloading(t, admit.Force, 1)
	b.backends("b1")
	connect(b, 3000)
	b.warm(3000, "b1")
	d := n1.members("n1", 0, nil)
	if err := n1.builder.Apply(&d); err != nil {
		t.Fatal(err)
	}
	n1.cache.learn(n1.builder.Tables())
	if got := n1.kernel(func() { b.talks(3000, "b1") }); got > 1 { // the reply's way is as it was
		t.Errorf("the kernel forwarded %d packets", got)
	}
	n1.shared.Publish(n1.builder.Tables())
	n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "A").Bytes())
	b.run()
	b.wantDrops(" n1.no-backend=1")
}

// A pod that goes takes its flows out of the kernel, and a label that is another
// pod's now brings nothing to the old one.
func TestOffloadPodGoes(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, n2 *node) {
		b.backends("b2")
		connect(b, 3000)
		b.warm(3000, "b2")
		n2.apply(table.Delta{Upsert: table.State{Labels: []table.LabelEntry{{Label: labelPods + 2, NH: nhPods + 3}}}})
		for k := range n2.cache.Flows {
			if k.From == offload.FromLabel|labelPods+2 {
				t.Errorf("still in the kernel: %v", k)
			}
		}
		n2.apply(table.Delta{Upsert: table.State{Labels: []table.LabelEntry{{Label: labelPods + 2, NH: nhPods + 2}}}})
		b.elapse(6 * time.Second) // what was taken out rests
		b.warm(3000, "b2")
		if got := n2.kernel(func() { b.talks(3000, "b2") }); got != 2 {
			t.Errorf("the kernel forwarded %d of 2 packets\n%s", got, n2.cache)
		}
		b.backends()
		n2.apply(table.Delta{Remove: table.Removal{Vifs: []table.VifID{12}, NextHops: []table.NextHopID{nhPods + 2}, Labels: []table.Label{labelPods + 2},
			Routes: []table.RouteKey{{VRF: vrf, Prefix: netip.MustParsePrefix("10.0.1.2/32")}, {VRF: vrf, Prefix: netip.MustParsePrefix("2001:db8:1::2/128")}}}})
		n2.shared.Sweep()
		b.run()
		if len(n2.cache.Flows) != 0 {
			t.Errorf("left of the pod:\n%s", n2.cache)
		}
	})
}

// A cache that is full or refuses leaves flows where they are, and is asked again when
// there is room.
func TestOffloadFull(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		b.backends("b1")
		n1.cache.Size = 2
		for sport := uint16(3000); sport < 3004; sport++ {
			connect(b, sport)
			b.warm(sport, "b1")
		}
		c := n1.cache.Counts()
		if len(n1.cache.Flows) != 2 || c.Entries != 2 {
			t.Errorf("%+v:\n%s", c, n1.cache)
		}
		n1.cache.Size = 64
		b.elapse(6 * time.Second) // who was refused rests
		for sport := uint16(3000); sport < 3004; sport++ {
			b.warm(sport, "b1")
		}
		if len(n1.cache.Flows) != 8 {
			t.Errorf("with room again:\n%s", n1.cache)
		}
		n1.cache.Refuse = errors.New("operation not permitted")
		connect(b, 3010)
		b.warm(3010, "b1")
		if c := n1.cache.Counts(); c.Refused == 0 || len(n1.cache.Limits()) != 1 || len(n1.cache.Flows) != 8 {
			t.Errorf("%+v, limits %q", c, n1.cache.Limits())
		}
	})
}

// Entries that are gone from the kernel are put there again; those that are there for
// no flow of ours go.
func TestOffloadVanished(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		b.backends("b1")
		connect(b, 3000)
		b.warm(3000, "b1")
		clear(n1.cache.Flows)
		stray := offload.Flow{Key: offload.Key{From: 10, Tuple: packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.0.0.3"), Proto: packet.ProtoUDP}}, NH: nhPods + 1}
		if err := n1.cache.Put(&stray); err != nil {
			t.Fatal(err)
		}
		b.elapse(time.Second)
		if c := n1.cache.Counts(); c.Vanished != 2 || len(n1.cache.Flows) != 0 {
			t.Errorf("%+v:\n%s", c, n1.cache)
		}
		b.elapse(6 * time.Second)
		b.warm(3000, "b1")
		if got := n1.kernel(func() { b.talks(3000, "b1") }); got != 2 {
			t.Errorf("the kernel forwarded %d of 2 packets\n%s", got, n1.cache)
		}
	})
}

// Nothing overtakes what is under way: while the workers hold a packet of the flow
// that the kernel sent up, it sends up the next as well.
func TestOffloadHandOver(t *testing.T) {
	b, n1, _ := offloading(t, admit.Force, 1)
	packetOf := func(n byte) []byte {
		return build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Payload(int(n)).Bytes()
	}
	answer := build.IPv4("10.0.0.3", "10.0.0.2").UDP(2, 1).Bytes()
	n1.send("c", packetOf(1))
	b.run()
	n1.send("b1", answer)
	b.run()
	want := 1
	for round := range 40 {
		for range 1 + round%3 { // several are under way at once
			want++
			n1.send("c", packetOf(byte(want)))
			n1.cache.Orders() // at any moment
		}
		b.run()
		if round%5 == 0 {
			n1.send("b1", answer)
			b.run()
		}
	}
	got := n1.got("b1")
	if len(got) != want {
		t.Fatalf("%d of %d packets arrived", len(got), want)
	}
	for i, p := range got {
		if len(p) != len(packetOf(byte(i+1))) {
			t.Fatalf("packet %d is not the one that was sent then", i)
		}
	}
	if n1.cache.forwarded < 30 {
		t.Errorf("the kernel forwarded %d packets", n1.cache.forwarded)
	}
}

// A flow that never rests is given over all the same, after a while; what workers
// still hold of it is dropped rather than late.
func TestOffloadNeverRests(t *testing.T) {
	b, n1, _ := offloading(t, admit.Auto, 1)
	var way [][]byte // between kernel and worker: never empty
	sent, forced := 0, 0
	for n := 0; n < 20_000 && n1.cache.forwarded < 100; n++ {
		b.now += 10_000
		sent++
		ip := build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Payload(n % 1000).Bytes()
		f := build.Eth(ip, macOf(n1.vifs["c"]), [6]byte{2, 0, 0, 0, 0, 1})
		if !n1.cache.forwards(n1, f, packet.EthernetLen) {
			way = append(way, f)
		}
		if len(way) > 2 || n1.cache.forwarded > 0 && len(way) > 0 {
			n1.links[0].Inject(way[0])
			way = way[1:]
		}
		if n1.cache.forwarded == 0 {
			forced = n
		}
		n1.cache.Orders()
		n1.workers[0].Turn(b.now)
		for _, f := range n1.links[0].Sent() {
			b.arrive(n1, f)
		}
	}
	if n1.cache.forwarded < 100 {
		t.Fatalf("the kernel forwarded %d packets", n1.cache.forwarded)
	}
	got := n1.got("b1")
	for i := 1; i < len(got); i++ {
		if a, b := len(got[i-1]), len(got[i]); a >= b && a-b < 900 {
			t.Fatalf("packet %d of %d overtook others: %d after %d bytes; given over at %d", i, len(got), b, a, forced)
		}
	}
	if lost := sent - len(got); lost == 0 || lost > 10 {
		t.Errorf("%d packets were lost%s", lost, n1.drops())
	}
	b.wantDrops(fmt.Sprintf(" n1.offload-hand-over=%d", sent-len(got)))
}

// Many such flows are given over at the same time: none waits for what is late of the others.
func TestOffloadManyNeverRest(t *testing.T) {
	b, n1, _ := offloading(t, admit.Auto, 1)
	const flows = 60
	var way [][]byte // between kernel and worker: a packet of each flow
	began, sent := b.now, 0
	for (len(n1.cache.Flows) < flows || n1.cache.forwarded < 20*flows) && b.now-began < uint64(time.Second) {
		b.now += 2_000
		ip := build.IPv4("10.0.0.2", "10.0.0.3").UDP(uint16(1000+sent%flows), 2).Payload(sent / flows % 1000).Bytes()
		sent++
		f := build.Eth(ip, macOf(n1.vifs["c"]), [6]byte{2, 0, 0, 0, 0, 1})
		if !n1.cache.forwards(n1, f, packet.EthernetLen) {
			way = append(way, f)
		}
		if len(way) > flows {
			n1.links[0].Inject(way[0])
			way = way[1:]
		}
		n1.cache.Orders()
		n1.workers[0].Turn(b.now)
		for _, f := range n1.links[0].Sent() {
			b.arrive(n1, f)
		}
	}
	if len(n1.cache.Flows) != flows {
		t.Errorf("after %v, %d of %d flows are in the kernel, which forwarded %d packets", time.Duration(b.now-began), len(n1.cache.Flows), flows, n1.cache.forwarded)
	}
	last := map[uint16]int{}
	for _, ip := range n1.got("b1") {
		in := tupleOf(t, ip)
		if n, before := len(ip), last[in.Sport]; n <= before && before-n < 900 {
			t.Fatalf("flow %d: %d after %d bytes", in.Sport, n, before)
		}
		last[in.Sport] = len(ip)
	}
}

// Auto: what goes on goes to the kernel, both ways, on whichever workers; slow flows stay.
func TestOffloadAuto(t *testing.T) {
	for _, workers := range []int{1, 2, 3} {
		b, n1, _ := offloading(t, admit.Auto, workers)
		b.backends("b1")
		connect(b, 3000)
		connect(b, 3001)
		for i := range 800 {
			b.now += 1_000_000 // ns
			pass(b, n1, "c", n1, "b1", false, build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "A").Payload(1300), build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).TCP(3000, 80, "A").Payload(1300))
			if i%20 == 0 {
				b.talks(3001, "b1")
			}
			if i%2 == 0 {
				pass(b, n1, "b1", n1, "c", false, build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 3000, "A"), build.IPv4(vip, "10.0.0.2").TTL(63).TCP(8888, 3000, "A"))
			}
		}
		for _, c := range []struct {
			sport uint16
			want  bool
		}{{3000, true}, {3001, false}} {
			there := n1.entry("10.0.0.2", c.sport, vip, 8888).Flags&flow.FlagOffloaded != 0
			back := n1.entry("10.0.0.3", 80, "10.0.0.2", c.sport).Flags&flow.FlagOffloaded != 0
			if there != c.want || back != c.want {
				t.Errorf("%d workers: flow from port %d: there %v, back %v, want %v", workers, c.sport, there, back, c.want)
			}
		}
		b.frames()
	}
}

// restart replaces the node's workers and offloader by new ones on the same flow memory
// and kernel. All generations differ then.
func (n *node) restart() {
	c := n.cache
	for i := range n.workers {
		n.succeed(i)
	}
	for _, r := range c.Flows {
		r.Gen -= 1000
	}
	for id := range c.Generations {
		c.Generations[id] -= 1000
	}
	flows := c.Config.Flows
	c.Offloader = offloader.New(c.Config)
	c.Config.Flows = flows
	c.Begin(n.builder.Tables())
}

// A successor takes over flows and kernel entries; the kernel forwards meanwhile.
func TestOffloadReadopt(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		b.backends("b1")
		connect(b, 3000)
		b.warm(3000, "b1")
		b.elapse(time.Second)
		before := n1.entry("10.0.0.2", 3000, vip, 8888).Packets
		if got := n1.kernel(func() { b.talks(3000, "b1") }); got != 2 {
			t.Fatalf("the kernel forwarded %d of 2 packets", got)
		}
		n1.restart()
		if c := n1.cache.Counts(); c.Adopted != 2 || c.Entries != 2 {
			t.Errorf("%+v", c)
		}
		b.talks(3000, "b1")
		b.elapse(time.Second)
		if e := n1.entry("10.0.0.2", 3000, vip, 8888); e.Packets != before+2 {
			t.Errorf("%d packets, want %d", e.Packets, before+2)
		}
		b.warm(3000, "b1")
		if got := n1.kernel(func() { b.talks(3000, "b1") }); got != 2 {
			t.Errorf("the successor's kernel forwarded %d of 2 packets\n%s", got, n1.cache)
		}
		b.wantDrops("")
	})
}
