package forward

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// TestChaos turns workers in any order, with rings that are nearly full, small flow
// tables, and tables that change all the time. Whatever was lost on the way: no
// buffer is, every packet has left by one door, and once it is quiet again every
// conversation works within seconds, in both directions.
func TestChaos(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &chaos{rng: rand.New(rand.NewPCG(seed, 1))}
			c.bed = newBed(t)
			workers, flows := 2+int(seed%3), []int{250, 400, 4096}[seed/3%3]
			for i, name := range []string{"n1", "n2"} {
				n := c.bed.node(name, fmt.Sprintf("192.0.2.%d", i+1), workers, flows)
				n.shared.opts.MaxVifFlows = 1000
			}
			c.bed.nodes["n1"].apply(table.Delta{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")})
			c.bed.nodes["n2"].apply(table.Delta{Upsert: network("n2", "192.0.2.2", "192.0.2.1", "10.0.1.1", "10.0.0.0/24", "2001:db8::/64")})
			c.bed.networks()
			for range 2000 {
				c.step()
			}
			c.settle()
		})
	}
}

type chaos struct {
	bed *bed
	rng *rand.Rand
}

// step lets something happen.
func (c *chaos) step() {
	n := c.bed.nodes[[]string{"n1", "n2"}[c.rng.IntN(2)]]
	switch r := c.rng.IntN(100); {
	case r < 25:
		c.request(c.port())
	case r < 45:
		c.reply(pods[1+c.rng.IntN(3)], c.port())
	case r < 85:
		i := c.rng.IntN(len(n.workers))
		n.workers[i].Turn(c.bed.now)
		for _, f := range n.links[i].Sent() {
			c.bed.arrive(n, f)
		}
	case r < 90:
		c.clog(n)
	case r < 92:
		c.evict(n.workers[c.rng.IntN(len(n.workers))])
	case r < 93:
		c.bed.affinity(uint32(5 * c.rng.IntN(2)))
	case r < 94:
		c.bed.isolated(c.rng.IntN(2) == 0)
	case r < 95:
		c.bed.backends([][]string{{"b1", "b2", "b3"}, {"b1", "b2"}, {"b1"}, {"b2", "b3-"}}[c.rng.IntN(4)]...)
	default:
		c.bed.now += uint64(c.rng.IntN(int(2 * time.Second)))
	}
}

func (c *chaos) port() uint16 { return uint16(1000 + c.rng.IntN(40)) }

func (c *chaos) request(sport uint16) {
	dst, dport := vip, uint16(53)
	if c.rng.IntN(3) == 0 {
		p := pods[1+c.rng.IntN(3)]
		dst, dport = p.addr, 5353
	}
	n1 := c.bed.nodes["n1"]
	switch {
	case c.rng.IntN(3) == 0:
		x := tenants[2+c.rng.IntN(2)]
		n1.send(x.name, build.IPv4(x.addr, vip).UDP(sport, 53).Payload(c.rng.IntN(3000)).Bytes())
	case c.rng.IntN(6) == 0:
		n1.send("c", build.IPv4("10.0.0.2", "10.0.0.130").TCP(sport, 80, []string{"S", "A"}[c.rng.IntN(2)]).Bytes())
	case sport%2 == 0:
		n1.send("c", build.IPv4("10.0.0.2", dst).UDP(sport, dport).Payload(c.rng.IntN(3000)).Bytes())
	case dst == vip:
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, []string{"S", "A", "FA", "R"}[c.rng.IntN(4)]).Bytes())
	default:
		n1.send("c", build.IPv4("10.0.0.2", dst).TCP(sport, 80, "S").Bytes())
	}
}

func (c *chaos) reply(p pod, sport uint16) {
	if sport%2 == 0 {
		to := []string{"10.0.0.2", "10.0.0.200", "10.0.0.201"}[c.rng.IntN(3)]
		c.bed.nodes[p.node].send(p.name, build.IPv4(p.addr, to).UDP(5353, sport).Bytes())
		return
	}
	c.bed.nodes[p.node].send(p.name, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, []string{"SA", "A", "FA", "R"}[c.rng.IntN(4)]).Bytes())
}

// evict removes any entry, as if another had needed its place.
func (c *chaos) evict(w *Worker) {
	start := c.rng.IntN(w.flows.Slots())
	for i := range w.flows.Slots() {
		slot := uint32((start + i) % w.flows.Slots())
		if e := w.flows.Entry(slot); e.Used != 0 {
			w.removePair(slot, e)
			return
		}
	}
}

// clog fills a ring of n but for a few messages, with what means nothing.
func (c *chaos) clog(n *node) {
	from := c.rng.IntN(len(n.workers))
	to := (from + 1) % len(n.workers)
	r := n.shared.rings[from][to]
	for free := c.rng.IntN(3); r.Len() < ringSize-free; {
		r.Push(message{kind: msgDelete, index: flow.Index(to, 0), peer: flow.NoReverse - 1})
	}
}

// settle lets everything come to rest and then talks to the VIP from every port.
func (c *chaos) settle() {
	b := c.bed
	b.t.Helper()
	b.run()
	b.backends("b1", "b2", "b3")
	b.run()
	b.frames()
	n1 := b.nodes["n1"]
	for round := range 3 {
		b.elapse(7 * time.Second) // longer than it takes to visit all entries
		broken := 0
		for sport := uint16(1000); sport < 1040; sport += 2 {
			for _, client := range [][2]string{{"c", "10.0.0.2"}, {"x1", "10.9.0.5"}, {"x2", "10.9.0.5"}} {
				name, src := client[0], client[1]
				c.forget()
				before := n1.drops() + b.nodes["n2"].drops()
				n1.send(name, build.IPv4(src, vip).UDP(sport, 53).Bytes())
				b.run()
				if got := c.answer(name); len(got) != 1 || build.Diff(got[0], build.IPv4(vip, src).TTL(got[0][8]).UDP(53, sport).Bytes()) != "" {
					broken++
					if round == 2 {
						b.t.Errorf("%s port %d: %d answers\nbefore:%s\nafter:%s%s\n%s", name, sport, len(got), before, n1.drops(), b.nodes["n2"].drops(), c.flows(src, sport))
					}
				}
			}
		}
		if broken == 0 {
			break
		}
	}
	b.frames()
}

// forget throws away what anybody has received.
func (c *chaos) forget() {
	for _, n := range c.bed.nodes {
		clear(n.sent)
	}
}

// flows prints the entries that have to do with a client's port.
func (c *chaos) flows(src string, port uint16) string {
	var out []string
	for _, n := range c.bed.nodes {
		for _, line := range printFlows(n) {
			if strings.Contains(line, fmt.Sprintf("%s:%d ", src, port)) {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, "\n")
}

// answer lets every pod that has received something answer the last of it, and returns
// what the client received.
func (c *chaos) answer(client string) [][]byte {
	for _, p := range pods[1:] {
		n := c.bed.nodes[p.node]
		out := n.got(p.name)
		if len(out) == 0 {
			continue
		}
		var in packet.Info
		last := out[len(out)-1]
		packet.ParseIP(last, 0, len(last), &in)
		n.send(p.name, build.IPv4(p.addr, in.Tuple.Src.String()).UDP(in.Tuple.Dport, in.Tuple.Sport).Bytes())
		c.bed.run()
	}
	return c.bed.nodes["n1"].got(client)
}
