package engine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// gcPercent lets the heap grow to five times what is live before a
	// collection: what is live is small, and between table changes nothing is
	// allocated, so that the collector is idle.
	gcPercent = 400
	// heapLimit is where collections become frequent instead. Bytes; flow tables
	// and packet memory are mapped and do not count.
	heapLimit = 512 << 20
)

// threads is how many of a process with so many workers may run Go code at a time:
// enough that one is always free for a worker that comes back from a system call, also
// while tables are built and garbage is collected, and a multiple of four, so that the
// collector has its quarter in whole threads. Else it takes a quarter of each, workers'
// included, by holding them for up to hundreds of milliseconds.
func threads(workers int) int { return max(8, (workers+4+3)/4*4) }

// tune sets the runtime for a process whose threads mostly poll. What the operator
// says in the environment wins.
func tune(workers int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threads(workers))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}

// turn is how long a thread of this process runs before another may, when several want
// to: the shortest that Linux knows. In return it runs as soon as it wakes (6.12; an
// older kernel takes no notice). Go stops all of a process's threads for moments when
// it collects garbage, and hands a worker's thread on by way of another: one that
// waits for its core has the workers wait.
const turn = 100 * time.Microsecond

// settle places all threads there are. Threads made later do as their makers; the
// workers then choose their own cores.
//
// It keeps them off the workers' cores: decoding a large change, building tables and
// collecting garbage take seconds of a core, which a worker would get in slices. When
// there is no other core, everything shares.
func settle(cores []int) error {
	var rest unix.CPUSet
	if err := unix.SchedGetaffinity(0, &rest); err != nil {
		return fmt.Errorf("read the cores this process may use: %w", err)
	}
	for _, c := range cores {
		rest.Clear(c)
	}
	yield := len(cores) > 0 && rest.Count() > 0
	return eachThread(func(tid int) error {
		hasten(tid)
		if !yield {
			return nil
		}
		return unix.SchedSetaffinity(tid, &rest)
	})
}

// hasten gives a thread short turns, if it may: without, all works, but not as evenly.
// An operator who chose another policy knows why.
func hasten(tid int) {
	if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_NORMAL {
		a.Runtime = uint64(turn)
		_ = unix.SchedSetAttr(tid, a, 0)
	}
}

// eachThread calls do for the threads of this process, those included that are made
// meanwhile.
func eachThread(do func(tid int) error) error {
	seen := map[string]bool{}
	for again := true; again; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		again = false
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || seen[t.Name()] {
				continue
			}
			if err := do(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("place thread %d: %w", tid, err)
			}
			seen[t.Name()], again = true, true
		}
	}
	return nil
}

// release returns to the system what decoding a large change left behind.
func release() { debug.FreeOSMemory() }
