package forward

import (
	"encoding/binary"
	"testing"

	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// syns has c of n1 begin connections to dst, from so many ports and to one port each.
func syns(b *bed, dst string, ports, each int) {
	for port := range uint16(ports) {
		for to := range uint16(each) {
			b.nodes["n1"].send("c", build.IPv4("10.0.0.2", dst).TCP(1024+port, 1+to, "S").Bytes())
			if b.nodes["n1"].next%64 == 0 {
				b.run()
			}
		}
	}
	b.run()
}

// TestFloodTakesNothingFromOthers: c fills the whole table with connections that nobody
// answers. What b1 has stays, established or not, and what it begins finds room.
func TestFloodTakesNothingFromOthers(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		const streams, questions, connections = 20, 60, 150
		b, n1, n2 := twoNodes(t, workers)
		n1.shared.opts.MaxVifFlows = 1 << 20 // no quota: a few pods together may fill the table
		pass := func(from, to *node, name, sender string, p *build.Packet) int {
			from.send(sender, p.Bytes())
			b.run()
			return len(to.got(name))
		}
		for i := range uint16(streams) {
			got := pass(n1, n2, "b2", "b1", build.IPv4("10.0.0.3", "10.0.1.2").TCP(1000+i, 80, "S"))
			got += pass(n2, n1, "b1", "b2", build.IPv4("10.0.1.2", "10.0.0.3").TCP(80, 1000+i, "SA"))
			if got += pass(n1, n2, "b2", "b1", build.IPv4("10.0.0.3", "10.0.1.2").TCP(1000+i, 80, "A")); got != 3 {
				t.Fatalf("%d of 3 packets of a handshake arrived", got)
			}
		}
		for i := range uint16(questions) {
			pass(n1, n2, "b2", "b1", build.IPv4("10.0.0.3", "10.0.1.2").UDP(1000+i, 53))
		}
		syns(b, "10.0.1.3", 16, 1000)
		n2.got("b3")
		full := 0
		for _, w := range n1.workers {
			full += int(w.count.drops[reason.FlowTableFull])
			if w.flows.Len() < w.flows.Cap().Four*99/100 {
				t.Fatalf("the flood left room: %d of %d", w.flows.Len(), w.flows.Cap().Four)
			}
		}
		opened := 0
		for i := range uint16(connections) {
			got := pass(n1, n2, "b2", "b1", build.IPv4("10.0.0.3", "10.0.1.2").TCP(5000+i, 80, "S"))
			syns(b, "10.0.1.3", 1, 16) // before the answer
			got += pass(n2, n1, "b1", "b2", build.IPv4("10.0.1.2", "10.0.0.3").TCP(80, 5000+i, "SA"))
			if got == 2 {
				opened++
			}
		}
		if opened < connections {
			t.Errorf("%d of %d new connections were answered", opened, connections)
		}
		kept := 0
		for i := range uint16(streams) {
			kept += pass(n2, n1, "b1", "b2", build.IPv4("10.0.1.2", "10.0.0.3").TCP(80, 1000+i, "A"))
		}
		for i := range uint16(questions) {
			kept += pass(n2, n1, "b1", "b2", build.IPv4("10.0.1.2", "10.0.0.3").UDP(53, 1000+i))
		}
		if kept != streams+questions {
			t.Errorf("%d of %d conversations were answered", kept, streams+questions)
		}
		drops := uint64(0)
		for _, w := range n1.workers {
			drops += w.VifCounters(n1.vifs["b1"]).Drops
		}
		if drops != 0 {
			t.Errorf("%d packets of b1 were dropped:%s", drops, n1.drops())
		}
	})
}

// TestFloodFromAnotherNode: connections that nobody answers fill what a pod may hold of
// its node's table. Others reach it still.
func TestFloodFromAnotherNode(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		n2.shared.opts.MaxVifFlows = 500
		syns(b, "10.0.1.2", 4, 500)
		for _, w := range n2.workers {
			if got := w.quota.Held(nhPods+2, false); got > 500 {
				t.Errorf("a worker holds %d flows for b2", got)
			}
		}
		n2.got("b2")
		const connections = 100
		opened := 0
		for i := range uint16(connections) {
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.1.2").TCP(5000+i, 80, "S").Bytes())
			b.run()
			opened += len(n2.got("b2"))
		}
		if opened < connections*95/100 { // all, but for keys near which none is embryonic
			t.Errorf("%d of %d connections reached b2:%s", opened, connections, n2.drops())
		}
	})
}

// TestFloodOfAFullTable: who has searched a full table for room in vain, as often as is for it in a
// tick, is refused before anything is decided for it: where there is no backend, too. In the
// next tick it may search again.
func TestFloodOfAFullTable(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	n1.shared.opts.MaxVifFlows = 1 << 20
	syns(b, "10.0.1.3", 16, 1000)
	w := n1.workers[0]
	if !w.flows.Full(false) {
		t.Fatalf("the flood left room: %d of %d", w.flows.Len(), w.flows.Cap().Four)
	}
	astray := func() (full, refused int) {
		before := w.count.drops
		n1.send("c", build.IPv4("10.0.0.2", nobody).TCP(1024, 80, "S").Bytes())
		b.run()
		return int(w.count.drops[reason.FlowTableFull] - before[reason.FlowTableFull]), int(w.count.drops[reason.NoBackend] - before[reason.NoBackend])
	}
	if full, refused := astray(); full != 1 || refused != 0 {
		t.Errorf("flow-table-full %d, no-backend %d; want 1 and 0", full, refused)
	}
	b.now += 2 << TickShift
	if full, refused := astray(); full != 0 || refused != 1 {
		t.Errorf("in the next tick: flow-table-full %d, no-backend %d; want 0 and 1", full, refused)
	}
}

// BenchmarkFlood is the cost of a SYN of a pod that has as many flows as it may, beside
// that of a packet of a flow that is known.
func BenchmarkFlood(bench *testing.B) {
	for _, known := range []bool{true, false} {
		bench.Run(map[bool]string{true: "known", false: "over quota"}[known], func(bench *testing.B) {
			t := &testing.T{}
			b := newBed(t)
			n1 := b.node("n1", "192.0.2.1", 1, 1<<18)
			n1.apply(table.Delta{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")})
			w, l := n1.workers[0], n1.links[0]
			l.Blind = true
			syn := build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").TCP(1024, 80, "S").Bytes(), link.VifMAC(10), [6]byte{2, 1})
			send := func(n int) {
				if !known {
					binary.BigEndian.PutUint32(syn[34:], uint32(n*2654435761)|1<<26)
				}
				l.Inject(syn)
				if n%64 == 63 {
					w.Turn(b.now)
				}
			}
			for n := range 1 << 17 {
				send(n)
			}
			bench.ReportAllocs()
			n := 1 << 17
			for bench.Loop() {
				send(n)
				n++
			}
		})
	}
}
