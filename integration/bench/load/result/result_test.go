package result

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreContiguous(t *testing.T) {
	for i := range sub * 20 {
		last := end(i)
		if bucket(last) != i || bucket(last+1) != i+1 {
			t.Fatalf("bucket %d ends at %d: bucket(%d) = %d, bucket(%d) = %d", i, last, last, bucket(last), last+1, bucket(last+1))
		}
	}
}

// TestQuantiles compares with a sorted list of all values.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := NewHistogram(), NewHistogram()
	var all []time.Duration
	for i := range 100_000 {
		d := time.Duration(r.ExpFloat64() * float64(50*time.Microsecond))
		all = append(all, d)
		if i%2 == 0 {
			a.Add(d)
		} else {
			b.Add(d)
		}
	}
	a.Merge(b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		if got := a.Quantile(q); got < want || float64(got-want) > float64(want)/100+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if NewHistogram().Latency() != nil {
		t.Error("an empty histogram has a latency")
	}
}

func TestParseTicks(t *testing.T) {
	got := parseTicks("cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 50 10 15 2000 25 3 4 4 0 0\ncpu1 50 10 15 2000 25 3 3 4 0 0\nintr 1\n")
	if want := (ticks{idle: 4050, softirq: 7, steal: 8, processors: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBusyIsWhatWasNotIdle(t *testing.T) {
	before := ticks{idle: 100, steal: 10, processors: 2}
	after := ticks{idle: 150, steal: 20, processors: 2}
	if got := after.busySince(before, time.Second); got != 1.4 {
		t.Errorf("%v s of two processors in one second, want 1.4", got)
	}
	if got := after.busySince(before, 200*time.Millisecond); got != 0 {
		t.Errorf("%v s, want 0: idle time comes in ticks and may exceed what passed", got)
	}
}
