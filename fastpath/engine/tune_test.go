package engine

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSettle: a thread that is made afterwards stays off the workers' cores, and has
// short turns where the kernel knows them.
func TestSettle(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		t.Skip("needs two cores")
	}
	worker := 0
	for !all.IsSet(worker) {
		worker++
	}
	t.Cleanup(func() {
		_ = eachThread(func(tid int) error { return unix.SchedSetaffinity(tid, &all) })
	})
	if err := settle([]int{worker}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	for range 2 * runtime.GOMAXPROCS(0) { // more threads than there are
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with us
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(0, &now); err != nil || now.IsSet(worker) || now.Count() != all.Count()-1 {
				t.Errorf("a thread made later may run on core %d (%d of %d cores): %v", worker, now.Count(), all.Count(), err)
			}
			a, err := unix.SchedGetAttr(0, 0)
			if err != nil || a.Runtime != 0 && a.Runtime != uint64(turn) { // 0: Linux before 6.12
				t.Errorf("a thread made later has turns of %d ns: %v", a.Runtime, err)
			}
			done <- struct{}{}
		}()
	}
	for range 2 * runtime.GOMAXPROCS(0) {
		<-done
	}
}

// TestThreads: the collector's quarter is a whole number, and others than workers have
// room.
func TestThreads(t *testing.T) {
	for workers := 1; workers <= 64; workers++ {
		if n := threads(workers); n%4 != 0 || n < workers+4 {
			t.Errorf("%d workers: %d threads", workers, n)
		}
	}
}
