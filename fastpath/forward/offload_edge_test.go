package forward

import (
	"fmt"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// A flow whose packets the kernel leaves to the worker, whyever it does, loses none of
// them, and is not tried for ever.
func TestOffloadLeft(t *testing.T) {
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
		b, n1, _ := offloading(t, admit.Auto, 1)
		b.backends("b1")
		n1.cache.leaves = func(in *packet.Info) bool { return in.Tuple.Dport == 5001 }
		for range 6_000 { // half a second and more, at 10 MB/s
			b.now += 100_000
			p := build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 5001).Payload(1000)
			if proto == packet.ProtoTCP {
				p = build.IPv4("10.0.0.2", "10.0.0.3").TCP(1000, 5001, "A").Payload(1000)
			}
			n1.send("c", p.Bytes())
			b.run()
			n1.one("b1")
			if proto == packet.ProtoTCP {
				n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(5001, 1000, "A").Bytes())
				b.run()
				n1.one("c")
			}
		}
		b.wantDrops("")
		if c := n1.cache.Counts(); c.Put > 20 {
			t.Errorf("protocol %d: %d orders in 0.6 s", proto, c.Put)
		}
		b.frames()
	}
}

// UDP without a checksum is not translated by the kernel, and what a pod sends to the
// port of tunnels is looked at packet by packet: neither is ordered.
func TestOffloadImpossible(t *testing.T) {
	for name, c := range map[string]struct {
		dst   string
		dport uint16
		bare  bool
		want  bool
	}{
		"translated, bare": {vip, 53, true, false},
		"translated":       {vip, 53, false, true},
		"bare":             {"10.0.0.3", 53, true, true},
		"port of tunnels":  {"10.0.0.3", packet.TunnelPort, false, false},
	} {
		b, n1, _ := offloading(t, admit.Force, 1)
		b.backends("b1")
		for range 200 {
			ip := build.IPv4("10.0.0.2", c.dst).UDP(1000, c.dport).Payload(100).Bytes()
			if c.bare {
				ip[26], ip[27] = 0, 0
			}
			n1.send("c", ip)
			b.run()
		}
		if got := n1.cache.Counts().Put > 0; got != c.want {
			t.Errorf("%s: ordered %v, want %v%s", name, got, c.want, n1.drops())
		}
	}
}

// A connection that is over leaves the kernel at once: its ports may be another's in a
// moment, which has another backend.
func TestOffloadOver(t *testing.T) {
	for _, ends := range [][]string{{"FA", "FA"}, {"RA"}} {
		eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
			b.backends("b1")
			connect(b, 3000)
			b.warm(3000, "b1")
			if len(n1.cache.Flows) != 2 {
				t.Fatalf("in the kernel:\n%s", n1.cache)
			}
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 3000, ends[0]).Bytes())
			b.run()
			if len(ends) > 1 {
				n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, ends[1]).Bytes())
				b.run()
			}
			if len(n1.cache.Flows) != 0 {
				t.Errorf("%v: left:\n%s", ends, n1.cache)
			}
			n1.got("c")
			n1.got("b1")
			b.backends("b1", "b2")
			for range 20 { // another connection each time, whichever backend it has
				backend := connect(b, 3000)
				b.talks(3000, backend)
				n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "RA").Bytes())
				b.run()
				b.nodes[where(backend).node].one(backend)
			}
		})
	}
}

// A packet that ends a connection is not one of those that come too late.
func TestOffloadLateEnd(t *testing.T) {
	b, n1, _ := offloading(t, admit.Auto, 1)
	b.backends("b1")
	connect(b, 3000)
	b.talks(3000, "b1")
	var way [][]byte // between kernel and worker: never empty
	turn := func() {
		n1.cache.Orders()
		n1.workers[0].Turn(b.now)
		for _, f := range n1.links[0].Sent() {
			b.arrive(n1, f)
		}
	}
	for n := 0; n < 200_000 && n1.workers[0].count.drops[reason.HandOver] == 0; n++ {
		b.now += 10_000
		f := build.Eth(build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "A").Payload(1000).Bytes(), macOf(n1.vifs["c"]), [6]byte{2, 0, 0, 0, 0, 1})
		if !n1.cache.forwards(n1, f, packet.EthernetLen) {
			way = append(way, f)
		}
		if len(way) > 2 || n1.cache.forwarded > 0 && len(way) > 0 {
			n1.links[0].Inject(way[0])
			way = way[1:]
		}
		turn()
	}
	n1.got("b1")
	n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "FA").Bytes())
	turn()
	if got := n1.got("b1"); n1.workers[0].count.drops[reason.HandOver] == 0 || len(got) != 1 {
		t.Errorf("%d packets arrived, want the last%s", len(got), n1.drops())
	}
}

// Interfaces count what the kernel forwards as what workers forward, to the byte.
func TestOffloadVifCounters(t *testing.T) {
	count := func(mode admit.Mode) string {
		b := newBed(t)
		b.offload = mode
		b, n1, n2 := b.twoNodes(2)
		kernel := 0
		for sport, backend := range map[uint16]string{3000: "b1", 3001: "b2"} {
			b.backends(backend)
			connect(b, sport)
			for range 30 {
				b.talks(sport, backend)
			}
			p := where(backend)
			n := b.nodes[p.node]
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "RA").Bytes())
			b.run()
			n.one(backend)
		}
		b.elapse(10 * time.Second)
		out := ""
		for _, n := range []*node{n1, n2} {
			if n.cache != nil {
				kernel += n.cache.forwarded
			}
			for _, name := range []string{"c", "b1", "b2", "eth0"} {
				id, ok := n.vifs[name]
				if !ok {
					continue
				}
				var sum VifCounters
				for _, w := range n.workers {
					c := w.VifCounters(id)
					sum.RxPackets, sum.RxBytes, sum.TxPackets, sum.TxBytes = sum.RxPackets+c.RxPackets, sum.RxBytes+c.RxBytes, sum.TxPackets+c.TxPackets, sum.TxBytes+c.TxBytes
				}
				out += fmt.Sprintf("%s %s rx %d/%d tx %d/%d\n", n.name, name, sum.RxPackets, sum.RxBytes, sum.TxPackets, sum.TxBytes)
			}
		}
		if mode == admit.Force && kernel < 100 {
			t.Errorf("the kernel forwarded %d packets", kernel)
		}
		return out
	}
	if with, without := count(admit.Force), count(admit.Off); with != without {
		t.Errorf("with the kernel:\n%swithout:\n%s", with, without)
	}
}

// A successor that finds less in the kernel than its predecessor had put there says of
// no flow that the kernel forwards it.
func TestOffloadReadoptLess(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		b.backends("b1")
		connect(b, 3000)
		connect(b, 3001)
		b.warm(3000, "b1")
		b.warm(3001, "b1")
		for k := range n1.cache.Flows {
			if k.Sport == 3001 || k.Dport == 3001 {
				delete(n1.cache.Flows, k)
			}
		}
		n1.restart()
		for _, e := range n1.flows() {
			if is, want := e.Flags&flow.FlagOffloaded != 0, e.Sport == 3000 || e.Dport == 3000; is != want {
				t.Errorf("%v: offloaded %v", e.Key(), is)
			}
		}
	})
}
