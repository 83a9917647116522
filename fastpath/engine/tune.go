package engine

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

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

// tune sets the runtime for a process whose threads mostly poll: two threads more
// than workers may run Go code, so that a request never waits for a worker to
// yield. What the operator says in the environment wins.
func tune(workers int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(workers + 2)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}

// yield keeps all threads but the workers' off the workers' cores: decoding a large
// change, building tables and collecting garbage take seconds of a core, which a worker
// would get in slices. Threads made later inherit it; the workers then choose
// their own. When there is no other core, everything shares.
func yield(cores []int) error {
	var rest unix.CPUSet
	if err := unix.SchedGetaffinity(0, &rest); err != nil {
		return fmt.Errorf("read the cores this process may use: %w", err)
	}
	for _, c := range cores {
		rest.Clear(c)
	}
	if len(cores) == 0 || rest.Count() == 0 {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			if err := unix.SchedSetaffinity(tid, &rest); err != nil && err != unix.ESRCH {
				return fmt.Errorf("keep thread %d off the workers' cores: %w", tid, err)
			}
		}
	}
	return nil
}

// release returns to the system what decoding a large change left behind.
func release() { debug.FreeOSMemory() }
