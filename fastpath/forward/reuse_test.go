package forward

import (
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// late has the offloaders of all nodes do nothing, or catch up.
func (b *bed) late(is bool) {
	for _, n := range b.nodes {
		n.cache.late = is
	}
	b.run()
}

// endings are how a connection of c through the VIP comes to an end, in words and packets.
var endings = map[string]func(b *bed, sport uint16, backend string){
	"RST": func(b *bed, sport uint16, backend string) {
		b.nodes["n1"].send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "RA").Bytes())
		b.run()
		b.nodes[where(backend).node].one(backend)
	},
	"FIN": func(b *bed, sport uint16, backend string) {
		n1, far, p := b.nodes["n1"], b.nodes[where(backend).node], where(backend)
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "FA").Bytes())
		b.run()
		far.one(backend)
		far.send(backend, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "FA").Bytes())
		b.run()
		n1.one("c")
	},
	"silence": func(b *bed, _ uint16, _ string) {
		for range 400 { // and nobody looks into the kernel meanwhile
			b.now += uint64(30 * time.Second)
			b.run()
		}
	},
}

// The ports of a connection that is over are another's at once, whose backend is another: while
// the kernel has the old entries still, it forwards none of its packets by them. What it
// had forwarded of the old connection is not counted for the new one, and orders about the
// old one, late as they are, do not end what is ordered for the new.
func TestReuse(t *testing.T) {
	for ending, end := range endings {
		for first, next := range map[string]string{"b1": "b2", "b2": "b1", "b3": "b2"} {
			t.Run(ending+"/"+first, func(t *testing.T) {
				eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
					b.backends(first)
					connect(b, 3000)
					b.backends(first+"-", next) // the connection stays where it is, others go elsewhere
					b.warm(3000, first)
					if got := n1.kernel(func() { b.talks(3000, first) }); got != 2 {
						t.Fatalf("the kernel forwarded %d of 2 packets", got)
					}
					b.late(true)
					old := len(n1.cache.Flows)
					end(b, 3000, first)
					if len(n1.cache.Flows) != old || old != 2 {
						t.Fatalf("nothing is left of the old connection:\n%s", n1.cache)
					}
					if got := connect(b, 3000); got != next {
						t.Fatalf("the new connection is at %s", got)
					}
					for range 3 {
						b.talks(3000, next)
					}
					b.late(false)
					b.elapse(time.Second)
					if got := n1.entry("10.0.0.2", 3000, vip, 8888).Packets; got != 2+3 {
						t.Errorf("the new connection has %d packets, want 5", got)
					}
					b.warm(3000, next)
					b.elapse(time.Second)
					if got := n1.kernel(func() { b.talks(3000, next) }); got != 2 {
						t.Errorf("the kernel forwarded %d of 2 packets of the new connection\n%s", got, n1.cache)
					}
				})
			})
		}
	}
}

// A connection to a pod itself, from the ports of one that came to it through the VIP: what
// the pod answers is not translated any more.
func TestReuseAnswers(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, _ *node) {
		b.backends("b1")
		connect(b, 3000)
		b.warm(3000, "b1")
		b.late(true)
		endings["silence"](b, 3000, "b1")
		there := func(flags string) {
			t.Helper()
			pass(b, n1, "c", n1, "b1", false, build.IPv4("10.0.0.2", "10.0.0.3").TCP(3000, 80, flags), build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).TCP(3000, 80, flags))
		}
		back := func(flags string) {
			t.Helper()
			pass(b, n1, "b1", n1, "c", false, build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 3000, flags), build.IPv4("10.0.0.3", "10.0.0.2").TTL(63).TCP(80, 3000, flags))
		}
		there("S")
		back("SA")
		there("A")
		back("A")
	})
}

// An order to forward the old connection that is carried out only when the new one has begun
// comes to nothing.
func TestReuseLateOrder(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, n2 *node) {
		b.backends("b1")
		connect(b, 3000)
		b.backends("b1-", "b2")
		b.late(true)
		b.warm(3000, "b1")
		var put []offload.Flow
		for _, d := range n1.cache.desks {
			for o := (desk.Order{}); d.Orders.Pop(&o); {
				if !o.Delete {
					put = append(put, o.Flow)
				}
			}
		}
		if len(put) < 2 {
			t.Fatalf("%d orders", len(put))
		}
		endings["RST"](b, 3000, "b1")
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(3000, 8888, "S").Bytes())
		b.run()
		n2.one("b2")
		for i := range put {
			if err := n1.cache.Put(&put[i]); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			b.talks(3000, "b2")
		}
	})
}

// A successor does not take over what the kernel has of a connection whose ports are another's.
func TestReuseReadopt(t *testing.T) {
	b, n1, _ := offloading(t, admit.Force, 1)
	b.backends("b1")
	connect(b, 3000)
	b.backends("b1-", "b3")
	b.warm(3000, "b1")
	b.late(true)
	endings["RST"](b, 3000, "b1")
	connect(b, 3000)
	b.warm(3000, "b3")
	if n1.entry("10.0.0.2", 3000, vip, 8888).Flags&flow.FlagOffloaded == 0 {
		t.Fatal("the new connection was not ordered")
	}
	n1.restart()
	if c := n1.cache.Counts(); c.Adopted != 0 || len(n1.cache.Flows) != 0 {
		t.Errorf("%+v:\n%s", c, n1.cache)
	}
	b.talks(3000, "b3")
}
