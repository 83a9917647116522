package hub

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

func quietHub() *Hub {
	return &Hub{hold: time.Minute, log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1), peers: map[string]*peer{}}
}

// twin is the dull one: it holds what it was told and compares the whole.
type twin map[plan.Key]string

func (w twin) take(m *southbound.ToAgent) {
	for _, r := range m.GetUpserts() {
		w[plan.Key{Type: r.GetType(), Name: r.GetName()}] = r.GetVersion()
	}
	for _, r := range m.GetRemoves() {
		delete(w, plan.Key{Type: r.GetType(), Name: r.GetName()})
	}
}

func (w twin) have() []*southbound.ResourceVersion {
	var out []*southbound.ResourceVersion
	for k, v := range w {
		out = append(out, &southbound.ResourceVersion{Type: k.Type, Name: k.Name, Version: v})
	}
	return out
}

// wanted is what a node is to hold, said without any cleverness.
func wanted(in *plan.Intents, node string) twin {
	out := twin{}
	for _, name := range in.Nodes[node] {
		for k, r := range in.Sets[name] {
			if r.NotFor != node {
				out[k] = r.Wire.Version
			}
		}
	}
	return out
}

func randomIntents(r *rand.Rand) *plan.Intents {
	in := &plan.Intents{Sets: map[string]plan.Set{}, Nodes: map[string][]string{}}
	for _, name := range []string{"x", "y", "z"} {
		set := plan.Set{}
		for range r.IntN(6) {
			t := []southbound.Type{vmi, lb, block, route}[r.IntN(4)]
			// The name says the set, but for load balancers, which several sets share.
			res := resource(t, fmt.Sprintf("%s%d", map[bool]string{true: "", false: name}[t == lb], r.IntN(4)), "1")
			if t != lb {
				res = resource(t, res.Name, fmt.Sprint(r.IntN(3)))
			}
			if t == route && r.IntN(3) == 0 {
				res.NotFor = "n1"
			}
			set[res.Key] = res
		}
		in.Sets[name] = set
		if r.IntN(3) > 0 {
			in.Nodes["n1"] = append(in.Nodes["n1"], name)
		}
	}
	if r.IntN(8) == 0 {
		delete(in.Nodes, "n1")
	}
	return in
}

// A controller that may know less than the last one takes nothing away of which
// it has never heard; what it knows to have gone, it does.
func TestWhatOthersSaidStays(t *testing.T) {
	in := func(stale bool, all ...*plan.Resource) *plan.Intents {
		return &plan.Intents{Sets: map[string]plan.Set{"x": setOf(all...)}, Nodes: map[string][]string{"n1": {"x"}}, Stale: stale}
	}
	known, newer := resource(lb, "known", "1"), resource(lb, "newer", "1")
	holds := twin{known.Key: "1", newer.Key: "1"}
	o := newOutbox("n1", holds.have())
	say := func(old, now *plan.Intents) {
		o.update(old, now, diff(old, now))
		m := o.next(now, nil)
		holds.take(m)
		if _, err := o.acknowledge(m.GetNonce()); m != nil && err != nil {
			t.Fatal(err)
		}
	}
	first, second := in(true, known), in(true)
	say(first, first)
	if len(holds) != 2 {
		t.Error("taken away:", holds)
	}
	say(first, second)
	if holds[known.Key] != "" || holds[newer.Key] == "" {
		t.Error("only what is known to have gone goes:", holds)
	}
	third := in(false)
	say(second, third)
	if len(holds) != 0 || o.pending() != 0 {
		t.Error("it stays when everything is known:", holds)
	}
}

// Whatever is published, acknowledged, lost and resumed in whatever order, an
// agent that has acknowledged everything holds exactly what it is to hold, and
// has heard in_sync once per type and stream.
func TestOutboxAgainstItsTwin(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		h := quietHub()
		agent := twin{}
		var s *stream
		var flight *southbound.ToAgent
		synced := map[southbound.Type]int{}
		connect := func() {
			s = &stream{hub: h, node: "n1", end: func(error) {}, due: make(chan struct{}, 1), said: newSaid(),
				out: newOutbox("n1", agent.have()), refused: map[plan.Key]string{}}
			s.out.limit = 1 + r.IntN(100) // often one resource in a response
			h.connect(s, addrs("192.0.2.1")[0], "")
			flight, synced = nil, map[southbound.Type]int{}
		}
		connect()
		step := func() {
			if flight != nil {
				agent.take(flight)
				for _, x := range flight.GetInSync() {
					synced[x]++
				}
				if err := h.acknowledge(s, &southbound.Ack{Nonce: flight.GetNonce()}); err != nil {
					t.Fatal(err)
				}
			}
			flight = s.out.next(h.intents, h.closed)
		}
		for range 80 {
			switch r.IntN(6) {
			case 0, 1:
				var closed []southbound.Type
				if r.IntN(3) == 0 {
					closed = []southbound.Type{lb, route}
				}
				h.Publish(randomIntents(r), closed...)
			case 2:
				if r.IntN(4) == 0 {
					if flight != nil && r.IntN(2) == 0 {
						agent.take(flight) // it arrived, the acknowledgement did not
					}
					connect()
				}
			default:
				step()
			}
		}
		in := randomIntents(r)
		for in.Nodes["n1"] == nil {
			in = randomIntents(r)
		}
		h.Publish(in)
		for step(); flight != nil; step() {
		}
		want := wanted(in, "n1")
		if fmt.Sprint(agent) != fmt.Sprint(want) {
			t.Fatalf("seed %d:\nholds %v\nwants %v", seed, agent, want)
		}
		for _, x := range southbound.Types {
			if synced[x] != 1 {
				t.Fatalf("seed %d: in_sync of %v said %d times", seed, x, synced[x])
			}
		}
		if n := s.out.pending(); n != 0 {
			t.Fatalf("seed %d: %d keys pending", seed, n)
		}
	}
}
