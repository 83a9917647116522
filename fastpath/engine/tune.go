package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/timeslice"
)

// threads is how many of a process with so many workers may run Go code at a time:
// enough that one is always free for a worker that comes back from a system call, also
// while a table is built and garbage is collected, and a multiple of four, so that the
// collector has its quarter in whole threads. Else it takes a quarter of each, workers'
// included, by holding them for up to hundreds of milliseconds. And not more: with all that
// idle the collector does what it can, and where they share a core, they keep those waiting
// that have a worker go on.
func threads(workers int) int { return ((workers+2)*4/3 + 3) / 4 * 4 }

// tune sets the runtime for a process whose threads mostly poll. What the operator
// says in the environment wins.
func (e *engine) tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threads(e.cfg.Workers))
	}
	e.garbage.tune()
}

// findSlice is what keeps Go's monitor from workers; without, all works, but not as
// evenly. Workers that nobody stops need room for others beside them.
func findSlice(workers int, log *slog.Logger) (slice timeslice.Slice, known bool) {
	slice, err := timeslice.Find()
	if n := runtime.GOMAXPROCS(0); err == nil && n <= workers {
		slice, err = timeslice.Slice{}, fmt.Errorf("GOMAXPROCS is %d, and there are %d workers: want %d, or leave it unset", n, workers, threads(workers))
	}
	if err != nil {
		log.Warn("Go's monitor interrupts workers a hundred times a second", "error", err)
	}
	return slice, err == nil
}

// settle places all threads there are. Threads made later do as their makers; the
// workers then choose their own cores.
//
// It keeps them off the cores of workers that never sleep: they would take a turn there
// whenever they wake. Where there is no other core, everything shares. A worker that sleeps
// shares its core, see turn.
func settle(cores []int, busy bool) error {
	var rest unix.CPUSet
	if err := unix.SchedGetaffinity(0, &rest); err != nil {
		return fmt.Errorf("read the cores this process may use: %w", err)
	}
	for _, c := range cores {
		rest.Clear(c)
	}
	if !busy || len(cores) == 0 || rest.Count() == 0 {
		return nil
	}
	return eachThread(func(tid int) error { return unix.SchedSetaffinity(tid, &rest) })
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

// turn is how long a worker's thread runs before another may, when several want its
// core: the shortest that Linux knows. In return it runs as soon as it wakes, whoever
// runs there (6.12; an older kernel takes no notice). The other threads of the process have
// Linux's own turns, and the core of a worker that sleeps too: who has it go on after Go stopped it
// to collect garbage finds that core free, and others perhaps not for several turns.
const turn = 100 * time.Microsecond

// hasten gives the calling thread short turns, if it may: without, all works, but not as
// evenly. An operator who chose another policy knows why.
func hasten() {
	if a, err := unix.SchedGetAttr(0, 0); err == nil && a.Policy == unix.SCHED_NORMAL {
		a.Runtime = uint64(turn)
		_ = unix.SchedSetAttr(0, a, 0)
	}
}

// hold says whether workers keep their place in Go's scheduler when they sleep, if they
// ever do.
func (e *engine) hold(on bool) {
	if p := e.plane.Load(); p != nil && p.holds {
		for _, s := range p.sleepers {
			s.Hold(on)
		}
	}
}
