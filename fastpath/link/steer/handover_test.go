package steer_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestHandover: a bulk connection goes to the kernel and comes back, many times, under full
// load. Nothing of it overtakes.
func TestHandover(t *testing.T) {
	b := newBed(t, 1)
	r := startRouter(t, b.node, b.s, func(r *router) { r.slots = b.c.Slots() })
	client, server := connect(t, b.a, netip.AddrPortFrom(b.b.Addr, 8080), listen(t, b.b, b.b.Addr, 8080))
	stop := make(chan bool)
	go bulk(client, stop)
	go io.Copy(io.Discard, server)
	defer close(stop)
	flow, _ := pair(tuple(client, packet.ProtoTCP), tuple(server, packet.ProtoTCP), 1, 2)
	flow.NH, flow.Handover = toB, 7
	slot := &b.c.Slots()[7]
	await(t, "load", func() bool { return r.forwarded.Load() > 2000 })

	const times = 20
	before, disordered := netstat(t, b.b.NS, "TCPOFOQueue"), 0
	turns, longest := 0, time.Duration(0)
	for range times {
		begun := time.Now()
		for !takes(t, r, b, flow) {
			if turns++; time.Since(begun) > 20*time.Second {
				t.Fatalf("not taken in 20 s: %+v", slot)
			}
		}
		longest = max(longest, time.Since(begun))
		if rec, ok := b.record(t, flow.Key); !ok || rec.Handover != 0 {
			t.Fatalf("taken, and in the cache: %+v", rec)
		}
		up := r.forwarded.Load()
		bytes := func() uint64 { rec, _ := b.record(t, flow.Key); return rec.Bytes }
		from := bytes()
		await(t, "packets in the kernel", func() bool { return bytes() > from+1<<20 })
		if _, err := b.c.Delete(flow.Key); err != nil {
			t.Fatal(err)
		}
		await(t, "packets in the user plane", func() bool { return r.forwarded.Load() > up+500 })
		if now := netstat(t, b.b.NS, "TCPOFOQueue"); now != before {
			t.Logf("%d packets out of order", now-before)
			before = now
			disordered++
		}
	}
	t.Logf("%d times, %d turns in vain, at most %v; %d packets marked; %d times out of order", times, turns, longest, r.marked.Load(), disordered)
	if disordered > times/5 { // what the worker has sent may still wait for a softirq, on a loaded machine
		t.Errorf("%d of %d times packets arrived out of order", disordered, times)
	}
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

// bulk sends for as long as it is let.
func bulk(c net.Conn, stop chan bool) {
	data := make([]byte, 1<<17)
	for {
		select {
		case <-stop:
			return
		default:
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	}
}

// TestMarks: the packets of a pending flow go up, marked and counted as often as punt0 cuts them,
// until as many have been transmitted. The one that finds nothing under way goes through.
func TestMarks(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	ip, out := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes(), build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).Payload(10).Bytes()
	from, frame := b.entering("a", ip)
	f := flowOf(t, from, ip, out, toB)
	slot := &b.c.Slots()[offload.MaxSlots-1]
	f.Handover, f.Turn = offload.MaxSlots-1, slot.Begin()
	b.put(t, f)
	up := func() {
		t.Helper()
		write(t, b.at["a"], frame)
		macs := b.wantUp(t, frame)
		if at, turn := offload.Mark(macs); at != f.Handover || turn != f.Turn {
			t.Errorf("marked with slot %d, turn %d: % x", at, turn, macs)
		}
	}
	up()
	up()
	slot.Sent(1)
	up()
	if slot.Up != 3 || slot.Taken() {
		t.Errorf("%+v", slot)
	}
	slot.Sent(2)
	write(t, b.at["a"], frame)
	_, want := b.leaving(toB, out)
	wantFrame(t, b.at["b"], want)
	if rec, _ := b.record(t, f.Key); !slot.Taken() || rec.Handover != 0 || rec.Packets != 1 {
		t.Errorf("%+v, slot %+v", rec, slot)
	}
	f.Turn = slot.Begin()
	b.put(t, f)
	up() // nothing is known of packets before
	slot.Begin()
	write(t, b.at["a"], frame)
	if macs := b.wantUp(t, frame); macs[6] != 0 {
		t.Errorf("marked in another turn: % x", macs)
	}
}
