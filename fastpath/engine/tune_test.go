package engine

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSettle: a thread that is made afterwards stays off the cores of workers that never
// sleep.
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
	for _, busy := range []bool{false, true} {
		if err := settle([]int{worker}, busy); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		for range 2 * runtime.GOMAXPROCS(0) { // more threads than there are
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends with us
				var now unix.CPUSet
				if err := unix.SchedGetaffinity(0, &now); err != nil || now.IsSet(worker) == busy {
					t.Errorf("busy %v: a thread made later may run on core %d: %v (%d of %d cores): %v", busy, worker, now.IsSet(worker), now.Count(), all.Count(), err)
				}
				done <- struct{}{}
			}()
		}
		for range 2 * runtime.GOMAXPROCS(0) {
			<-done
		}
	}
}

// TestHasten: a worker's thread has short turns where the kernel knows them, and the others
// have Linux's own.
func TestHasten(t *testing.T) {
	turns := func(prepare func()) uint64 {
		var attr *unix.SchedAttr
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with us
			prepare()
			attr, err = unix.SchedGetAttr(0, 0)
		}()
		<-done
		if err != nil {
			t.Fatal(err)
		}
		return attr.Runtime
	}
	if got := turns(hasten); got != 0 && got != uint64(turn) { // 0: Linux before 6.12
		t.Errorf("a worker's thread has turns of %d ns, want %d", got, turn)
	}
	if got := turns(func() {}); got == uint64(turn) {
		t.Errorf("a thread made later has turns of %d ns as well", got)
	}
}

// TestThreads: the collector's quarter is a whole number, and others than workers have
// room.
func TestThreads(t *testing.T) {
	for workers := 1; workers <= 64; workers++ {
		if n := threads(workers); n%4 != 0 || n < workers+n/4+2 {
			t.Errorf("%d workers: %d threads", workers, n)
		}
	}
}
