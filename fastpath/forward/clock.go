package forward

import "golang.org/x/sys/unix"

// monotonic is CLOCK_MONOTONIC in nanoseconds: the clock of flow entries, which
// outlive this process but not the node.
func monotonic() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return uint64(t.Sec)*1e9 + uint64(t.Nsec)
}
