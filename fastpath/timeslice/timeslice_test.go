package timeslice

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWrong: places that are not the runtime's are found out, whatever lies there.
func TestWrong(t *testing.T) {
	for _, wrong := range []layout{
		{},
		{gM: 48, mP: 200, pStatus: 4, pTick: 16, pM: 48},
		{gM: 40, mP: 208, pStatus: 4, pTick: 16, pM: 48},
		{gM: 48, mP: 208, pStatus: 4, pTick: 0, pM: 48},
		{gM: 48, mP: 208, pStatus: 4, pTick: 20, pM: 48}, // it counts system calls
		{gM: 48, mP: 208, pStatus: 8, pTick: 16, pM: 48}, // a pointer; the number at 0 may be that of processor 1
		{gM: 48, mP: 208, pStatus: 4, pTick: 16, pM: 56},
	} {
		if err := wrong.verify(); err == nil {
			t.Errorf("%+v is taken for the runtime's", wrong)
		}
	}
}

// TestKnown: with the Go that tests this the places are known. If not, it says
// where they are now.
func TestKnown(t *testing.T) {
	if _, err := Find(); err != nil {
		t.Errorf("%v\nthis release has:\n%s", err, places(t))
	}
}

// TestNotTakenAway: the monitor has a locked goroutine that turns for long make room.
// One that renews its time slice is never scheduled anew: the count shows its own
// steps, and no others.
func TestNotTakenAway(t *testing.T) {
	s, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOMAXPROCS(0) < 2 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it stops everybody
	l := known()
	done, undisturbed := make(chan struct{}), true
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with us
		where := func() place {
			var p place
			var err error
			for range 10 { // it may be sent elsewhere between two reads
				if p, err = l.find(); err == nil {
					return p
				}
			}
			t.Error(err)
			return p
		}
		began := where()
		now := began
		for end := time.Now().Add(10 * time.Second); now == began && time.Now().Before(end); {
			spin(10 * time.Millisecond)
			now = where()
		}
		if now == began {
			t.Error("the monitor let a goroutine turn for ten seconds")
		}
		const steps = 100 // for 50 ms, in which the monitor would have come
		for end, taken := time.Now().Add(30*time.Second), 0; time.Now().Before(end); {
			s.Renew()
			before := preempted(t)
			began = where()
			for range steps {
				spin(500 * time.Microsecond)
				s.Renew()
			}
			now = where()
			if now.p == began.p && now.tick-began.tick == steps {
				return
			}
			if preempted(t) != before {
				continue // by the kernel; the monitor sees no difference
			}
			if taken++; taken == 3 {
				t.Errorf("%d slices, but the count grew by %d (same processor: %v)", steps, now.tick-began.tick, now.p == began.p)
				return
			}
		}
		undisturbed = false
	}()
	<-done
	if !undisturbed {
		t.Skip("the machine is too busy: the kernel took the thread's core away in each 50 ms of 30 s")
	}
}

// preempted is how often the kernel took this thread's core away.
func preempted(t *testing.T) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Error(err)
	}
	return u.Nivcsw
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

func TestNoAllocation(t *testing.T) {
	s, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, s.Renew); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, Slice{}.Renew); n != 0 { // the zero value does nothing
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRenew(b *testing.B) {
	s, err := Find()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.Renew()
	}
}

// places reads them from the debugger's information of a program.
func places(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module probe\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "probe", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Sprintf("(go build: %v: %s)", err, out)
	}
	f, err := elf.Open(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	var list bytes.Buffer
	for r := d.Reader(); ; {
		e, err := r.Next()
		if e == nil || err != nil {
			return list.String()
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if e.Tag != dwarf.TagStructType || name != "runtime.g" && name != "runtime.m" && name != "runtime.p" {
			continue
		}
		typ, err := d.Type(e.Offset)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range typ.(*dwarf.StructType).Field {
			switch name + "." + field.Name {
			case "runtime.g.m", "runtime.m.p", "runtime.p.status", "runtime.p.schedtick", "runtime.p.m":
				fmt.Fprintf(&list, "%s.%s %d\n", name, field.Name, field.ByteOffset)
			}
		}
	}
}
