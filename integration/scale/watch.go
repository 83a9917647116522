package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/testbed"
)

// stall is what nobody may notice but by a spinner that had to wait as well.
const stall = 2 * time.Millisecond

// passing is one packet of the stream: when it was sent, how long that kept its sender, after
// how long it lay in the receiver's socket, and after how long the receiver had it.
type passing struct {
	sent                   time.Time
	sending, arrived, took time.Duration
}

// wait is how long a packet certainly was on its way: until it lay in the receiver's socket,
// without the time of its sender's call, who shares the worker's core and may wait for that.
func (p *passing) wait() time.Duration { return max(0, p.arrived-p.sending) }

// stream sends a packet from one pod to another every so often until ctx is done: when the
// clock shows a multiple of that and the phase. Its process runs on the worker's core, so
// that nothing but that core matters.
func stream(ctx context.Context, from, to *pod, every, phase time.Duration) (got []passing, sent int, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	c := exec.Command("taskset", "-c", strconv.Itoa(core), self, "pass", from.Netns, to.Netns, from.addr.String(), to.addr.String(), every.String(), phase.String())
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	if err := c.Start(); err != nil {
		return nil, 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Process.Signal(syscall.SIGTERM) })()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var at, sending, arrived, took int64
		if n, _ := fmt.Sscan(lines.Text(), &at, &sending, &arrived, &took); n == 4 {
			got = append(got, passing{time.Unix(0, at), time.Duration(sending), time.Duration(arrived), time.Duration(took)})
		} else if n == 1 {
			sent = int(at)
		}
	}
	return got, sent, c.Wait()
}

const streamPort = 7000

// pass is stream's process: it prints when each packet was sent and how long it took,
// and at its end how many were sent.
func pass(ctx context.Context, args []string) error {
	every, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	phase, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	rx, err := socket(args[1], args[3])
	if err != nil {
		return err
	}
	tx, err := socket(args[0], args[2])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(4) // one core is allowed, but each end wants a P at once
	var got []received
	var wg sync.WaitGroup
	wg.Go(func() { got = receive(rx) })
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sent, b := make([][2]time.Time, 0, 1<<20), make([]byte, 64)
	to := &syscall.SockaddrInet4{Port: streamPort, Addr: netip.MustParseAddr(args[3]).As4()}
	next := time.Now().Truncate(every).Add(phase)
	for ctx.Err() == nil {
		for next = next.Add(every); time.Until(next) < 0; {
			next = next.Add(every)
		}
		at := unix.NsecToTimespec(next.UnixNano())
		_ = unix.ClockNanosleep(unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, &at, nil)
		binary.BigEndian.PutUint64(b, uint64(len(sent)))
		begun := time.Now()
		if err := syscall.Sendto(tx, b, 0, to); err == nil {
			sent = append(sent, [2]time.Time{begun, time.Now()})
		}
	}
	wg.Wait()
	w := bufio.NewWriter(os.Stdout)
	for _, p := range got {
		begun, over := sent[p.number][0], sent[p.number][1]
		fmt.Fprintln(w, begun.UnixNano(), int64(over.Sub(begun)), int64(p.arrived.Sub(begun)), int64(p.read.Sub(begun)))
	}
	fmt.Fprintln(w, len(sent))
	return w.Flush()
}

// received is a packet of the stream as its receiver sees it.
type received struct {
	number        uint64
	arrived, read time.Time
}

// receive is the packets of a stream until nothing has come for a second.
func receive(fd int) []received {
	runtime.LockOSThread()
	got := make([]received, 0, 1<<20)
	b, more := make([]byte, 64), make([]byte, 64)
	for {
		n, about, _, _, err := syscall.Recvmsg(fd, b, more, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n < 8 {
			return got
		}
		p := received{number: binary.BigEndian.Uint64(b), read: time.Now()}
		if l, err := syscall.ParseSocketControlMessage(more[:about]); err == nil && len(l) == 1 && len(l[0].Data) >= 16 { // SO_TIMESTAMPNS
			p.arrived = time.Unix(int64(binary.NativeEndian.Uint64(l[0].Data)), int64(binary.NativeEndian.Uint64(l[0].Data[8:])))
		}
		got = append(got, p)
	}
}

// socket is a blocking one in a namespace: Go's poller would be measured otherwise. It
// says when the kernel got a packet, and waits a second for one.
func socket(netns, addr string) (fd int, err error) {
	err = (&testbed.Place{Name: netns, Netns: netns}).Do(func() error {
		if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0); err != nil {
			return err
		}
		patience := syscall.NsecToTimeval(int64(time.Second))
		return errors.Join(syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience),
			syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1),
			syscall.Bind(fd, &syscall.SockaddrInet4{Port: streamPort, Addr: netip.MustParseAddr(addr).As4()}))
	})
	return fd, err
}

