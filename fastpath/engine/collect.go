package engine

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// room is how much a process may allocate beside what is live before garbage is
	// collected in the midst of things: what a large change leaves behind (0.5 GiB with
	// 10,000 services of 25 endpoints and 250,000 routes). A collection stops the workers
	// for moments, and those are long while a change keeps the other threads busy. Bytes; flow
	// tables and packet memory are mapped and do not count.
	room = 512 << 20
	// worth is how much has to be allocated since, in bytes, for a collection at rest.
	worth = 32 << 20
	// atRest is how long nobody has asked for anything when it begins.
	atRest = 200 * time.Millisecond
)

// collector has garbage collected when the process is at rest, and what is free given
// back to the system.
type collector struct {
	asked   atomic.Int64  // requests under way
	stirred chan struct{} // one has ended
	fixed   bool          // the operator chose GOGC

	// Its goroutine's own.
	percent   int    // GOGC
	cycles    uint64 // collections so far
	collected uint64 // bytes allocated when it last collected
}

func newCollector() *collector {
	return &collector{stirred: make(chan struct{}, 1), fixed: os.Getenv("GOGC") != ""}
}

// busy and done are said around each request.
func (c *collector) busy() { c.asked.Add(1) }

func (c *collector) done() {
	c.asked.Add(-1)
	select {
	case c.stirred <- struct{}{}:
	default: // it has not looked yet
	}
}

// run collects until ctx is done.
func (c *collector) run(ctx context.Context) error {
	rest := time.NewTimer(atRest)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.stirred:
			c.tune()
			rest.Reset(atRest)
			continue
		case <-rest.C:
		}
		if u := look(); c.asked.Load() == 0 && u.allocated-c.collected > worth {
			debug.FreeOSMemory() // collects first
			c.collected = u.allocated
			c.tune()
		}
	}
}

// tune makes the next collection that is not ours begin when there is room's worth of
// garbage; or, where more than that is live, as much as is live. It has an effect after
// a collection, whoever began it.
func (c *collector) tune() {
	u := look()
	if c.fixed || c.percent != 0 && u.cycles == c.cycles {
		return
	}
	c.cycles = u.cycles
	if percent := percentFor(u.live); percent != c.percent { // it stops the workers, too
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor is GOGC for so many bytes live, in steps of an eighth of itself at most.
func percentFor(live uint64) int {
	const least = 4 << 20 // the runtime counts less as this
	percent := room / (max(live, least) / 100)
	step := uint64(1)
	for step*16 <= percent {
		step *= 2
	}
	return int(max(percent/step*step, 100))
}

// usage is what the runtime says of its memory.
type usage struct{ allocated, live, cycles uint64 }

func look() usage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return usage{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()}
}
