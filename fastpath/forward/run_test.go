package forward

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// start runs the workers of n until the test stops them.
func (n *node) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, w := range n.workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	return func() { cancel(); wg.Wait() }
}

// TestRun: two workers on their own goroutines, connections through NAT between them,
// while tables change and everybody asks. Nothing is lost.
func TestRun(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%v", busy), func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			delete(b.nodes, "n2")
			b.backends("b1")
			n1.shared.opts.Busy = busy
			stop := n1.start(t)
			quit := make(chan struct{})
			var wg sync.WaitGroup
			wg.Add(1)
			go func() {
				defer wg.Done()
				n1.disturb(quit)
			}()
			c := &clients{t: t, n: n1, want: 1000}
			c.talk()
			close(quit)
			wg.Wait()
			splits := n1.workers[0].Counters().Splits + n1.workers[1].Counters().Splits
			handoffs := n1.workers[0].Counters().Handoffs + n1.workers[1].Counters().Handoffs
			stop()
			if splits == 0 || handoffs == 0 {
				t.Errorf("%d split pairs, %d frames handed over", splits, handoffs)
			}
			b.wantDrops("")
			b.frames()
		})
	}
}

// disturb publishes, asks and traces until quit is closed.
func (n *node) disturb(quit chan struct{}) {
	probe := build.Eth(build.IPv4("10.0.0.2", vip).UDP(9, 53).Bytes(), link.VifMAC(10), mac)
	for i := 0; ; i++ {
		select {
		case <-quit:
			return
		default:
		}
		if i%10 == 0 {
			d := n.members("n1", 0, []string{"b1"})
			d.Upsert.NextHops[0].Members[0].Name = fmt.Sprint(i) // another generation
			if err := n.builder.Apply(&d); err != nil {
				panic(err)
			}
			n.shared.Publish(n.builder.Tables())
			n.shared.Sweep()
		}
		n.shared.Trace(probe)
		for _, w := range n.workers {
			w.Drops()
			w.VifCounters(10)
			w.Alive()
		}
	}
}

// clients are UDP clients in c that ask the VIP, and b1, which answers.
type clients struct {
	t    *testing.T
	n    *node
	want int
	sent int
	got  int
}

// talk keeps a few questions under way until all are answered.
func (c *clients) talk() {
	deadline := time.Now().Add(60 * time.Second)
	for c.got < c.want {
		for c.sent < c.want && c.sent-c.got < 32 {
			port := uint16(1000 + c.sent%500)
			c.inject(10, build.IPv4("10.0.0.2", vip).UDP(port, 53).Payload(c.sent%1200).Bytes())
			c.sent++
		}
		for _, l := range c.n.links {
			for _, f := range l.Sent() {
				c.receive(f)
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d of %d questions are answered", c.got, c.sent)
		}
	}
}

func (c *clients) inject(vif uint32, ip []byte) {
	c.n.links[c.n.next%2].Inject(build.Eth(ip, link.VifMAC(vif), mac))
	c.n.next++
}

func (c *clients) receive(frame []byte) {
	id, _ := link.VifOf(frame[6:])
	ip := frame[packet.EthernetLen:]
	if err := build.Verify(ip); err != nil {
		c.t.Error(err)
	}
	var in packet.Info
	packet.ParseIP(ip, 0, len(ip), &in)
	switch {
	case id == 11:
		c.inject(11, build.IPv4("10.0.0.3", "10.0.0.2").UDP(5353, in.Tuple.Sport).Bytes())
	case id == 10 && in.Tuple.Src == addr(vip) && in.Tuple.Sport == 53:
		c.got++
	default:
		c.t.Errorf("vif %d received %s", id, build.Describe(ip))
	}
}

// TestDoWhileStopping: calls return whether the worker runs, starts or stops.
func TestDoWhileStopping(t *testing.T) {
	_, n1, _ := twoNodes(t, 1)
	w := n1.workers[0]
	var wg sync.WaitGroup
	quit := make(chan struct{})
	count, calls := 0, new(atomic.Int64) // count is guarded by running on the worker
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-quit:
					return
				default:
					w.Do(func() { count++ })
					calls.Add(1)
				}
			}
		}()
	}
	for turns := 0; turns < 100 || calls.Load() < 2000; turns++ {
		n1.start(t)()
	}
	close(quit)
	wg.Wait()
	if int64(count) != calls.Load() {
		t.Errorf("%d calls ran, %d returned", count, calls.Load())
	}
}

// TestIdleWorkerSleeps: an idle worker sleeps, wakes for a frame, for another worker's
// message, for a call and for new tables, and does not sleep while there is work.
func TestIdleWorkerSleeps(t *testing.T) {
	b, n1, _ := twoNodes(t, 2)
	stop := n1.start(t)
	asleep := func() {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !n1.workers[0].sleeping.Load() || !n1.workers[1].sleeping.Load(); {
			if time.Now().After(deadline) {
				t.Fatal("the workers do not sleep")
			}
		}
	}
	for i := range uint16(50) {
		asleep()
		n1.send("c", build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000+i, 7).Bytes())
		start := time.Now()
		for got := 0; got == 0; {
			for _, l := range n1.links {
				got += len(l.Sent())
			}
			if time.Since(start) > 20*time.Second {
				t.Fatal("the frame does not come out")
			}
		}
	}
	asleep()
	n1.workers[0].Counters()
	n1.shared.Publish(n1.builder.Tables())
	n1.shared.Sweep()
	w := n1.workers[0]
	soon(t, "the table is swept", func() (done bool) {
		w.Do(func() { done = !w.aging.Pending() })
		return done
	})
	asleep()
	stop()
	if w.count.sleeps == 0 {
		t.Error("nobody slept")
	}
	b.wantDrops("")
}
