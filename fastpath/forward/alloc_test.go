package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// loads are the packets of the benchmarks and of the allocation test: new and
// known flows, through NAT and tunnel.
func loads() map[string][]byte {
	pod := link.VifMAC(10)
	src := [6]byte{2, 1}
	return map[string][]byte{
		"local":    build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"tunnel":   build.Eth(build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"service":  build.Eth(build.IPv4("10.0.0.2", vip).UDP(1000, 53).Payload(64).Bytes(), pod, src),
		"decap":    build.Eth(build.Tunnel(build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 999).Payload(64).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), link.VifMAC(1), src),
		"dnat":     build.Eth(build.Tunnel(build.IPv4("10.0.1.2", vip).UDP(53, 53).Payload(64).Bytes(), "192.0.2.2", "192.0.2.1", labelPods+1), link.VifMAC(1), src),
		"cluster":  build.Eth(build.IPv4("10.9.0.5", vip).UDP(1000, 53).Payload(64).Bytes(), link.VifMAC(32), src),
		"isolated": build.Eth(build.IPv4("10.0.0.2", "10.0.0.130").TCP(1000, 80, "S").Bytes(), pod, src),
		"affinity": build.Eth(build.IPv4("10.0.0.2", vip).TCP(1000, 8888, "S").Bytes(), pod, src),
		"refused":  build.Eth(build.IPv4("10.0.0.2", nobody).TCP(1000, 80, "S").Bytes(), pod, src),
	}
}

// TestLoopDoesNotAllocate holds for every kind of packet, new flows included: the
// source port of each packet differs. It holds for messages between workers, too.
func TestLoopDoesNotAllocate(t *testing.T) {
	all := loads()
	all["cut"] = build.Eth(build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 53).Payload(5000).Bytes(), link.VifMAC(10), [6]byte{2, 1})
	all["error"] = build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").PortUnreachable(build.IPv4("10.0.0.3", "10.0.0.2").UDP(53, 1000).Bytes()).Bytes(), link.VifMAC(10), [6]byte{2, 1})
	for name, load := range all {
		port := 34 // of the source
		if name == "decap" || name == "dnat" {
			port += packet.TunnelLen
		}
		eachWorkers(t, func(t *testing.T, workers int) {
			b, n1, _ := twoNodes(t, workers)
			b.networks()
			b.affinity(60)
			send := func() {
				n1.links[n1.next%workers].Inject(load)
				n1.next++
				b.now += 1 << 25
				for range 3 {
					for _, w := range n1.workers {
						w.Turn(b.now)
					}
				}
			}
			for _, l := range n1.links {
				l.Blind = true
			}
			for range 100 { // buffers of the test link grow to their size
				send()
			}
			allocs := testing.AllocsPerRun(1000, func() {
				load[port]++
				send()
			})
			splits := n1.workers[0].count.Splits
			if name == "dnat" && workers > 1 && splits == 0 {
				t.Error("no pair was split")
			}
			if allocs != 0 {
				t.Errorf("%s: %v allocations per packet", name, allocs)
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
			if name == "cluster" || name == "isolated" {
				b.networks()
			}
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
