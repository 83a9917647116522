package frame_test

import (
	"math/rand/v2"
	"testing"

	"github.com/vragent/vragent/fastpath/frame"
)

func TestMemory(t *testing.T) {
	m := frame.Memory(make([]byte, 3*frame.ChunkSize))
	d := frame.Desc{Addr: frame.ChunkSize + 300, Len: 60}
	b := m.Bytes(d)
	if len(b) != 60 || cap(b) != frame.ChunkSize-300 {
		t.Fatalf("len %d cap %d", len(b), cap(b))
	}
	b[0] = 7
	if c := m.Chunk(d.Addr); len(c) != frame.ChunkSize || cap(c) != frame.ChunkSize || c[300] != 7 {
		t.Fatalf("Chunk: len %d cap %d c[300] %d", len(c), cap(c), c[300])
	}
	if a := frame.Base(d.Addr); a != frame.ChunkSize {
		t.Fatalf("Base is %d", a)
	}
}

// TestEveryChunkOnce: workers hand chunks around as they like; each chunk has
// one holder, and all come home.
func TestEveryChunkOnce(t *testing.T) {
	const chunks, workers = 64, 3
	pools := frame.NewPools(chunks, workers)
	rnd := rand.New(rand.NewPCG(3, 4))
	held := map[uint64]bool{}
	for range 50000 {
		p := pools[rnd.IntN(workers)]
		if rnd.IntN(2) == 0 {
			addr, ok := p.Get()
			if !ok {
				continue
			}
			if addr%frame.ChunkSize != 0 || addr >= chunks*workers*frame.ChunkSize || held[addr] {
				t.Fatalf("Get returned %#x, held already: %v", addr, held[addr])
			}
			held[addr] = true
		} else {
			for addr := range held {
				delete(held, addr)
				p.Put(addr + rnd.Uint64N(frame.ChunkSize))
				break
			}
		}
	}
	for addr := range held {
		pools[0].Put(addr)
	}
	for i, p := range pools {
		if p.Len() != chunks {
			t.Errorf("pool %d has %d chunks, want %d", i, p.Len(), chunks)
		}
		for range chunks {
			if addr, ok := p.Get(); !ok || addr/(chunks*frame.ChunkSize) != uint64(i) {
				t.Fatalf("pool %d returned %#x %v, not its own", i, addr, ok)
			}
		}
		if _, ok := p.Get(); ok {
			t.Errorf("pool %d returned a chunk too many", i)
		}
	}
}

func TestDoublePutPanics(t *testing.T) {
	pools := frame.NewPools(4, 2)
	for i, addr := range []uint64{0, 4 * frame.ChunkSize} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("case %d: no panic", i)
				}
			}()
			for range 5 {
				pools[0].Put(addr)
			}
		}()
	}
}

// TestTwoWorkers moves chunks home while the home takes them, for the race detector.
func TestTwoWorkers(t *testing.T) {
	const chunks, rounds = 32, 20000
	pools := frame.NewPools(chunks, 2)
	taken := make(chan uint64, chunks)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for addr := range taken {
			pools[1].Put(addr)
		}
	}()
	for n := 0; n < rounds; {
		if addr, ok := pools[0].Get(); ok {
			taken <- addr
			n++
		}
	}
	close(taken)
	<-done
	if n := pools[0].Len(); n != chunks {
		t.Fatalf("%d chunks came home, want %d", n, chunks)
	}
}

func BenchmarkGetPut(b *testing.B) {
	p := frame.NewPools(4096, 2)[0]
	for b.Loop() {
		a, _ := p.Get()
		p.Put(a)
	}
}

// TestLarge: large buffers lie behind the chunks, aligned and apart, and find home from
// any worker and by any address inside.
func TestLarge(t *testing.T) {
	pools := frame.NewPools(3, 2)
	size := frame.AddLarge(pools, 2)
	if want := frame.LargeSize + 4*frame.LargeSize; size != want { // six chunks, rounded up
		t.Errorf("memory of %d bytes, want %d", size, want)
	}
	seen := map[uint64]bool{}
	for i, p := range pools {
		for range 2 {
			addr, ok := p.GetLarge()
			if !ok || addr%frame.LargeSize != 0 || addr < frame.LargeSize || seen[addr] {
				t.Fatalf("worker %d: buffer at %d, %v", i, addr, ok)
			}
			seen[addr] = true
		}
		if _, ok := p.GetLarge(); ok {
			t.Errorf("worker %d has a third buffer", i)
		}
		if p.Len() != 3 {
			t.Errorf("worker %d has %d chunks", i, p.Len())
		}
	}
	for addr := range seen {
		pools[0].Put(addr + frame.LargeSize - 1)
	}
	for i, p := range pools {
		for range 2 {
			if _, ok := p.GetLarge(); !ok {
				t.Errorf("worker %d misses a buffer", i)
			}
		}
	}
	if _, ok := frame.NewPools(3, 1)[0].GetLarge(); ok {
		t.Error("a buffer where there are none")
	}
}

func TestOffload(t *testing.T) {
	for _, udp := range []bool{false, true} {
		for _, start := range []uint16{0, 34, frame.OffloadStartMax} {
			for _, size := range []uint16{0, 1, 65535} {
				o := frame.OffloadOf(frame.NewOffload(udp, start, size).Options() | frame.Contd)
				if !o.Partial() || o.UDP() != udp || o.Start() != int(start) || o.Size() != int(size) || o&frame.OffloadLarge != 0 {
					t.Errorf("%v, %d, %d: %#x", udp, start, size, o)
				}
			}
		}
	}
	if o := frame.OffloadOf(frame.Contd); o != 0 || o.Partial() {
		t.Errorf("nothing is %#x", o)
	}
}
