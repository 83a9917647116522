package forward

import (
	"fmt"
	"testing"

	"github.com/vragent/vragent/fastpath/packet/build"
)

// eachWorkers runs a test with one to three workers, and with a kernel that forwards
// all it can.
func eachWorkers(t *testing.T, f func(t *testing.T, workers int)) {
	for _, n := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("workers=%d", n), func(t *testing.T) { f(t, n) })
	}
	t.Run("workers=2"+forced, func(t *testing.T) { f(t, 2) })
}

func TestPodToPod(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		for i, c := range []struct {
			to       string
			from, ip string
			hops     uint8
		}{
			{"b1", "10.0.0.2", "10.0.0.3", 1}, {"b2", "10.0.0.2", "10.0.1.2", 2},
			{"b1", "2001:db8::2", "2001:db8::3", 1}, {"b2", "2001:db8::2", "2001:db8:1::2", 2},
		} {
			n := b.nodes[where(c.to).node]
			sport := uint16(1000 + i)
			n1.send("c", build.IP(c.from, c.ip).UDP(sport, 53).Payload(100).Bytes())
			b.run()
			n.want(c.to, build.IP(c.from, c.ip).TTL(64-c.hops).UDP(sport, 53).Payload(100))
			n.send(c.to, build.IP(c.ip, c.from).UDP(53, sport).Payload(200).Bytes())
			b.run()
			n1.want("c", build.IP(c.ip, c.from).TTL(64-c.hops).UDP(53, sport).Payload(200))
		}
		b.wantDrops("")
		b.frames()
		if len(n1.flows()) != 8 || len(n2.flows()) != 4 {
			t.Errorf("%d and %d entries, want 8 and 4", len(n1.flows()), len(n2.flows()))
		}
	})
}

// TestService walks a TCP connection to the VIP: no NAT at the client's node, DNAT
// and DPAT at the backend's, and the client sees only the VIP.
func TestService(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		share := map[string]int{}
		for i := range 60 {
			sport := uint16(2000 + i)
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "S").MSS(1460).Bytes())
			b.run()
			for _, p := range pods[1:] {
				n := b.nodes[p.node]
				for _, got := range n.got(p.name) {
					share[p.name]++
					hops := uint8(1)
					if p.node != "n1" {
						hops = 2
					}
					want := build.IPv4("10.0.0.2", p.addr).TTL(64-hops).TCP(sport, 80, "S").MSS(podMTU - 40)
					if d := build.Diff(got, want.Bytes()); d != "" {
						t.Fatal(d)
					}
					n.send(p.name, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "SA").Bytes())
					b.run()
					n1.want("c", build.IPv4(vip, "10.0.0.2").TTL(64-hops).TCP(8888, sport, "SA"))
					n1.send("c", build.IPv4("10.0.0.2", vip).TCP(sport, 8888, "A").Bytes())
					n.send(p.name, build.IPv4(p.addr, "10.0.0.2").TCP(80, sport, "A").Payload(10).Bytes())
					b.run()
					n1.got("c")
					n.got(p.name)
				}
			}
		}
		for _, name := range []string{"b1", "b2", "b3"} {
			if share[name] < 8 {
				t.Errorf("shares are not even: %v", share)
			}
		}
		b.wantDrops("")
		b.frames()
		for _, e := range append(n1.flows(), b.nodes["n2"].flows()...) {
			if e.TCP.String() != "SSrEEr" {
				t.Errorf("%v %s %s: TCP %s, want SSrEEr", e.Key(), e.Action, e.NAT, e.TCP)
			}
		}
	})
}
