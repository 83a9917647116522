package forward

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// splitPort is a source port from which the flow c > VIP of one listener, translated
// to b1, has its entries at two workers: the forward one at from.
func (n *node) splitPort(from int, proto uint8, dport, target uint16) uint16 {
	w := n.workers[0]
	for port := uint16(1024); ; port++ {
		there := packet.Tuple{Src: addr("10.0.0.2"), Dst: addr(vip), Sport: port, Dport: dport, Proto: proto}
		back := packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.0.0.3"), Sport: port, Dport: target, Proto: proto}
		if w.owner(&there) == from && w.owner(&back) != from {
			return port
		}
	}
}

// clog fills the ring, for one turn of its reader.
func (n *node) clog(from, to int) {
	for n.shared.rings[from][to].Push(message{kind: msgDelete, index: flow.Index(to, 0), peer: flow.NoReverse - 1}) {
	}
}

// TestLostMessages: whatever a full ring swallows, packets are dropped by name and
// the next ones, or those a few seconds later, pass.
func TestLostMessages(t *testing.T) {
	for _, c := range []struct {
		name  string
		lose  func(b *bed, n1 *node, request []byte)
		drops string
		heals time.Duration
	}{
		{"install", func(b *bed, n1 *node, request []byte) {
			n1.clog(0, 1)
			n1.next = 0
			n1.send("c", request)
		}, " n1.handoff-ring-full=1", 0},
		{"installed", func(b *bed, n1 *node, request []byte) {
			n1.next = 0
			n1.send("c", request)
			n1.workers[0].Turn(b.now)
			n1.clog(1, 0)
			n1.workers[1].Turn(b.now)
		}, " n1.handoff-ring-full=1", 0},
		{"delete of the reverse entry", func(b *bed, n1 *node, request []byte) {
			n1.send("c", request)
			b.run()
			n1.one("b1")
			n1.clog(1, 0)
			n1.evict(1)
		}, "", 11 * time.Second},
		{"delete of the forward entry", func(b *bed, n1 *node, request []byte) {
			n1.send("c", request)
			b.run()
			n1.one("b1")
			n1.clog(0, 1)
			n1.evict(0)
		}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			b.backends("b1")
			port := n1.splitPort(0, packet.ProtoUDP, 53, 5353)
			request := build.IPv4("10.0.0.2", vip).UDP(port, 53)
			c.lose(b, n1, request.Bytes())
			b.run()
			n1.got("b1")
			b.wantDrops(c.drops)
			for range c.heals / time.Second {
				n1.send("c", request.Bytes())
				b.elapse(time.Second)
			}
			n1.got("b1")
			n1.got("c")
			pass(b, n1, "c", n1, "b1", false, request, build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).UDP(port, 5353))
			pass(b, n1, "b1", n1, "c", false, build.IPv4("10.0.0.3", "10.0.0.2").UDP(5353, port), build.IPv4(vip, "10.0.0.2").TTL(63).UDP(53, port))
			b.frames()
		})
	}
}

// evict removes all entries of one worker, as if others had needed their places.
func (n *node) evict(worker int) {
	w := n.workers[worker]
	w.flows.Scan(w.flows.Slots(), func(slot uint32, e *flow.Entry) { w.removePair(slot, e) })
}

// TestLostTCPState: the worker of one direction does not hear how the connection ended.
// Both entries go soon all the same.
func TestLostTCPState(t *testing.T) {
	for name, end := range map[string]func(n1 *node, port uint16){
		"reset by the server": func(n1 *node, port uint16) {
			n1.next = 1
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, port, "R").Bytes())
			n1.clog(1, 0)
			n1.workers[1].Turn(n1.bed.now)
		},
		"reset by the client": func(n1 *node, port uint16) {
			n1.next = 0
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(port, 8888, "R").Bytes())
			n1.clog(0, 1)
			n1.workers[0].Turn(n1.bed.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			b.backends("b1")
			port := n1.splitPort(0, packet.ProtoTCP, 8888, 80)
			connect(b, port)
			if got := len(n1.flows()); got != 2 {
				t.Fatalf("%d entries, want 2", got)
			}
			end(n1, port)
			if n1.workers[0].count.Lost+n1.workers[1].count.Lost != 1 {
				t.Fatal("no message was lost")
			}
			b.elapse(30 * time.Second)
			if got := printFlows(n1); len(got) != 0 {
				t.Errorf("still there: %v", got)
			}
			b.frames()
		})
	}
}

