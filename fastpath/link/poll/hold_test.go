package poll

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func holding(t *testing.T) *Sleeper {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Hold(true)
	return s
}

// A sleeper that holds its processor wakes for the same reasons, and soon without any.
func TestHold(t *testing.T) {
	s := holding(t)
	wakes := func(want bool, why string) {
		t.Helper()
		if s.ready(time.Second) != want {
			t.Errorf("%s: want %v", why, want)
		}
	}
	wakes(false, "nothing to do")
	s.Wake()
	wakes(true, "woken")
	s.Wait(time.Minute)
	wakes(false, "woken once")
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	s.Add(pipe[0])
	wakes(false, "a link that has nothing")
	unix.Write(pipe[1], []byte{1})
	wakes(true, "a link that has something")
	s.Remove(pipe[0])
	s.Hold(false)
	wakes(true, "not held any more")
	s.Wait(time.Minute)
	s.Hold(true)
	wakes(false, "a link that is gone")
	if n := testing.AllocsPerRun(10, func() { s.Wait(time.Microsecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The collector, which has to stop everybody, does not wait for a sleeper to wake up.
func TestHoldMakesRoom(t *testing.T) {
	s := holding(t)
	s.hold.Store(int64(time.Hour))
	asleep, ended := make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		close(asleep)
		for !s.ready(time.Hour) {
		}
	}()
	<-asleep
	for range 20 {
		runtime.GC()
	}
	s.Wake()
	<-ended
}
