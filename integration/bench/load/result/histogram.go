package result

import (
	"math/bits"
	"time"
)

// sub is the number of buckets an octave has: values are kept to 1 part in 128.
const (
	subBits = 7
	sub     = 1 << subBits
	octaves = 40 // up to 2^46 ns, 19 hours
)

// Histogram counts durations in buckets of constant relative width, as HDR
// histograms do. It never allocates after New.
type Histogram struct {
	counts []uint64
	n      uint64
	sum    time.Duration
	max    time.Duration
}

// NewHistogram returns an empty histogram.
func NewHistogram() *Histogram {
	return &Histogram{counts: make([]uint64, sub*octaves)}
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[min(bucket(uint64(max(d, 0))), len(h.counts)-1)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// Merge adds the counts of another.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile returns the duration that a share q of all do not exceed, rounded up
// to its bucket's end.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.n))+1, h.n)
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(time.Duration(end(i)), h.max)
		}
	}
	return h.max
}

// Latency summarises the histogram; nil when it is empty.
func (h *Histogram) Latency() *Latency {
	if h.n == 0 {
		return nil
	}
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return &Latency{
		P50: us(h.Quantile(0.5)), P90: us(h.Quantile(0.9)), P99: us(h.Quantile(0.99)), P999: us(h.Quantile(0.999)),
		Max: us(h.max), Mean: us(h.sum) / float64(h.n),
	}
}

// bucket is v itself below sub; above, the octave and the subBits bits after
// the highest one.
func bucket(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)*sub + int(v>>shift) - sub
}

// end is the largest value of a bucket.
func end(i int) uint64 {
	if i < sub {
		return uint64(i)
	}
	shift := i/sub - 1
	return uint64(i%sub+sub+1)<<shift - 1
}
