package engine

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestCollectsAtRest: garbage is collected when a request is over, once, and not where
// the operator has set GOGC.
func TestCollectsAtRest(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for _, c := range []struct {
		gogc string
		want uint64 // collections
	}{{"", 1}, {"400", 0}} {
		t.Setenv("GOGC", c.gogc)
		ctx, stop := context.WithCancel(t.Context())
		g := newCollector()
		g.tune()
		done := make(chan error)
		before := forced()
		var kept [][]byte
		for range 2 * worth >> 20 {
			kept = append(kept, make([]byte, 1<<20))
		}
		kept[0][0], kept = 1, nil
		go func() { done <- g.run(ctx) }()
		g.stir()
		wait := time.Second // for what must not happen
		if c.want > 0 {
			wait = 20 * time.Second
		}
		for end := time.Now().Add(wait); time.Now().Before(end) && (c.want == 0 || forced() == before); {
			time.Sleep(10 * time.Millisecond)
		}
		g.stir() // nothing was allocated since
		time.Sleep(2 * atRest)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := forced() - before; n != c.want {
			t.Errorf("GOGC %q: %d collections at rest, want %d", c.gogc, n, c.want)
		}
	}
}

func TestGCPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 12800}, {4 << 20, 12800}, // the runtime counts as if 4 MiB were live
		{64 << 20, 800}, // so that garbage may be 512 MiB
		{512 << 20, 100},
		{4 << 30, 100}, // as much garbage as is live
	} {
		if got := percentFor(c.live); got != c.want {
			t.Errorf("%d bytes live: GOGC %d, want %d", c.live, got, c.want)
		}
	}
}

// forced is how many collections the process itself has asked for.
func forced() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
