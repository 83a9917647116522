package steer_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// BenchmarkTCP moves bytes between two pods of a node; the router and both ends
// share the machine.
func BenchmarkTCP(b *testing.B) {
	for _, c := range []struct{ queues, mtu int }{{1, 1500}, {2, 1500}, {1, 9000}} {
		b.Run(fmt.Sprintf("queues=%d/MTU=%d", c.queues, c.mtu), func(b *testing.B) {
			n := newNode(b, "n", c.queues)
			from, to := n.addPod(b, 1, c.mtu), n.addPod(b, 2, c.mtu)
			s := n.open(b)
			startRouter(b, n, s)
			n.attach(b, s, from)
			n.attach(b, s, to)
			l := listen(b, to, to.Addr, 8080)
			go func() {
				if c, err := l.Accept(); err == nil {
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			conn, err := dial(b, from, "tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 1<<17)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := conn.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// skb is the beginning of struct __sk_buff (bpf.h), as the kernel takes it for a
// program run by hand.
type skb struct {
	_       [10]uint32
	Ifindex uint32
	_       [37]uint32
}

// BenchmarkProgram runs each program on one frame, in the kernel.
func BenchmarkProgram(b *testing.B) {
	n := newNode(b, "n", 2)
	a := n.addPod(b, 1, 1500)
	s := n.open(b)
	n.attach(b, s, a)
	fab := addFabric(b, n, s)
	tcp4 := build.IPv4("192.0.2.1", "192.0.2.2").TCP(1000, 80, "A").Payload(1400).Bytes()
	tcp6 := build.IPv6("2001:db8::1", "2001:db8::2").TCP(1000, 80, "A").Payload(1400).Bytes()
	fromWorker := ethernet(a.Vif.MAC, tcp4)
	mac := link.VifMAC(uint32(a.Vif.ID))
	copy(fromWorker[6:], mac[:])
	for _, c := range []struct {
		name, program string
		ifindex       int
		frame         []byte
	}{
		{"IPv4 from a pod", "from_vif", a.Vif.Ifindex, ethernet(table.RouterMAC, tcp4)},
		{"IPv6 from a pod", "from_vif", a.Vif.Ifindex, ethernet(table.RouterMAC, tcp6)},
		{"tunnel from the fabric", "from_fabric", fab.vif.Ifindex, ethernet(fab.vif.MAC, build.Tunnel(tcp4, fab.peer.String(), fab.addr.String(), 16))},
		{"not ours from the fabric", "from_fabric", fab.vif.Ifindex, ethernet(fab.vif.MAC, tcp4)},
		{"to a pod", "from_punt", n.Outer, fromWorker},
	} {
		b.Run(c.name, func(b *testing.B) {
			in(b, n.NS, func() {
				_, err := s.Program(c.program).Run(&ebpf.RunOptions{Data: c.frame, Context: skb{Ifindex: uint32(c.ifindex)}, Repeat: uint32(b.N)})
				if err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkCache runs from_vif on packets whose flow is in the cache of many, and on one whose flow
// is not.
func BenchmarkCache(b *testing.B) {
	bed := newBed(b, 1)
	const flows = 1000
	tcp := func(v6 bool, port uint16, dport uint16) []byte {
		if v6 {
			return build.IPv6("2001:db8::1", "2001:db8::2").TTL(255).TCP(port, dport, "A").Payload(1400).Bytes()
		}
		return build.IPv4("192.0.2.1", "192.0.2.2").TTL(255).TCP(port, dport, "A").Payload(1400).Bytes()
	}
	for i := range uint16(flows) {
		ip := tcp(i%2 == 0, 1000+i, 80)
		bed.put(b, flowOf(b, 1, ip, ip, toB))
	}
	there, back := tcp(false, 1, 80), tcp(false, 1, 8080) // each translated into the other
	bed.put(b, flowOf(b, 1, there, back, toB))
	bed.put(b, flowOf(b, 1, back, there, toB))
	for _, c := range []struct {
		name string
		ip   []byte
	}{
		{"hit/IPv4", tcp(false, 1001, 80)}, {"hit/IPv6", tcp(true, 1000, 80)}, {"hit/IPv4 port translated", there},
		{"miss/IPv4", tcp(false, 9, 80)}, {"miss/IPv6", tcp(true, 9, 80)},
	} {
		b.Run(c.name, func(b *testing.B) {
			in(b, bed.NS, func() {
				for left := b.N; left > 0; left -= 250 { // each run takes one from the TTL
					_, err := bed.s.Program("from_vif").Run(&ebpf.RunOptions{
						Data: ethernet(table.RouterMAC, c.ip), Context: skb{Ifindex: uint32(bed.a.Vif.Ifindex)}, Repeat: uint32(min(left, 250)),
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