// gap is a time in which the spinner did not run, and how long the worker did meanwhile;
// or one in which the worker waited for the spinner.
type gap struct {
	from, to time.Time
	worker   time.Duration
}

// spinner is a process that has nothing to do on a core, at the lowest priority there is.
type spinner struct {
	cmd  *exec.Cmd
	done chan struct{}
	gaps []gap
}

// startSpinner spins on a core; tid is the worker's thread there.
func startSpinner(core, pid, tid int) (*spinner, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &spinner{cmd: exec.Command("taskset", "-c", strconv.Itoa(core), "chrt", "-i", "0", self, "spin", fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid)), done: make(chan struct{})}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the spinner; stop waits
		defer close(s.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var from, to, worker int64
			if _, err := fmt.Sscan(lines.Text(), &from, &to, &worker); err == nil {
				s.gaps = append(s.gaps, gap{time.Unix(0, from), time.Unix(0, to), time.Duration(worker)})
			}
		}
	}()
	return s, nil
}

func (s *spinner) stop() []gap {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
	_ = s.cmd.Wait()
	return s.gaps
}

// spin prints every time longer than half a millisecond in which it did not run, and in
// which the worker waited for it: the kernel lets it have a turn now and then, of up to a
// tick, although the worker has something to do.
func spin(ctx context.Context, args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	b := make([]byte, 128)
	times := func() (ran, waited int64) {
		n, _ := f.ReadAt(b, 0)
		_, _ = fmt.Sscan(string(b[:n]), &ran, &waited)
		return ran, waited
	}
	ran, waited := times()
	const long = 500 * time.Microsecond
	for last := time.Now(); ctx.Err() == nil; {
		now := time.Now()
		ranNow, waitedNow := times()
		switch mine := time.Duration(waitedNow - waited); {
		case now.Sub(last) > long:
			fmt.Println(last.UnixNano(), now.UnixNano(), ranNow-ran)
			now = time.Now()
		case mine > long:
			fmt.Println(last.Add(-mine).UnixNano(), last.UnixNano(), 0)
			now = time.Now()
		}
		last, ran, waited = now, ranNow, waitedNow
	}
	return nil
}

// workerThread finds the thread that may run on that core only.
func workerThread(pid, core int) (int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err == nil && strings.Contains(string(text), fmt.Sprintf("Cpus_allowed_list:\t%d\n", core)) {
			return strconv.Atoi(filepath.Base(filepath.Dir(t)))
		}
	}
	return 0, fmt.Errorf("process %d has no thread pinned to core %d", pid, core)
}

// streamed is what a stream and a spinner beside it saw.
type streamed struct {
	got  []passing
	sent int
	gaps []gap
}

// judge says how the stream fared, and how many of its packets the fast path delayed.
func (s *streamed) judge(r *report, what string) (ours int) {
	took := make([]time.Duration, 0, len(s.got))
	slow, excused := 0, 0
	for _, p := range s.got {
		took = append(took, p.arrived)
		if p.wait() <= stall {
			continue
		}
		slow++
		if covered(p, s.gaps) {
			excused++
		}
	}
	var longest time.Duration
	for _, g := range s.gaps {
		longest = max(longest, g.to.Sub(g.from)-g.worker)
	}
	r.say("  %-20s %6d packets sent, %d lost; p50 %v p99 %v p99.9 %v max %v; above %v beside what its sender waited: %d, of which the spinner waited for %d (at most %v)", what,
		s.sent, s.sent-len(s.got), quantile(took, .5), quantile(took, .99), quantile(took, .999), quantile(took, 1), stall, slow, excused, longest.Round(time.Microsecond))
	return slow - excused
}

// covered: the core was others' for so long of the packet's time that without it the
// packet had been no stall.
func covered(p passing, gaps []gap) bool {
	end := p.sent.Add(p.arrived)
	var others time.Duration
	for _, g := range gaps {
		from, to := g.from, g.to
		if from.Before(p.sent) {
			from = p.sent
		}
		if to.After(end) {
			to = end
		}
		if d := to.Sub(from); d > 0 {
			others += max(0, d-g.worker)
		}
	}
	return p.wait()-others <= stall
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)].Round(time.Microsecond)
}
