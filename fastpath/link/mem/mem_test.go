package mem_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
)

var _ link.Link = (*mem.Link)(nil)

const chunks = 64

func newLink() (*mem.Link, *frame.Pool, frame.Memory) {
	m := frame.Memory(make([]byte, chunks*frame.ChunkSize))
	pool := frame.NewPools(chunks, 1)[0]
	return mem.New(m, pool), pool, m
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func TestLoop(t *testing.T) {
	l, pool, memory := newLink()
	sizes := []int{14, 60, 1514, mem.Payload, mem.Payload + 1, 9014, 65535}
	for _, n := range sizes {
		l.Inject(pattern(n))
	}
	b := make([]frame.Desc, 256)
	n := l.Receive(b)
	for _, d := range b[:n] {
		if d.Addr%frame.ChunkSize != frame.Headroom {
			t.Fatalf("a part starts at %d of its chunk, want %d", d.Addr%frame.ChunkSize, frame.Headroom)
		}
		if len(memory.Bytes(d)) == 0 {
			t.Fatal("an empty part")
		}
	}
	if got := l.Transmit(b[:n]); got != n {
		t.Fatalf("Transmit took %d of %d", got, n)
	}
	l.Flush()
	sent := l.Sent()
	if len(sent) != len(sizes) || pool.Len() != chunks {
		t.Fatalf("%d frames sent, %d chunks free", len(sent), pool.Len())
	}
	for i, s := range sent {
		if !bytes.Equal(s, pattern(sizes[i])) {
			t.Errorf("frame %d of %d bytes came back as %d others", i, sizes[i], len(s))
		}
	}
	if len(l.Sent()) != 0 || l.Flushes() != 1 {
		t.Error("Sent repeats, or Flush is not counted")
	}
}

// TestWhole: a packet is never cut, by a short batch, an empty pool or a full ring.
func TestWhole(t *testing.T) {
	l, pool, _ := newLink()
	for range 4 {
		l.Inject(pattern(3 * mem.Payload))
	}
	b := make([]frame.Desc, 8)
	if n := l.Receive(b); n != 6 {
		t.Fatalf("received %d descriptors, want two packets of 3", n)
	}
	var taken []uint64
	for pool.Len() > 2 {
		a, _ := pool.Get()
		taken = append(taken, a)
	}
	if n := l.Receive(b[6:]); n != 0 {
		t.Fatalf("received %d descriptors from an empty pool", n)
	}
	l.Room = 5
	if n := l.Transmit(b[:6]); n != 3 {
		t.Fatalf("Transmit took %d descriptors into a room of 5, want 3", n)
	}
	if n := l.Transmit(b[3:6]); n != 0 {
		t.Fatalf("Transmit took %d descriptors into a room of 2", n)
	}
	l.Flush()
	if n := l.Transmit(b[3:6]); n != 3 {
		t.Fatalf("Transmit took %d descriptors after Flush, want 3", n)
	}
	for _, a := range taken {
		pool.Put(a)
	}
	if n := l.Receive(b); n != 6 {
		t.Fatalf("received %d descriptors, want the remaining two packets", n)
	}
}

func TestWake(t *testing.T) {
	l, _, _ := newLink()
	go l.Wake()
	start := time.Now()
	l.Wait(time.Minute)
	go l.Inject(pattern(60))
	l.Wait(time.Minute)
	l.Wait(time.Minute) // something waits: no sleep
	if time.Since(start) > 30*time.Second {
		t.Fatal("Wait slept through Wake")
	}
}

func TestNoAllocation(t *testing.T) {
	l, _, _ := newLink()
	l.Blind = true
	data := pattern(4096)
	b := make([]frame.Desc, 64)
	if n := testing.AllocsPerRun(100, func() {
		for range 8 {
			l.Inject(data)
		}
		l.Transmit(b[:l.Receive(b)])
		l.Flush()
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
