package steer_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// rawSocket opens a packet socket on a device; what it receives of other devices' is not seen.
func rawSocket(t testing.TB, ns string, ifindex int) int {
	t.Helper()
	fd, err := -1, error(nil)
	in(t, ns, func() {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func write(t testing.TB, fd int, f []byte) {
	t.Helper()
	if _, err := unix.Write(fd, f); err != nil {
		t.Fatalf("send %d bytes: %v", len(f), err)
	}
}

// ethernet puts an Ethernet header in front of an IP packet.
func ethernet(dst table.MAC, ip []byte) []byte {
	f := append(dst[:], 2, 0, 0, 0, 0, 99, 8, 0)
	if ip[0]>>4 == 6 {
		f[12], f[13] = 0x86, 0xdd
	}
	return append(f, ip...)
}

// generator makes random packets of every kind that steering tells apart.
type generator struct{ *rand.Rand }

func (g generator) u16() uint16 { return uint16(g.Uint32()) }

func (g generator) pick(s ...string) string { return s[g.IntN(len(s))] }

func (g generator) packet(depth int) []byte {
	v6 := g.IntN(2) == 0
	src, dst := g.pick("192.0.2.1", "192.0.2.77", "198.51.100.9"), g.pick("192.0.2.2", "203.0.113.200")
	if v6 {
		src, dst = g.pick("2001:db8::1", "2001:db8:1:2:3:4:5:6"), g.pick("2001:db8::2", "2001:db8:ffff::9")
	}
	p := build.IP(src, dst)
	if !v6 && g.IntN(4) == 0 {
		p.Options(bytes.Repeat([]byte{1}, 1+g.IntN(40))...) // no-operations
	}
	fragment := g.IntN(5) == 0
	tail := fragment && g.IntN(2) == 0
	if v6 {
		if g.IntN(4) == 0 {
			p.Ext(packet.ProtoHopByHop, 8+8*g.IntN(4))
		}
		for range g.IntN(4) {
			p.Ext([]uint8{packet.ProtoDestOpts, packet.ProtoRouting}[g.IntN(2)], 8+8*g.IntN(4))
		}
	}
	if fragment {
		off := 0
		if tail {
			off = 8 * (3 + g.IntN(100))
		}
		p.Frag(g.Uint32(), off, g.IntN(4) > 0)
	}
	if v6 && !tail && g.IntN(4) == 0 {
		p.Ext(packet.ProtoDestOpts, 8)
	}
	g.l4(p, depth)
	return p.Bytes()
}

func (g generator) l4(p *build.Packet, depth int) {
	size := 8 * g.IntN(20)
	switch kind := g.IntN(9); {
	case kind == 0:
		p.TCP(g.u16(), g.u16(), "S")
	case kind == 1:
		p.UDP(g.u16(), g.u16())
	case kind == 2:
		p.SCTP(g.u16(), g.u16())
	case kind == 3:
		p.Echo(g.u16(), g.u16())
	case kind == 4:
		p.EchoReply(g.u16(), g.u16())
	case kind == 5:
		p.Proto([]uint8{47, 50, 51, 59, 132 + 4}[g.IntN(5)])
		size += 8
	case depth > 0 && kind == 6:
		p.TimeExceeded(g.quote(depth))
		return
	case depth > 0 && kind == 7:
		p.PortUnreachable(g.quote(depth))
		return
	default:
		p.FragNeeded(1400, g.quote(max(depth, 1)))
		return
	}
	p.Payload(size)
}

// quote is the beginning of a packet, as an error quotes it.
func (g generator) quote(depth int) []byte {
	b := g.packet(depth - 1)
	if g.IntN(3) == 0 {
		b = b[:min(len(b), 28+8*g.IntN(10))]
	}
	return b
}

// TestOwner sends random packets from a pod, and in tunnels from the fabric; each
// arrives on the queue of the worker that package packet names, and unchanged behind
// its Ethernet addresses.
func TestOwner(t *testing.T) {
	const queues, rounds, batch = 8, 60, 64
	n := newNode(t, "n", queues)
	a := n.addPod(t, 1, 9000)
	s := n.open(t)
	r := openSockets(t, n, s)
	n.attach(t, s, a)
	fab := addFabric(t, n, s)
	fromPod := rawSocket(t, a.NS, ifindexIn(t, a.NS, "eth0"))
	fromFabric := rawSocket(t, fab.ns, ifindexIn(t, fab.ns, "eth0"))

	g := generator{rand.New(rand.NewPCG(5, 6))}
	compared, perQueue := 0, [queues]int{}
	var faults [256]int
	for round := range rounds {
		sent := map[string]bool{}
		for range batch {
			ip := g.packet(2)
			f, fd, id := ethernet(a.Vif.MAC, ip), fromPod, a.Vif.ID
			if round%2 == 1 {
				out := make([]byte, packet.TunnelLen+len(ip))
				packet.PutTunnel(out, &packet.Outer{Src: fab.peer.As4(), Dst: fab.addr.As4(), Sport: g.u16(), Label: 16 + g.Uint32()%1000}, len(ip))
				copy(out[packet.TunnelLen:], ip)
				f, fd, id = ethernet(fab.vif.MAC, out), fromFabric, fab.vif.ID
			}
			write(t, fd, f)
			mac := link.VifMAC(uint32(id))
			copy(f, mac[:])
			clear(f[len(mac) : 2*len(mac)]) // no mark
			sent[string(f)] = true
		}
		for len(sent) > 0 {
			q, f := r.next(t)
			if !sent[string(f)] {
				continue // the pod's own IPv6 chatter
			}
			delete(sent, string(f))
			at := 14
			if round%2 == 1 {
				at += packet.TunnelLen
			}
			var in packet.Info
			fault := packet.ParseIP(f, at, len(f)-at, &in)
			faults[fault]++
			if fault != packet.FaultNone {
				continue // some worker will drop it
			}
			compared++
			perQueue[q]++
			if want := packet.Owner(in.Hash(), queues); q != want {
				t.Fatalf("queue %d, want %d: %s", q, want, build.Describe(f[at:]))
			}
		}
	}
	t.Logf("%d compared, per queue %v, by fault %v", compared, perQueue, faults[:24])
	if compared < rounds*batch/2 {
		t.Errorf("only %d of %d packets were well-formed", compared, rounds*batch)
	}
}

// TestSeats: two devices that share a seat are told apart, also when the one that has it goes.
func TestSeats(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500, "index 20000"), n.addPod(t, 2, 1500, "index", fmt.Sprint(20000+1<<14))
	s := n.open(t)
	r := openSockets(t, n, s)
	n.attach(t, s, a)
	n.attach(t, s, b)
	out := map[*pod]int{}
	for _, p := range n.Pods {
		out[p] = rawSocket(t, p.NS, ifindexIn(t, p.NS, "eth0"))
	}
	ip := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Bytes()
	from := func(p *pod) {
		t.Helper()
		write(t, out[p], ethernet(table.RouterMAC, ip))
		for {
			_, f := r.next(t)
			if !bytes.Equal(f[14:], ip) {
				continue // pods speak by themselves
			}
			if id, ok := link.VifOf(f); !ok || id != uint32(p.Vif.ID) {
				t.Errorf("a frame of vif %d is vif %d's", p.Vif.ID, id)
			}
			return
		}
	}
	from(a)
	from(b)
	must(t, s.DetachVif(b.Vif.ID))
	from(a)
	dropped := n.drops(t, s, "steer-unknown-device")
	write(t, out[b], ethernet(table.RouterMAC, ip))
	await(t, "a drop", func() bool { return n.drops(t, s, "steer-unknown-device") > dropped })
	n.attach(t, s, b)
	must(t, s.DetachVif(a.Vif.ID))
	from(b)
}

// openSockets opens a router's sockets without its workers: the test reads them.
func openSockets(t testing.TB, n *node, s interface{ SetSocket(int, int) error }) *router {
	t.Helper()
	var r *router
	var err error
	in(t, n.NS, func() { r, err = newRouter(n, s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r
}

// next waits for a packet and returns the queue and a copy of it.
func (r *router) next(t testing.TB) (queue int, f []byte) {
	t.Helper()
	await(t, "a frame for a worker", func() bool { queue, f = r.try(); return f != nil })
	return queue, f
}

// try returns a waiting packet, if there is one.
func (r *router) try() (queue int, f []byte) {
	b := make([]frame.Desc, frame.MaxRun)
	for q, x := range r.sockets {
		if len(r.waiting) == 0 {
			for _, d := range b[:x.Receive(b)] {
				r.waiting = append(r.waiting, d)
				r.queue = q
			}
		}
	}
	for len(r.waiting) > 0 {
		d := r.waiting[0]
		r.waiting = r.waiting[1:]
		f = append(f, r.umem.Memory.Bytes(d)...)
		r.pools[r.queue].Put(d.Addr)
		if d.Options&frame.Contd == 0 {
			break
		}
	}
	return r.queue, f
}
