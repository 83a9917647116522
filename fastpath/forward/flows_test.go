package forward

import (
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// connect opens a TCP connection from c to the VIP and returns its backend.
func connect(b *bed, sport uint16) string {
	b.t.Helper()
	n1 := b.nodes["n1"]
	n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "S").Bytes())
	b.run()
	for _, p := range pods[1:] {
		n := b.nodes[p.node]
		if len(n.got(p.name)) == 0 {
			continue
		}
		n.send(p.name, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "SA").Bytes())
		b.run()
		n1.one("c")
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "A").Bytes())
		b.run()
		n.one(p.name)
		return p.name
	}
	b.t.Fatal("the SYN reached no backend")
	return ""
}

// TestBackendLeaves: flows of the others stay where they are, a connection of the
// one that left is reset, and a draining one keeps what it has.
func TestBackendLeaves(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		at := map[uint16]string{}
		for i := range uint16(30) {
			at[3000+i] = connect(b, 3000+i)
		}
		var s table.State
		addService(&s, "n1", "b1", "b2")
		s.PortMaps, s.Routes = nil, nil
		n1.apply(table.Delta{Upsert: s})
		resets := 0
		for sport, backend := range at {
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "A").Payload(5).Bytes())
			b.run()
			if backend == "b3" {
				if d := reply(n1.one("c"), build.IPv4(vip, "10.0.0.2").TCP(8888, sport, "R").Bytes()); d != "" {
					t.Error(d)
				}
				resets++
				continue
			}
			if got := len(b.nodes[where(backend).node].got(backend)); got != 1 {
				t.Errorf("port %d: its backend %s received %d packets", sport, backend, got)
			}
		}
		if resets == 0 {
			t.Error("no connection had the backend that left")
		}
		for i := range uint16(30) {
			if connect(b, 4000+i) == "b3" {
				t.Error("a new connection reached the backend that left")
			}
		}
		_ = n2
		b.frames()
	})
}

// TestHairpin: a pod that reaches itself through its VIP sees the VIP as the source.
func TestHairpin(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		seen := false
		for i := range uint16(40) {
			sport := 5000 + i
			n1.send("b1", build.IPv4("10.0.0.3", vip).TCP(sport, 8888, "S").Bytes())
			b.run()
			got := n1.got("b1")
			if len(got) == 0 {
				continue
			}
			seen = true
			if d := build.Diff(got[0], build.IPv4(vip, "10.0.0.3").TTL(63).TCP(sport, 80, "S").Bytes()); d != "" {
				t.Fatal(d)
			}
			n1.send("b1", build.IPv4("10.0.0.3", vip).TCP(80, sport, "SA").Bytes())
			b.run()
			n1.want("b1", build.IPv4(vip, "10.0.0.3").TTL(63).TCP(8888, sport, "SA"))
		}
		if !seen {
			t.Error("no connection chose the pod itself")
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestOnePortTwoRoads: one source port, to a pod and to the VIP that leads to it.
// The replies have one key, so the second flow gets another source port.
func TestOnePortTwoRoads(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		for i := range uint16(40) {
			sport := 6000 + i
			n1.send("c", build.IPv4("10.0.0.2", "10.0.0.3").TCP(sport, 80, "S").Bytes())
			b.run()
			n1.want("b1", build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).TCP(sport, 80, "S"))
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "S").Bytes())
			b.run()
			n2 := b.nodes["n2"]
			n2.got("b2")
			n2.got("b3")
			got := n1.got("b1")
			if len(got) == 0 {
				continue
			}
			other := uint16(got[0][20])<<8 | uint16(got[0][21])
			if other == sport {
				t.Fatal("the two flows look alike to the backend")
			}
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, other, "SA").Bytes())
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, sport, "SA").Bytes())
			b.run()
			back := n1.got("c")
			if len(back) != 2 {
				t.Fatalf("%d replies, want 2%s", len(back), n1.drops())
			}
			for _, r := range back {
				if p := uint16(r[22])<<8 | uint16(r[23]); p != sport {
					t.Errorf("a reply for port %d: %s", p, build.Describe(r))
				}
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestICMPThroughNAT: an error about a translated packet reaches the client as if
// the VIP had sent it, about the packet the client knows.
func TestICMPThroughNAT(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		for i := range uint16(20) {
			sport := 7000 + i
			sent := build.IPv4("10.0.0.2", vip).UDP(sport, 53).Payload(20)
			n1.send("c", sent.Bytes())
			b.run()
			for _, p := range pods[1:] {
				n := b.nodes[p.node]
				for _, got := range n.got(p.name) {
					n.send(p.name, build.IPv4(p.addr, "10.0.0.2").PortUnreachable(got).Bytes())
					b.run()
					err := n1.one("c")
					if d := reply(err, build.IPv4(vip, "10.0.0.2").TTL(err[8]).PortUnreachable(sent.Bytes()).Bytes()); d != "" {
						t.Error(d)
					}
				}
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestFragments: fragments follow their head, through NAT and the tunnel, and what
// is too large without DF is cut.
func TestFragments(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		whole := build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 53).Payload(4000).Bytes()
		for _, f := range build.Fragments(whole, podMTU, 77) {
			n1.send("c", f)
			b.run()
		}
		if got := n2.got("b2"); len(got) != 3 {
			t.Errorf("%d fragments arrived, want 3", len(got))
		}
		n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").ID(5).UDP(1000, 53).Payload(4000).Bytes())
		b.run()
		if got := n2.got("b2"); len(got) != 3 {
			t.Errorf("%d fragments arrived, want 3", len(got))
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestIdleFlowsGo: pairs are forgotten, both entries, when both directions are idle.
func TestIdleFlowsGo(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		for i := range uint16(20) {
			connect(b, 8000+i)
			n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(8000+i, 53).Bytes())
			b.run()
			n2.one("b2")
		}
		if len(n1.flows()) < 80 {
			t.Fatalf("only %d entries", len(n1.flows()))
		}
		b.elapse(200 * time.Second)
		for _, e := range append(n1.flows(), n2.flows()...) {
			if e.Proto == 17 {
				t.Errorf("UDP flow %v is still there", e.Key())
			}
		}
		if got := len(n1.flows()); got < 40 {
			t.Errorf("%d TCP entries are left on n1, want 40 at least", got)
		}
		b.elapse(7500 * time.Second)
		if n := len(n1.flows()) + len(n2.flows()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
		b.frames()
	})
}
