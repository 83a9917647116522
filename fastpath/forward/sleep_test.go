package forward

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/pace"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// deep is a sleeper that no time ends, only Wake: who has work for a worker and does not
// end its sleep waits for ever. It notes what the worker knows when it falls asleep.
type deep struct {
	*mem.Link
	w     *Worker
	knows atomic.Pointer[table.Tables]
}

func (d *deep) Wait(time.Duration) {
	d.knows.Store(d.w.view.Tables)
	d.Link.Wait(time.Hour)
}

// TestNobodyWaitsForTheNap: tables, calls, news from the kernel and the end of it all reach
// workers that sleep, or are about to, without the help of time.
func TestNobodyWaitsForTheNap(t *testing.T) {
	t.Run("workers=2"+forced, func(t *testing.T) {
		b, n1, _ := twoNodes(t, 2)
		delete(b.nodes, "n2")
		sleepers := make([]*deep, len(n1.workers))
		for i, w := range n1.workers {
			sleepers[i] = &deep{Link: n1.links[i], w: w}
			w.sleeper = sleepers[i]
		}
		for round := range 50 {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			running := int64(len(n1.workers))
			for _, w := range n1.workers {
				wg.Go(func() {
					_ = w.Run(ctx)
					atomic.AddInt64(&running, -1)
				})
			}
			if round%2 == 0 {
				b.backends("b1")
			} else {
				b.backends("b1", "b2")
			}
			for i, w := range n1.workers {
				soon(t, "all take the tables", func() bool { return sleepers[i].knows.Load() == n1.builder.Tables() })
				w.Counters()
				news := n1.cache.desks[i].News
				news.Push(desk.News{})
				w.Wake()
				soon(t, "all hear the news", func() bool { return news.Len() == 0 })
			}
			cancel()
			soon(t, "all end", func() bool { return atomic.LoadInt64(&running) == 0 })
			wg.Wait()
		}
	})
}

// soon waits for a condition.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// patient notes how long a worker would have slept.
type patient struct {
	link.Sleeper
	slept []time.Duration
}

func (p *patient) Wait(d time.Duration) { p.slept = append(p.slept, d) }

// clogged is a link that has not sent everything.
type clogged struct{ link.Link }

func (clogged) Pending() bool { return true }

// TestRest: a worker that has something to do does not sleep, and how long it sleeps depends on
// what it waits for.
func TestRest(t *testing.T) {
	t.Run("workers=2"+forced, func(t *testing.T) {
		const awake = -1
		for _, c := range []struct {
			what string
			is   func(b *bed, n *node, w *Worker)
			want time.Duration
		}{
			{"nothing to do", func(*bed, *node, *Worker) {}, sleep},
			{"new tables", func(_ *bed, n *node, _ *Worker) { n.shared.tables.Store(table.NewBuilder().Tables()) }, awake},
			{"a message", func(_ *bed, n *node, _ *Worker) { n.shared.rings[1][0].Push(message{}) }, awake},
			{"news of the kernel", func(_ *bed, n *node, _ *Worker) { n.cache.desks[0].News.Push(desk.News{}) }, awake},
			{"the table is to be swept", func(_ *bed, n *node, _ *Worker) { n.shared.Sweep() }, awake},
			{"part of the table is to be visited", func(b *bed, n *node, w *Worker) {
				n.full()
				w.Turn(b.now + 1e9)
			}, awake},
			{"a flow changes hands", func(b *bed, n *node, w *Worker) {
				for i := 0; !w.admit.Handing() && i < 1000; i++ {
					n.links[0].Inject(build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 7).Bytes(), link.VifMAC(10), [6]byte{}))
					w.Turn(b.now)
				}
			}, nap},
			{"few chunks", func(_ *bed, _ *node, w *Worker) {
				for w.pool.Len() >= w.pool.Cap()/8 {
					w.pool.Get()
				}
			}, nap},
			{"frames that do not leave", func(_ *bed, _ *node, w *Worker) { w.doors[0].link = clogged{w.doors[0].link} }, doze},
		} {
			b, n, _ := twoNodes(t, 2)
			w := n.workers[0]
			p := &patient{Sleeper: w.sleeper}
			w.sleeper = p
			w.Turn(b.now)
			c.is(b, n, w)
			w.rest()
			if len(p.slept) > 1 || len(p.slept) == 0 != (c.want == awake) || len(p.slept) == 1 && p.slept[0] != c.want {
				t.Errorf("%s: sleeps %v, want %v (-1: it does not)", c.what, p.slept, c.want)
			}
		}
	})
}

// TestAgesAfterSleep: the whole table is visited in pace.Whole however long the worker sleeps, a
// little in each turn, and the packet that woke it has left before.
func TestAgesAfterSleep(t *testing.T) {
	for _, slept := range []uint32{1, entry.Second / 4, entry.Second, 10 * pace.Whole} {
		_, n1, _ := twoNodes(t, 1)
		w, l := n1.workers[0], n1.links[0]
		n1.full()
		now, flushed, visits, most := n1.bed.now, 0, 0, 0
		w.aging.visit = func(uint32, *flow.Entry) {
			if visits++; l.Flushes() == flushed {
				t.Fatal("the packet waits for flows to be visited")
			}
		}
		turn := func() {
			before := visits
			flushed = l.Flushes()
			w.Turn(now)
			most = max(most, visits-before)
		}
		turn()
		visits = 0
		for ticks := uint32(0); ticks < pace.Whole; ticks += slept {
			now += uint64(slept) << TickShift
			n1.send("c", build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 7).Bytes())
			for turn(); w.aging.Pending(); {
				now += 1 << TickShift // it goes on while the worker catches up
				turn()
			}
		}
		if full := w.flows.Len(); visits < full || most > pace.Most {
			t.Errorf("after sleeps of %d ticks: %d visits to %d flows, %d in one turn", slept, visits, full, most)
		}
	}
}
