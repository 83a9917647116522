package steer_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// netstat reads a counter of the namespace's TCP.
func netstat(t testing.TB, ns, name string) int {
	t.Helper()
	var text []byte
	in(t, ns, func() { text, _ = os.ReadFile("/proc/thread-self/net/netstat") })
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := range names {
			if names[j] == name {
				n, _ := strconv.Atoi(values[j])
				return n
			}
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}

// times is how often a flow changes hands in a test.
const times = 20

// change gives a flow, whose packets b's router sees, to the kernel and takes it back, many times.
// arrived is how many have reached their destination; each time some go either way.
func (b *bed) change(t *testing.T, flow *offload.Flow, arrived func() int) {
	t.Helper()
	flow.Handover = 7
	turns, longest := 0, time.Duration(0)
	for range times {
		begun := time.Now()
		for !takes(t, b.r, b, flow) {
			if turns++; time.Since(begun) > time.Minute { // on a busy machine hardly anything is ever at rest
				t.Fatalf("not taken in a minute: %+v", b.c.Slots()[flow.Handover])
			}
		}
		longest = max(longest, time.Since(begun))
		if rec, ok := b.record(t, flow.Key); !ok || rec.Handover != 0 {
			t.Fatalf("taken, and in the cache: %+v", rec)
		}
		up, there := b.r.forwarded.Load(), arrived()
		await(t, "packets in the kernel", func() bool { return arrived() > there+700 })
		if _, err := b.c.Delete(flow.Key); err != nil {
			t.Fatal(err)
		}
		await(t, "packets in the user plane", func() bool { return b.r.forwarded.Load() > up+500 })
	}
	t.Logf("%d times, %d turns in vain, at most %v; %d packets marked", times, turns, longest, b.r.marked.Load())
}

// TestHandoverTCP: a bulk connection goes to the kernel and comes back, many times, under full
// load: it always gets there soon, and what is sent arrives. How much is out of order is shown and
// not judged: a connection that sends from two processors, as this does, is so in the kernel
// without any hand-over.
func TestHandoverTCP(t *testing.T) {
	b := newBed(t, 1)
	b.r = startRouter(t, b.node, b.s, func(r *router) { r.slots = b.c.Slots() })
	client, server := connect(t, b.a, netip.AddrPortFrom(b.b.Addr, 8080), listen(t, b.b, b.b.Addr, 8080))
	stop, sent := make(chan bool), make(chan int64, 1)
	go func() { sent <- bulk(client, stop) }()
	var got atomic.Int64
	go func() {
		for p := make([]byte, 1<<17); ; {
			n, err := server.Read(p)
			if got.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	flow, _ := pair(tuple(client, packet.ProtoTCP), tuple(server, packet.ProtoTCP), 1, 2)
	flow.NH = toB
	await(t, "load", func() bool { return b.r.forwarded.Load() > 2000 })
	arrived := func() int { n, _ := received(t, b.b.NS, "eth0"); return int(n) }
	b.change(t, flow, arrived)
	close(stop)
	all := <-sent
	await(t, "all that was sent", func() bool { return got.Load() == all })
	t.Logf("%d of %d packets out of order", netstat(t, b.b.NS, "TCPOFOQueue"), arrived())
}

// numbered sends numbered datagrams from one pod to another, a burst and a rest, and watches
// how they arrive. They are sent by one thread on one processor: the kernel itself keeps
// no order among several.
type numbered struct {
	client, server                *net.UDPConn
	sent, arrived, late, farthest atomic.Int64
}

const burst = 24

func startNumbered(t *testing.T, from, to *pod) *numbered {
	t.Helper()
	s := &numbered{}
	in(t, to.NS, func() { s.server, _ = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr, 5353))) })
	in(t, from.NS, func() {
		s.client, _ = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr, 5353)))
	})
	if s.server == nil || s.client == nil {
		t.Fatal("no sockets")
	}
	must(t, s.server.SetReadBuffer(8<<20))
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.send(ctx) })
	done.Go(s.receive)
	t.Cleanup(func() {
		stop()
		s.client.Close()
		s.server.Close()
		done.Wait()
	})
	return s
}

func (s *numbered) send(ctx context.Context) {
	pin(runtime.NumCPU() - 1)
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for n := uint64(1); ctx.Err() == nil; <-tick.C {
		for range burst {
			if _, err := s.client.Write(binary.BigEndian.AppendUint64(nil, n)); err == nil {
				n++
				s.sent.Add(1)
			}
		}
	}
}

func (s *numbered) receive() {
	b, last := make([]byte, 100), int64(0)
	for {
		n, err := s.server.Read(b)
		if err != nil {
			return
		}
		if n != 8 {
			continue
		}
		s.arrived.Add(1)
		at := int64(binary.BigEndian.Uint64(b))
		if at < last {
			s.late.Add(1)
			s.farthest.Store(max(s.farthest.Load(), last-at))
		}
		last = max(last, at)
	}
}

func (s *numbered) tuple() packet.Tuple { return tuple(s.client, packet.ProtoUDP) }

// wantInOrder looks at what has arrived.
func (s *numbered) wantInOrder(t *testing.T) {
	t.Helper()
	t.Logf("%d of %d datagrams arrived", s.arrived.Load(), s.sent.Load())
	if n := s.late.Load(); n != 0 {
		t.Errorf("%d datagrams were overtaken, by up to %d others", n, s.farthest.Load())
	}
}

