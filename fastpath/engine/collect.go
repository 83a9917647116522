package engine

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// room is how much a process may allocate beside what is live before garbage is
	// collected in the midst of things: more than a large change leaves behind (0.3 GiB with
	// 10,000 services of 25 endpoints and 250,000 routes). A collection stops the workers
	// for moments, and those are long while a change keeps the other threads busy. Bytes; flow
	// tables and packet memory are mapped and do not count.
	room = 512 << 20
	// worth is how much has to be allocated since the last one, in bytes, and at least as
	// much as is live, for a collection at rest.
	worth = 32 << 20
	// The process is at rest when it allocated less than still in so long: neither reads a
	// change nor makes it.
	atRest = 200 * time.Millisecond
	still  = 1 << 20
	// apart is how long two collections at rest are apart, at least.
	apart = 2 * time.Second
)

// collector has garbage collected when the process is at rest, and what is free given
// back to the system. Where the operator has set GOGC, it does nothing.
type collector struct {
	// hold says whether workers keep their place in Go's scheduler when they sleep. Not
	// while this collects: who has let go of it need not be stopped, four times, by way of
	// another thread.
	hold    func(on bool)
	stirred chan struct{} // a request is answered, or about to be
	fixed   bool          // the operator has set GOGC

	// Its goroutine's own.
	seen      usage // when it last looked
	collected usage // when it last collected
	percent   int   // GOGC
}

func newCollector(hold func(on bool)) *collector {
	return &collector{hold: hold, stirred: make(chan struct{}, 1), fixed: os.Getenv("GOGC") != ""}
}

// stir says that somebody asks for something.
func (c *collector) stir() {
	select {
	case c.stirred <- struct{}{}:
	default: // it has not looked yet
	}
}

// run collects until ctx is done. It sleeps when the process was at rest once after a
// request, and all that was worth it is collected.
func (c *collector) run(ctx context.Context) error {
	rest := time.NewTimer(atRest)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.stirred:
			rest.Reset(atRest)
		case <-rest.C:
			if wait := c.look(); wait > 0 {
				rest.Reset(wait)
			}
		}
	}
}

// look collects if it is time, and says when to look again. 0: when somebody asks for
// something.
func (c *collector) look() time.Duration {
	before := c.seen
	c.tune()
	switch now := c.seen; {
	case c.fixed:
		return 0
	case now.allocated-before.allocated > still:
		return atRest
	case now.allocated-c.collected.allocated < max(worth, now.live):
		return 0
	case now.at.Sub(c.collected.at) < apart:
		return apart - now.at.Sub(c.collected.at)
	}
	c.hold(false)
	debug.FreeOSMemory() // collects first
	c.hold(true)
	c.tune()
	c.collected = c.seen
	return 0
}

// tune makes the next collection that is not ours begin when there is room's worth of
// garbage; or, where more than that is live, as much as is live. How much is live is
// known since the last collection, whoever began it: while requests are under way it is
// looked at again and again.
func (c *collector) tune() {
	c.seen = use()
	if percent := percentFor(c.seen.live); !c.fixed && percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor is GOGC for so many bytes live.
func percentFor(live uint64) int {
	const least = 4 << 20 // the runtime counts less as this much
	return int(max(room*100/max(live, least), 100))
}

// usage is what the runtime says of its memory, in bytes.
type usage struct {
	at              time.Time
	allocated, live uint64 // since the program began; at the last collection
}

func use() usage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return usage{time.Now(), s[0].Value.Uint64(), s[1].Value.Uint64()}
}
