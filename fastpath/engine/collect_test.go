package engine

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestCollectsAtRest: garbage is collected when nothing is allocated any more, if it is
// worth it and the last collection is a while ago.
func TestCollectsAtRest(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	c := newCollector(func(bool) {})
	c.tune()
	look := func(what string, collects bool, again bool) {
		t.Helper()
		before := forced()
		wait := c.look()
		if n := forced() - before; (n > 0) != collects || (wait > 0) != again {
			t.Errorf("%s: %d collections, looks again in %v", what, n, wait)
		}
	}
	waste(2 * worth)
	look("a request is under way", false, true)
	look("it is over", true, false)
	c.collected.at = c.collected.at.Add(-apart)
	look("a while later", false, false)
	waste(2 * worth)
	look("another", false, true)
	look("it is over", true, false)
	waste(2 * worth)
	look("and one more", false, true)
	look("it is over, soon after the other", false, true)
	c = newCollector(func(bool) {})
	c.tune()
	c.collected = c.seen
	waste(worth / 2)
	look("a small one", false, true)
	look("it is over", false, false)
	t.Setenv("GOGC", "400")
	c = newCollector(func(bool) {})
	waste(2 * worth)
	look("the operator has set GOGC", false, false)
}

// TestCollects: a request is enough to have it done.
func TestCollects(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	ctx, stop := context.WithCancel(t.Context())
	c, done := newCollector(func(bool) {}), make(chan error)
	before := forced()
	waste(2 * worth)
	go func() { done <- c.run(ctx) }()
	c.stir()
	for end := time.Now().Add(20 * time.Second); forced() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("nothing was collected in 20 s")
			break
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// waste leaves so many bytes of garbage.
func waste(bytes int) {
	kept := make([][]byte, 0, bytes>>20)
	for range bytes >> 20 {
		kept = append(kept, make([]byte, 1<<20))
	}
	runtime.KeepAlive(kept)
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
