package poll_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/poll"
)

var _ link.Sleeper = (*poll.Sleeper)(nil)

const (
	short   = 50 * time.Millisecond
	forever = time.Minute
)

func elapsed(fn func()) time.Duration {
	start := time.Now()
	fn()
	return time.Since(start)
}

func TestSleeper(t *testing.T) {
	s, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slept := func(want bool, why string, fn func()) {
		t.Helper()
		d := elapsed(fn)
		for try := 0; want && d < short && try < 2; try++ { // a signal of Go's scheduler ends a sleep, now and then
			d = elapsed(fn)
		}
		if want && d < short || !want && d > forever/2 {
			t.Errorf("%s: slept %v", why, d)
		}
	}
	slept(true, "nothing to do", func() { s.Wait(short) })
	slept(false, "woken", func() { go s.Wake(); s.Wait(forever) })
	once := false
	for range 3 { // all of it again, for the same reason
		s.Wake()
		s.Wake()
		slept(false, "woken before", func() { s.Wait(forever) })
		once = once || elapsed(func() { s.Wait(short) }) >= short
	}
	if !once {
		t.Error("Wake counts more than once")
	}

	var pipes [3][2]int
	for i := range pipes {
		if err := unix.Pipe2(pipes[i][:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipes[i][0])
		defer unix.Close(pipes[i][1])
		s.Add(pipes[i][0])
	}
	for i := range pipes {
		slept(false, "a link has something", func() {
			go unix.Write(pipes[i][1], []byte{1})
			s.Wait(forever)
		})
		slept(false, "and still has", func() { s.Wait(forever) })
		slept(false, "and Wake", func() { s.Wake(); s.Wait(forever) })
		s.Remove(pipes[i][0])
		slept(true, "the link is gone", func() { s.Wait(short) })
	}
	if n := testing.AllocsPerRun(10, func() { s.Wait(time.Microsecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
