package steer_test

import (
	"bytes"
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// TestShare: of the ring of a worker that takes nothing, a pod that floods it gets its share
// of a round; another's packets find room. With the next round it has a share again. Of
// a worker that does not say its rounds, everybody has all.
func TestShare(t *testing.T) {
	const share, flood, few = 512, 1500, 100
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.open(t)
	r := openSockets(t, n, s)
	n.attach(t, s, a)
	n.attach(t, s, b)
	ip := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Bytes()
	out := map[*pod]int{}
	for _, p := range n.Pods {
		out[p] = rawSocket(t, p.NS, ifindexIn(t, p.NS, "eth0"))
	}
	send := func(p *pod, packets int) {
		for range packets {
			write(t, out[p], ethernet(table.RouterMAC, ip))
		}
	}
	arrived := func(got map[uint32]int) { // by vif; pods speak by themselves, too
		for _, f := r.try(); f != nil; _, f = r.try() {
			if id, ok := link.VifOf(f); ok && bytes.Equal(f[14:], ip) {
				got[id]++
			}
		}
	}
	const spoken = 32 // packets of their own, at most
	overShare := func() int { return int(n.drops(t, s, "steer-over-share")) }
	for _, c := range []struct {
		round    uint32
		of, want int
	}{{0, flood, flood}, {1, flood, share}, {2, flood, share}, {2, few, 0}, {3, few, few}} {
		if c.round != 0 {
			s.Round(0).Store(c.round)
		}
		before, got := overShare(), map[uint32]int{}
		send(a, c.of)
		send(b, few)
		await(t, "all that was sent", func() bool {
			arrived(got)
			return got[uint32(b.Vif.ID)] == few && got[uint32(a.Vif.ID)]+overShare()-before >= c.of
		})
		if mine := got[uint32(a.Vif.ID)]; mine > c.want || mine < c.want-spoken {
			t.Errorf("round %d: %d of %d packets of the pod that floods arrived, want %d", c.round, mine, c.of, c.want)
		}
	}
}
