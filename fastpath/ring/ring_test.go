package ring_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/vragent/vragent/fastpath/ring"
)

// TestTwin drives a ring and a slice with the same random calls.
func TestTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, capacity := range []int{1, 2, 5, 64} {
		r := ring.New[int](capacity)
		var twin []int
		next := 0
		buf := make([]int, 2*r.Cap())
		for range 20000 {
			switch rnd.IntN(4) {
			case 0:
				if ok := r.Push(next); ok != (len(twin) < r.Cap()) {
					t.Fatalf("capacity %d: Push is %v with %d waiting", capacity, ok, len(twin))
				} else if ok {
					twin = append(twin, next)
				}
				next++
			case 1:
				v := buf[:rnd.IntN(len(buf))]
				for i := range v {
					v[i] = next
					next++
				}
				n := r.PushAll(v)
				if want := min(len(v), r.Cap()-len(twin)); n != want {
					t.Fatalf("capacity %d: PushAll took %d, want %d", capacity, n, want)
				}
				twin = append(twin, v[:n]...)
			case 2:
				var v int
				if ok := r.Pop(&v); ok != (len(twin) > 0) {
					t.Fatalf("capacity %d: Pop is %v with %d waiting", capacity, ok, len(twin))
				} else if ok {
					compare(t, []int{v}, twin[:1])
					twin = twin[1:]
				}
			case 3:
				v := buf[:rnd.IntN(len(buf))]
				n := r.PopAll(v)
				compare(t, v[:n], twin[:min(len(v), len(twin))])
				twin = twin[n:]
			}
			if r.Len() != len(twin) {
				t.Fatalf("Len is %d, want %d", r.Len(), len(twin))
			}
		}
	}
}

func compare(t *testing.T, got, want []int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("took %d elements, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("element %d is %d, want %d", i, got[i], want[i])
		}
	}
}

// TestTwoGoroutines passes a million numbers through a small ring, in order.
func TestTwoGoroutines(t *testing.T) {
	const total = 1_000_000
	r := ring.New[uint64](128)
	go func() {
		batch := make([]uint64, 0, 32)
		for i := uint64(0); i < total; {
			batch = batch[:0]
			for j := i; j < min(i+32, total); j++ {
				batch = append(batch, j)
			}
			n := r.PushAll(batch)
			if n == 0 {
				runtime.Gosched()
			}
			i += uint64(n)
		}
	}()
	buf := make([]uint64, 48)
	for want := uint64(0); want < total; {
		n := r.PopAll(buf)
		if n == 0 {
			runtime.Gosched()
		}
		for _, v := range buf[:n] {
			if v != want {
				t.Fatalf("took %d, want %d", v, want)
			}
			want++
		}
		if l := r.Len(); l < 0 || l > r.Cap() {
			t.Fatalf("Len is %d", l)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r := ring.New[uint64](64)
	v := make([]uint64, 16)
	if n := testing.AllocsPerRun(100, func() {
		r.Push(1)
		r.PushAll(v)
		r.Pop(&v[0])
		r.PopAll(v)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkPushPop(b *testing.B) {
	r := ring.New[uint64](1024)
	var v uint64
	for b.Loop() {
		r.Push(v)
		r.Pop(&v)
	}
}

func BenchmarkBatch32(b *testing.B) {
	r := ring.New[uint64](1024)
	v := make([]uint64, 32)
	for b.Loop() {
		r.PushAll(v)
		r.PopAll(v)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/elem")
}
