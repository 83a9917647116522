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
