package xsk_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/xsk"
)

var _ link.Link = (*xsk.Socket)(nil)

const payload = frame.ChunkSize - frame.Headroom

// sizes are of Ethernet frames: from the smallest to the largest, and around the
// ends of chunks.
var sizes = []int{60, 1514, payload, payload + 1, 2 * payload, 9014, 65535 + 14}

func TestReceive(t *testing.T) {
	w := newWire(t, 1)
	b := make([]frame.Desc, 256)
	for _, size := range sizes {
		w.send(udp(size, size))
		run := w.receive(w.sockets[0], b)
		if got := w.bytes(run); !bytes.Equal(got, udp(size, size)) {
			t.Errorf("%d bytes: received %d others", size, len(got))
		}
		for i, d := range run {
			if d.Addr%frame.ChunkSize < frame.Headroom {
				t.Errorf("%d bytes: part %d has only %d bytes in front", size, i, d.Addr%frame.ChunkSize)
			}
			if last := i == len(run)-1; (d.Options&frame.Contd == 0) != last {
				t.Errorf("%d bytes: part %d of %d has options %d", size, i, len(run), d.Options)
			}
			w.pools[0].Put(d.Addr)
		}
	}
	if n := w.total(); n != chunks {
		t.Errorf("%d chunks, want %d", n, chunks)
	}
	if s, err := w.sockets[0].Stats(); err != nil || s.RxDropped+s.RxRingFull+s.TxInvalid != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

// TestWhole: a batch that is too short for the next packet ends before it.
func TestWhole(t *testing.T) {
	w := newWire(t, 1)
	for i := range 3 {
		w.send(udp(3*payload, i)) // 3 descriptors
	}
	w.await("three packets", func() bool { return w.sockets[0].Held() >= xsk.RingSize })
	b := make([]frame.Desc, 8)
	for i, want := range []int{6, 3} {
		if got := len(w.receive(w.sockets[0], b)); got != want {
			t.Fatalf("batch %d has %d descriptors, want %d", i, got, want)
		}
	}
}

func TestTransmit(t *testing.T) {
	w := newWire(t, 1)
	s := w.sockets[0]
	for _, size := range sizes {
		run := w.put(w.pools[0], udp(size, size))
		run[0].Options |= 0x80 // what a worker keeps there is none of the kernel's business
		if n := s.Transmit(run); n != len(run) {
			t.Fatalf("Transmit took %d of %d", n, len(run))
		}
		s.Flush()
		if got := w.read(); !bytes.Equal(got, udp(size, size)) {
			t.Errorf("%d bytes: %d others arrived", size, len(got))
		}
	}
	w.await("all chunks back", func() bool { s.Flush(); return w.total() == chunks })
	if st, err := s.Stats(); err != nil || st.TxInvalid+st.DeviceDrops+st.Down != 0 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

// TestForeign: what one worker received another transmits; each chunk goes home.
func TestForeign(t *testing.T) {
	const packets = 20000
	w := newWire(t, 2)
	b := make([]frame.Desc, 256)
	var got [2]int
	for i := 0; i < packets; {
		for range 64 {
			w.send(udp(200, i)) // the port chooses the queue
			i++
		}
		for q, s := range w.sockets {
			other := w.sockets[1-q]
			for n := s.Receive(b); n > 0; n = s.Receive(b) {
				got[q] += n
				if k := other.Transmit(b[:n]); k != n {
					t.Fatalf("Transmit took %d of %d", k, n)
				}
				other.Flush()
			}
		}
	}
	if got[0] < packets/4 || got[1] < packets/4 || got[0]+got[1] < packets {
		t.Errorf("the queues received %v packets of %d", got, packets)
	}
	w.await("all chunks back", func() bool {
		for _, s := range w.sockets {
			s.Flush()
		}
		return w.total() == 2*chunks
	})
}

// TestDown: while the device is down frames wait in the ring, the ring fills up
// to whole packets, and all leave once it is up.
func TestDown(t *testing.T) {
	w := newWire(t, 1)
	s := w.sockets[0]
	run(t, "ip -n "+w.ns+" link set x1 down")
	sent := 0
	for {
		d := w.put(w.pools[0], udp(3*payload, sent))
		if n := s.Transmit(d); n == 0 {
			for _, d := range d {
				w.pools[0].Put(d.Addr)
			}
			break
		} else if n != len(d) {
			t.Fatalf("Transmit took %d of %d descriptors of one packet", n, len(d))
		}
		sent++
	}
	if sent != xsk.RingSize/3 {
		t.Fatalf("the ring took %d packets of 3, want %d", sent, xsk.RingSize/3)
	}
	s.Flush()
	if st, _ := s.Stats(); st.Down == 0 || st.Kicks > 2 {
		t.Errorf("stats %+v: want one kick in vain", st)
	}
	run(t, "ip -n "+w.ns+" link set x1 up")
	seen := 0
	w.await("all frames", func() bool {
		s.Flush()
		buf := make([]byte, 1<<16)
		for {
			n, err := unix.Read(w.raw, buf)
			if err != nil {
				return seen == sent
			}
			if !bytes.Equal(buf[:n], udp(3*payload, seen)) {
				t.Fatalf("frame %d arrived wrong or out of order", seen)
			}
			seen++
		}
	})
	w.await("all chunks back", func() bool { s.Flush(); return w.total() == chunks })
}

// TestStarved: a worker that holds all its chunks loses what arrives, named; it
// receives again as soon as it gives them back.
func TestStarved(t *testing.T) {
	w := newWire(t, 1)
	s, b := w.sockets[0], make([]frame.Desc, 256)
	var held []uint64
	lost := func() uint64 {
		st, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return st.RxDropped
	}
	for i := 0; lost() == 0; i++ {
		for range 128 {
			w.send(udp(60, i))
		}
		for _, d := range b[:s.Receive(b)] {
			held = append(held, d.Addr)
		}
		if i > 1000 {
			t.Fatal("nothing is lost")
		}
	}
	if free := w.pools[0].Len(); free == 0 {
		t.Error("refilling left no reserve in the pool")
	}
	for n := 1; n > 0; {
		n = s.Receive(b)
		for _, d := range b[:n] {
			held = append(held, d.Addr)
		}
	}
	for _, a := range held {
		w.pools[0].Put(a)
	}
	s.Receive(b) // finds nothing, refills
	w.send(udp(99, 7))
	if got := w.bytes(w.receive(s, b)); !bytes.Equal(got, udp(99, 7)) {
		t.Errorf("received %d other bytes", len(got))
	}
}

// TestPoll: a worker that sleeps on the socket wakes for a packet.
func TestPoll(t *testing.T) {
	w := newWire(t, 1)
	s := w.sleeper(w.sockets[0])
	start := time.Now()
	s.Wait(50 * time.Millisecond)
	if time.Since(start) < 50*time.Millisecond {
		t.Error("does not sleep with nothing to do")
	}
	start = time.Now()
	go w.send(udp(60, 1))
	s.Wait(time.Minute)
	s.Wait(time.Minute) // it still waits there
	if time.Since(start) > 30*time.Second {
		t.Error("a packet does not end Wait")
	}
}

func TestErrors(t *testing.T) {
	w := newWire(t, 1)
	umem, err := xsk.NewUMEM(64)
	if err != nil {
		t.Fatal(err)
	}
	defer umem.Close()
	for _, c := range []struct {
		cfg  xsk.Config
		kind error
		text string
	}{
		{xsk.Config{Ifname: "x1"}, unix.EBUSY, "another process holds the queue"},
		{xsk.Config{Ifname: "x1", Queue: 7}, unix.EINVAL, "no such queue"},
		{xsk.Config{Ifname: "x9"}, unix.ENODEV, "on x9 queue 0"},
		{xsk.Config{Ifindex: 99}, unix.ENODEV, "on interface 99 queue 0"},
	} {
		t.Run(c.text, func(t *testing.T) {
			c.cfg.Pool, c.cfg.UMEM = frame.NewPools(64, 1)[0], umem
			var err error
			w.in(func() error { _, err = xsk.Open(c.cfg); return nil })
			if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("error %q, want %q", err, c.text)
			}
		})
	}
}

func TestNoAllocation(t *testing.T) {
	w := newWire(t, 1, 3) // 3: XDP_TX, x0 sends everything back
	s, b := w.sockets[0], make([]frame.Desc, 256)
	sleeper := w.sleeper(s)
	flying := 32
	for i := range flying {
		s.Transmit(w.put(w.pools[0], udp(60, i)))
	}
	if n := testing.AllocsPerRun(100, func() {
		s.Flush()
		sleeper.Wait(100 * time.Millisecond)
		s.Transmit(b[:s.Receive(b)])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkEcho sends frames to a peer that returns them, and counts round trips:
// per frame one copy out, one XDP program at each end and one copy in, all on this
// core.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{60, 1514, 9014} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWire(b, 1, 3)
			s, batch := w.sockets[0], make([]frame.Desc, 256)
			sleeper := w.sleeper(s)
			for i := range 64 {
				s.Transmit(w.put(w.pools[0], udp(size, i)))
			}
			s.Flush()
			b.SetBytes(int64(size))
			b.ResetTimer()
			for i := 0; i < b.N; {
				n := s.Receive(batch)
				for _, d := range batch[:n] {
					if d.Options&frame.Contd == 0 {
						i++
					}
				}
				s.Transmit(batch[:n])
				s.Flush()
				if n == 0 {
					sleeper.Wait(time.Millisecond)
				}
			}
		})
	}
}

// BenchmarkTransmit sends frames that the peer drops in XDP.
func BenchmarkTransmit(b *testing.B) {
	w := newWire(b, 1, 1) // 1: XDP_DROP
	s := w.sockets[0]
	var run []frame.Desc
	b.SetBytes(60)
	b.ResetTimer()
	for i := 0; i < b.N; {
		run = run[:0]
		for range 256 {
			addr, ok := w.pools[0].Get()
			if !ok {
				break
			}
			run = append(run, frame.Desc{Addr: addr + frame.Headroom, Len: 60})
		}
		n := s.Transmit(run)
		for _, d := range run[n:] {
			w.pools[0].Put(d.Addr)
		}
		s.Flush()
		i += n
	}
	b.StopTimer()
	st, _ := s.Stats()
	b.ReportMetric(float64(st.DeviceDrops)/float64(b.N), "drops/op")
	b.ReportMetric(float64(st.Kicks)/float64(b.N)*256, "kicks/256op")
}
