package forward

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// affinity gives the service's composites an affinity of so many seconds.
func (b *bed) affinity(seconds uint32) {
	b.t.Helper()
	for _, n := range b.nodes {
		var up table.State
		for _, nh := range n.builder.State().NextHops {
			if nh.ID == nhTCP || nh.ID == nhUDP {
				nh.Affinity = seconds
				up.NextHops = append(up.NextHops, nh)
			}
		}
		n.apply(table.Delta{Upsert: up})
	}
}

// server sends one packet to the VIP's TCP port and says which backend received it.
func (b *bed) server(src string, sport, dport uint16, flags string) string {
	b.t.Helper()
	vif := "host"
	if src == "10.0.0.2" {
		vif = "c"
	}
	b.nodes["n1"].send(vif, build.IPv4(src, vip).TCP(sport, dport, flags).Bytes())
	b.run()
	for _, p := range pods[1:] {
		if got := b.nodes[p.node].got(p.name); len(got) == 1 {
			return p.name
		}
	}
	b.t.Fatalf("nobody received it%s%s", b.nodes["n1"].drops(), b.nodes["n2"].drops())
	return ""
}

// neighbour is an address that speaks through n1's host.
func neighbour(n int) string { return netip.AddrFrom4([4]byte{10, 0, 0, byte(20 + n)}).String() }

// TestAffinity: a client's connections go to one backend, whichever worker decides,
// until none has begun for the time; clients spread over the backends; the choice
// after that may be another.
func TestAffinity(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.affinity(60)
		sport := uint16(1000)
		is := func(src string) string {
			sport++
			return b.server(src, sport, 8888, "S")
		}
		first := map[string]string{}
		share := map[string]int{}
		for n := range 60 {
			first[neighbour(n)] = is(neighbour(n))
			share[first[neighbour(n)]]++
		}
		if len(share) != 3 || share["b1"] < 10 || share["b2"] < 10 || share["b3"] < 10 {
			t.Errorf("clients are spread %v", share)
		}
		for range 4 { // each new connection makes it last
			b.now += uint64(40 * time.Second)
			for src, want := range first {
				if got := is(src); got != want {
					t.Fatalf("%s goes to %s, its last connection went to %s", src, got, want)
				}
			}
		}
		b.now += uint64(61 * time.Second)
		others := 0
		for src, before := range first {
			if first[src] = is(src); first[src] != before {
				others++
			}
		}
		if others < 20 || others > 55 {
			t.Errorf("after the time %d of 60 clients go elsewhere", others)
		}
		for src, want := range first {
			if got := is(src); got != want {
				t.Errorf("%s goes to %s, its last connection went to %s", src, got, want)
			}
		}
		if got := n1.drops(); got != "" {
			t.Errorf("drops:%s", got)
		}
		b.frames()
	})
}

// TestAffinityToWhoGoes: a backend that drains or goes keeps no client; one that comes
// takes none.
func TestAffinityToWhoGoes(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, _, _ := twoNodes(t, workers)
		b.affinity(60)
		sport := uint16(1000)
		all := func() map[string]string {
			at := map[string]string{}
			for n := range 30 {
				sport++
				at[neighbour(n)] = b.server(neighbour(n), sport, 8888, "S")
			}
			return at
		}
		members := func(names ...string) { b.backends(names...); b.affinity(60) }
		members("b1", "b2")
		before := all()
		members("b1", "b2", "b3")
		if now := all(); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("a new backend took clients: %v, before %v", now, before)
		}
		members("b1", "b2-", "b3")
		for src, at := range all() {
			if at == "b2" || before[src] != "b2" && at != before[src] {
				t.Errorf("while b2 drains %s moves from %s to %s", src, before[src], at)
			}
		}
		members("b1", "b3")
		for src, at := range all() {
			if before[src] == "b1" && at != "b1" {
				t.Errorf("%s moves from b1 to %s", src, at)
			}
		}
		b.wantDrops("")
	})
}

// TestAffinityMidstream: a connection whose entry is gone goes on with its backend, also
// when the client's time is over and when the backend drains; also with a table of
// clients that has forgotten it, as its first choice needs no memory.
func TestAffinityMidstream(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.affinity(60)
		at := map[string]string{}
		for n := range 20 {
			at[neighbour(n)] = b.server(neighbour(n), 3000, 8888, "S")
		}
		lost := func(what string) {
			t.Helper()
			n1.forgetAll()
			for src, want := range at {
				if got := b.server(src, 3000, 8888, "A"); got != want {
					t.Errorf("%s: %s goes on to %s, was at %s", what, src, got, want)
				}
			}
		}
		lost("at once")
		b.now += uint64(300 * time.Second)
		lost("time is over")
		for _, w := range n1.workers {
			w.view.Clients = affinity.New()
		}
		lost("nothing is remembered")
		b.backends("b1-", "b2", "b3")
		b.affinity(60)
		lost("draining")
		b.wantDrops("")
	})
}

// forgetAll removes all entries of all workers.
func (n *node) forgetAll() {
	for i := range n.workers {
		n.evict(i)
	}
	n.bed.run()
}

// TestAffinityOfEach: clients are those of one composite; what a trace asks changes
// nothing; a flow that goes on does not make it last.
func TestAffinityOfEach(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	b.affinity(60)
	at := b.server("10.0.0.2", 1000, 8888, "S")
	tag := affinity.Tag(addr("10.0.0.2"), nhTCP)
	member, seen, ok := n1.workers[0].view.Clients.Find(tag)
	if !ok || member != uint64(where(at).n)+1000 || seen != b.now {
		t.Errorf("%s is remembered as %d, %v", at, member, ok)
	}
	if _, _, ok := n1.workers[0].view.Clients.Find(affinity.Tag(addr("10.0.0.2"), nhUDP)); ok {
		t.Error("the other composite has a client")
	}
	b.now += uint64(30 * time.Second)
	b.server("10.0.0.2", 1000, 8888, "A")
	n1.shared.Trace(build.Eth(build.IPv4("10.0.0.2", vip).TCP(1001, 8888, "S").Bytes(), vifMAC6(10), mac))
	if _, again, _ := n1.workers[0].view.Clients.Find(tag); again != seen {
		t.Error("the time moved without a new flow")
	}
	n1.workers[0].flows.Scan(n1.workers[0].flows.Slots(), func(slot uint32, e *flow.Entry) { e.View = 0; n1.workers[0].flows.Cold(slot).Gen-- })
	b.server("10.0.0.2", 1000, 8888, "A")
	if _, again, _ := n1.workers[0].view.Clients.Find(tag); again != seen {
		t.Error("the time moved when a flow was decided again")
	}
}

func vifMAC6(id uint32) [6]byte { return [6]byte(vifMAC(id)) }
