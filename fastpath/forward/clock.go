package forward

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock tells CLOCK_MONOTONIC in nanoseconds: the clock of flow entries, which
// outlive this process but not the node. It asks the kernel once; Go's own
// monotonic time, which needs no system call, goes on from there.
type clock struct {
	base  uint64
	start time.Time
}

func newClock() clock {
	var t unix.Timespec
	// CLOCK_MONOTONIC is always there; an error would begin at the zero of time.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return clock{uint64(t.Nano()), time.Now()}
}

func (c clock) now() uint64 { return c.base + uint64(time.Since(c.start)) }
