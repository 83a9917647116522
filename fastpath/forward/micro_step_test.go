package forward

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var microProfile = flag.Bool("micro.profile", false, "print which functions the instructions counted are of")

var microStep = flag.String("micro.step", "", "run one batch of the row of this name between marks, for TestMicro to count its instructions")

// Instructions are counted by single steps of a process of our own: machines rarely let
// their guests use the processor's counters, and what a step is does not depend on what
// else the machine does.

// microStepped is how many packets are stepped through: in a virtual machine a step may take
// most of a millisecond.
const microStepped = 4

// microSteps counts the instructions of each stage of c in one small batch, a packet.
func microSteps(c *microCase) (stages [len(microStages)]float64, err error) {
	runtime.LockOSThread() // only the thread that began it may trace
	defer runtime.UnlockOSThread()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMicroStep$", "-micro.step", c.name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return stages, err
	}
	tracer := tracer{pid: cmd.Process.Pid, where: map[uint64]int{}}
	defer tracer.end()
	if err := tracer.run(); err != nil {
		return stages, err
	}
	if want := 1 + len(microStages); len(tracer.counts) != want {
		return stages, fmt.Errorf("%d counts, want %d", len(tracer.counts), want)
	}
	if *microProfile {
		tracer.print(c.name())
	}
	marks := tracer.counts[0] // nothing lies between the first two
	for i, n := range tracer.counts[1:] {
		stages[i] = float64(n-marks) / microStepped
	}
	stages[len(stages)-1] *= float64(microStepped) / turnSize // is there once in a turn
	return stages, nil
}

// tracer runs a process of several threads, and counts what one of them does between
// two marks.
type tracer struct {
	pid      int
	stepping int // the thread; 0: none
	n        int
	counts   []int
	where    map[uint64]int // steps by address; -1: not ours
}

func (t *tracer) run() error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &status, unix.WALL, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return err
	}
	if err := unix.PtraceCont(t.pid, 0); err != nil {
		return err
	}
	for {
		thread, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case status.Stopped():
			if err := t.stopped(thread, status); err != nil && err != unix.ESRCH {
				return err
			}
		case thread == t.pid:
			t.pid = 0
			if !status.Exited() || status.ExitStatus() != 0 {
				return fmt.Errorf("the process ended with %#x", status)
			}
			return nil
		}
	}
}

// stopped has a thread go on.
func (t *tracer) stopped(thread int, status unix.WaitStatus) error {
	sig := status.StopSignal()
	switch {
	case sig == unix.SIGUSR1 && t.stepping == 0: // a mark
		t.stepping, t.n = thread, 0
		return unix.PtraceSingleStep(thread)
	case sig == unix.SIGUSR1:
		t.counts = append(t.counts, t.n)
		t.stepping = 0
		return unix.PtraceCont(thread, 0)
	case thread == t.stepping && sig == unix.SIGTRAP:
		if t.ours(thread) {
			t.n++
		}
		return unix.PtraceSingleStep(thread)
	case thread == t.stepping: // the scheduler wants it to yield
		return unix.PtraceSingleStep(thread)
	case sig == unix.SIGTRAP, sig == unix.SIGSTOP: // a new thread
		return unix.PtraceCont(thread, 0)
	}
	return unix.PtraceCont(thread, int(sig))
}

// ours says that a thread is where a packet takes it: in the same program as we are, at
// the same address. A process that is stepped through seems slow to Go's scheduler,
// which has it yield now and then; that is the only other reason to be in the runtime.
func (t *tracer) ours(thread int) bool {
	var r unix.PtraceRegs
	if unix.PtraceGetRegs(thread, &r) != nil {
		return false
	}
	n, known := t.where[r.PC()]
	if !known {
		f := runtime.FuncForPC(uintptr(r.PC()))
		n = -1
		if f != nil && (strings.Contains(f.Name(), "/vragent/") || strings.HasPrefix(f.Name(), "runtime.mem") || strings.HasPrefix(f.Name(), "runtime.duff")) {
			n = 0
		}
	}
	if n >= 0 {
		n++
	}
	t.where[r.PC()] = n
	return n > 0
}

// print lists the functions in which the steps were, inlined ones by themselves.
func (t *tracer) print(name string) {
	of := map[string]int{}
	for pc, n := range t.where {
		n = max(n, 0)
		f, _ := runtime.CallersFrames([]uintptr{uintptr(pc) + 1}).Next()
		of[fmt.Sprintf("%s:%d", f.Function, f.Line)] += n
		of[f.Function] += n
	}
	names := slices.Collect(maps.Keys(of))
	slices.SortFunc(names, func(a, b string) int { return of[b] - of[a] })
	for _, f := range names[:min(len(names), 120)] {
		fmt.Printf("%s %7.1f %s\n", name, float64(of[f])/microStepped, f)
	}
}

func (t *tracer) end() {
	if t.pid == 0 {
		return
	}
	_ = unix.Kill(t.pid, unix.SIGKILL)
	for {
		var status unix.WaitStatus
		if thread, err := unix.Wait4(-1, &status, unix.WALL, nil); err != nil && err != unix.EINTR || thread == t.pid && !status.Stopped() {
			return
		}
	}
}

// TestMicroStep is the process that is counted.
func TestMicroStep(t *testing.T) {
	if *microStep == "" {
		t.Skip("for TestMicro")
	}

	*microRows = "^" + regexp.QuoteMeta(*microStep) + "$"
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	c := microCases()[0]
	c.tables = microTables(t, c.services, c.routes)
	c.prepare(t)
	if c.setup {
		c.bed.fresh(t, c.tables)
		c.bed.replay(c.opening)
	}
	c.bed.turn()
	pid, thread := unix.Getpid(), unix.Gettid()
	mark := func() { _ = unix.Tgkill(pid, thread, unix.SIGUSR1) }
	w := c.bed.w
	for w.pool.Len() > microStepped { // the link has no more buffers for packets
		w.pool.Get()
	}
	mark()
	mark()
	w.begin(c.bed.now + 20_000)
	for i := range microStages {
		mark()
		microStages[i].run(w)
		mark()
	}
}
