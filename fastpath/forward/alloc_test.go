package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// loads are the packets of the benchmarks and of the allocation test: new and
// known flows, through NAT and tunnel.
func loads() map[string][]byte {
	pod := link.VifMAC(10)
	src := [6]byte{2, 1}
	return map[string][]byte{
		"local":   build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"tunnel":  build.Eth(build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"service": build.Eth(build.IPv4("10.0.0.2", vip).UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"decap":   build.Eth(build.Tunnel(build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 999).Payload(64).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), link.VifMAC(1), src),
		"dnat":    build.Eth(build.Tunnel(build.IPv4("10.0.1.2", vip).UDP(53, 53).Payload(64).Bytes(), "192.0.2.2", "192.0.2.1", labelPods+1), link.VifMAC(1), src),
		"refused": build.Eth(build.IPv4("10.0.0.2", nobody).TCP(1000, 80, "S").Bytes(), pod, src),
	}
}

// TestLoopDoesNotAllocate holds for every kind of packet, new flows included: the
// source port of each packet differs.
func TestLoopDoesNotAllocate(t *testing.T) {
	for name, load := range loads() {
		t.Run(name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 1)
			n1.links[0].Blind = true
			b.run()
			w, l := n1.workers[0], n1.links[0]
			for range 20 { // buffers of the test link grow to their size
				l.Inject(load)
				w.Turn(b.now)
			}
			allocs := testing.AllocsPerRun(200, func() {
				load[34]++ // source port, or the tunnel's
				load[len(load)-1]++
				l.Inject(load)
				b.now += 1 << 25
				w.Turn(b.now)
			})
			if allocs != 0 {
				t.Errorf("%v allocations per packet", allocs)
			}
		})
	}
}

// BenchmarkLoop is the cost of a packet through the whole loop, without a kernel.
func BenchmarkLoop(bench *testing.B) {
	for name, load := range loads() {
		bench.Run(name, func(bench *testing.B) {
			t := &testing.T{}
			b, n1, _ := twoNodes(t, 1)
			n1.links[0].Blind = true
			b.run()
			w, l := n1.workers[0], n1.links[0]
			for n := 0; n < bench.N; n += batchSize {
				for range batchSize {
					l.Inject(load)
				}
				w.Turn(b.now)
			}
		})
	}
}
