package engine

import (
	"os"
	"runtime"
	"runtime/debug"
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

// release returns to the system what decoding a large change left behind.
func release() { debug.FreeOSMemory() }