// TestManyConnections: an interface at its quota opens new connections in the place of
// those that are over, not of those that are not.
func TestManyConnections(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		n1.shared.opts.MaxVifFlows = 1000
		open := func(port uint16) int {
			n1.send("c", build.IPv4("10.0.0.2", "10.0.0.3").TCP(port, 7, "S").Bytes())
			b.run()
			return len(n1.got("b1"))
		}
		opened := 0
		for port := range uint16(4000) {
			if opened += open(10000 + port); port >= 500 {
				n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(7, 10000+port, "R").Bytes())
			}
		}
		b.run()
		if opened < 3900 { // all, but for keys near which none is over
			t.Errorf("%d of 4000 connections were opened", opened)
		}
		for _, w := range n1.workers {
			if got := *w.quota.Of(nhPods, false); got > 1000 {
				t.Errorf("a worker holds %d flows of c", got)
			}
		}
	})
}

// TestDraining: a new connection from the port of one that is over does not go to the
// draining backend that had it.
func TestDraining(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.backends("b2")
		connect(b, 1000)
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(1000, 8888, "R").Bytes())
		b.run()
		n2.one("b2")
		b.backends("b1", "b2-")
		if name := connect(b, 1000); name != "b1" {
			t.Errorf("it went to %s", name)
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestTupleUsedAgain: a connection from a port whose last one was closed, or reset, is
// a new one, on both sides of a split pair.
func TestTupleUsedAgain(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		for _, end := range []string{"R", "FA"} {
			b, n1, _ := twoNodes(t, workers)
			b.backends("b1")
			for port := range uint16(16) {
				port += 1000
				connect(b, port)
				n1.send("c", build.IPv4("10.0.0.2", vip).TCP(port, 8888, end).Bytes())
				n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, port, end).Bytes())
				b.run()
				n1.got("b1")
				n1.got("c")
				connect(b, port)
				n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, port, "A").Bytes())
				b.run()
				n1.one("c")
			}
			for _, e := range n1.flows() {
				if e.TCP.String() != "SSrEEr" {
					t.Errorf("after %s: %v is %s", end, e.Key().Tuple, e.TCP)
				}
			}
			if got := len(n1.flows()); got != 32 {
				t.Errorf("%d entries, want 32", got)
			}
			b.wantDrops("")
		}
	})
}

// TestTablesChangeOnTheWay: what was decided for a packet, or about it, is no longer so
// when the worker it was handed to looks at it.
func TestTablesChangeOnTheWay(t *testing.T) {
	withoutB1 := table.Removal{Vifs: []table.VifID{11}, NextHops: []table.NextHopID{nhPods + 1}, Labels: []table.Label{labelPods + 1},
		Routes: []table.RouteKey{{VRF: vrf, Prefix: netip.MustParsePrefix("10.0.0.3/32")}, {VRF: vrf, Prefix: netip.MustParsePrefix("2001:db8::3/128")}}}
	for _, c := range []struct {
		name   string
		port   func(n1 *node) uint16
		change func(b *bed, n1 *node)
		drops  string
	}{
		{"the sender is gone", func(n1 *node) uint16 { return n1.splitPort(1, packet.ProtoUDP, 53, 5353) }, func(b *bed, n1 *node) {
			d := table.Delta{Remove: table.Removal{Vifs: []table.VifID{10}, NextHops: []table.NextHopID{nhPods}, Labels: []table.Label{labelPods},
				Routes: []table.RouteKey{{VRF: vrf, Prefix: netip.MustParsePrefix("10.0.0.2/32")}, {VRF: vrf, Prefix: netip.MustParsePrefix("2001:db8::2/128")}}}}
			n1.apply(d)
		}, " n1.unknown-vif=1"},
		{"the backend is gone, the packet undecided", func(n1 *node) uint16 { return n1.splitPort(1, packet.ProtoUDP, 53, 5353) }, func(b *bed, n1 *node) {
			b.backends()
			n1.apply(table.Delta{Remove: withoutB1})
		}, " n1.no-backend=1"},
		{"the backend is gone, the packet decided", func(n1 *node) uint16 { return n1.splitPort(0, packet.ProtoUDP, 53, 5353) }, func(b *bed, n1 *node) {
			b.backends()
			n1.apply(table.Delta{Remove: withoutB1})
		}, " n1.no-route=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			b.backends("b1")
			n1.next = 0
			n1.send("c", build.IPv4("10.0.0.2", vip).UDP(c.port(n1), 53).Bytes())
			n1.workers[0].Turn(b.now)
			c.change(b, n1)
			b.run()
			b.wantDrops(c.drops)
			b.elapse(6 * time.Second)
			if got := n1.flows(); len(got) != 0 {
				t.Errorf("%d entries are left", len(got))
			}
			b.frames()
		})
	}
}
