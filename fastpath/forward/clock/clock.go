// Package clock tells the time of flow entries. It owns nothing but the moment it was
// made. It is not for deadlines of the control side.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells CLOCK_MONOTONIC in nanoseconds: the clock of flow entries, which
// outlive this process but not the node. It asks the kernel once; Go's own
// monotonic time, which needs no system call, goes on from there.
type Clock struct {
	base  uint64
	start time.Time
}

// New asks the kernel.
func New() Clock {
	var t unix.Timespec
	// CLOCK_MONOTONIC is always there; an error would begin at the zero of time.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return Clock{uint64(t.Nano()), time.Now()}
}

// Now is nanoseconds.
func (c Clock) Now() uint64 { return c.base + uint64(time.Since(c.start)) }