// TestHandover: nothing of a flow overtakes when it goes to the kernel, neither to a pod nor into
// a tunnel nor out of one.
func TestHandover(t *testing.T) {
	t.Run("same node", func(t *testing.T) {
		b := newBed(t, 1)
		b.r = startRouter(t, b.node, b.s, func(r *router) { r.slots = b.c.Slots() })
		s := startNumbered(t, b.a, b.b)
		flow := &offload.Flow{Key: offload.Key{From: 1, Tuple: s.tuple()}, To: s.tuple(), NH: toB, Scope: scope, Gen: 5}
		b.change(t, flow, func() int { return int(s.arrived.Load()) })
		s.wantInOrder(t)
	})
	t.Run("across nodes", func(t *testing.T) {
		near, far := twoNodes(t, 1600)
		s := startNumbered(t, near.a, far.a)
		into := &offload.Flow{Key: offload.Key{From: 1, Tuple: s.tuple()}, To: s.tuple(), NH: toPeer, Push: bedLabel, Entropy: entropy, Scope: scope, Gen: 5}
		outOf := &offload.Flow{Key: offload.Key{From: offload.FromLabel | bedLabel, Tuple: s.tuple()}, To: s.tuple(), NH: toA, Scope: scope, Gen: 5}
		arrived := func() int { return int(s.arrived.Load()) }
		near.change(t, into, arrived)
		s.wantInOrder(t)
		far.change(t, outOf, arrived)
		s.wantInOrder(t)
	})
}

// transmit sends a frame as a worker.
func (r *router) transmit(t *testing.T, f []byte) {
	t.Helper()
	addr, ok := r.pools[0].Get()
	if !ok {
		t.Fatal("no memory")
	}
	r.push(r.sockets[0], []frame.Desc{{Addr: addr, Len: uint32(copy(r.umem.Memory.Chunk(addr), f))}})
}

// takes begins a turn and tells whether the kernel takes the flow soon.
func takes(t *testing.T, r *router, b *bed, f *offload.Flow) bool {
	t.Helper()
	slot := &r.slots[f.Handover]
	r.turn.Lock()
	f.Turn = slot.Begin()
	r.turn.Unlock()
	b.put(t, f)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if slot.Taken() {
			return true
		}
	}
	return false
}

// bulk sends for as long as it is let, and returns how many bytes.
func bulk(c net.Conn, stop chan bool) (sent int64) {
	data := make([]byte, 1<<17)
	for {
		select {
		case <-stop:
			return sent
		default:
			c.SetDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Write(data)
			if sent += int64(n); err != nil {
				return sent
			}
		}
	}
}

// TestMarks: the packets of a pending flow go up, marked and counted as often as punt0 cuts them,
// until as many have come down and a fence says so. The one that finds nothing under way goes through.
func TestMarks(t *testing.T) {
	pin(0) // a fence is of use on the processor that frames came down on
	b := newBed(t, 1)
	b.listen(t)
	ip, out := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes(), build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).Payload(10).Bytes()
	from, frame := b.entering("a", ip)
	f := flowOf(t, from, ip, out, toB)
	slot := &b.c.Slots()[offload.MaxSlots-1]
	f.Handover, f.Turn = offload.MaxSlots-1, slot.Begin()
	b.put(t, f)
	mark := offload.Mark{Slot: f.Handover, Turn: f.Turn}
	up := func() {
		t.Helper()
		write(t, b.at["a"], frame)
		macs := b.wantUp(t, frame)
		if m := offload.MarkOf(macs); m != mark {
			t.Errorf("marked with %+v: % x", m, macs)
		}
	}
	down := func(m offload.Mark) {
		t.Helper()
		source := m.Down(uint32(b.b.Vif.ID))
		_, marked := b.leaving(toB, out)
		want := slices.Clone(marked)
		copy(marked[6:], source[:])
		b.r.transmit(t, marked)
		wantFrame(t, b.at["b"], want)
	}
	fence := func(m offload.Mark, up, down uint32) {
		t.Helper()
		frame := make([]byte, offload.FenceLen)
		(&offload.Fence{Mark: m, Up: up, Down: down}).Put(frame)
		b.r.transmit(t, frame)
		// It goes round once more: behind the first of these, before the second.
		for range 2 {
			_, plain := b.leaving(toB, out)
			want, source := slices.Clone(plain), link.VifMAC(uint32(b.b.Vif.ID))
			copy(plain[6:], source[:])
			b.r.transmit(t, plain)
			wantFrame(t, b.at["b"], want)
		}
	}
	up()
	up()
	fence(mark, 2, 2) // nothing has come down
	down(mark)
	fence(mark, 1, 1)
	up()
	if slot.Up != 3 || slot.Taken() {
		t.Errorf("%+v", slot)
	}
	down(mark)
	old := mark
	old.Turn--
	down(old) // a frame of another turn
	fence(mark, 3, 3)
	up()
	down(mark)
	fence(old, 4, 3)
	up()
	fence(mark, 5, 3) // two have been dropped
	write(t, b.at["a"], frame)
	_, want := b.leaving(toB, out)
	wantFrame(t, b.at["b"], want)
	if rec, _ := b.record(t, f.Key); !slot.Taken() || rec.Handover != 0 || rec.Packets != 1 {
		t.Errorf("%+v, slot %+v", rec, slot)
	}
	f.Turn = slot.Begin()
	mark.Turn = f.Turn
	b.put(t, f)
	up() // nothing is known of packets before
	slot.Begin()
	write(t, b.at["a"], frame)
	if macs := b.wantUp(t, frame); macs[6] != 0 {
		t.Errorf("marked in another turn: % x", macs)
	}
}
