package dial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

// twin is a fast path without packets: a real table builder behind a real socket.
type twin struct {
	t        *testing.T
	listener *wire.Listener
	wait     sync.WaitGroup

	mu      sync.Mutex
	builder *table.Builder
	conns   []*wire.Conn
	replays int
	deltas  int
	refuse  string
	mute    bool // answers nothing for now
	dead    bool
}

func newTwin(t *testing.T, dir string) *twin {
	t.Helper()
	l, err := wire.Listen(filepath.Join(dir, control.SocketName), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := &twin{t: t, listener: l, builder: table.NewBuilder()}
	w.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, c)
			w.mu.Unlock()
			w.wait.Go(func() { w.talk(c) })
		}
	})
	t.Cleanup(w.die)
	return w
}

func (w *twin) die() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.dead = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.wait.Wait()
}

func (w *twin) talk(c *wire.Conn) {
	defer c.Close()
	for {
		var q control.Request
		err := c.Receive(&q)
		if err != nil {
			return
		}
		w.mu.Lock()
		r := w.answer(&q)
		for w.mute && !w.dead {
			w.mu.Unlock()
			time.Sleep(10 * time.Millisecond) // stopped: it goes on where it was
			w.mu.Lock()
		}
		w.mu.Unlock()
		if c.Send(r) != nil {
			return
		}
	}
}

func (w *twin) answer(q *control.Request) *control.Reply {
	r := &control.Reply{}
	var err error
	switch {
	case q.Hello != nil:
		r.Hello = &control.HelloReply{Version: control.Version, PID: os.Getpid(), Workers: 1}
	case q.Begin != nil:
		w.builder.Begin(q.Begin.Epoch)
	case q.Delta != nil && w.refuse != "":
		err = errors.New(w.refuse)
	case q.Delta != nil:
		w.deltas++
		err = w.builder.Apply(q.Delta)
	case q.InSync != nil:
		w.replays++
		err = w.builder.InSync(q.InSync.Epoch)
	case q.Status != nil:
		r.Status = &control.Status{PID: os.Getpid()}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (w *twin) set(f func(*twin)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

func tables(peers ...string) *table.State {
	s := &table.State{Vifs: []table.Vif{{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 2, MTU: 1500}}}
	for i, p := range peers {
		a := netip.MustParseAddr(p)
		s.Peers = append(s.Peers, a)
		s.NextHops = append(s.NextHops, table.NextHop{ID: table.NextHopID(i + 1), Type: table.NHResolve, Vif: 1, Sip: netip.MustParseAddr("192.0.2.254"), Dip: a})
	}
	return s
}

func (w *twin) mustHold(t *testing.T, s *table.State) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.builder.State()
	got.NextHops = slices.DeleteFunc(got.NextHops, func(n table.NextHop) bool { return n.ID == 0 }) // the builder's own
	if d := compile.Diff(s, &got); !compile.IsEmpty(&d) {
		t.Errorf("the fast path lacks %+v", d)
	}
}

func start(t *testing.T, cfg FastPathConfig) *FastPath {
	t.Helper()
	cfg.Node, cfg.Log = "n1", slog.New(slog.DiscardHandler)
	f := NewFastPath(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = f.Run(ctx, func() {}); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

func wait(t *testing.T, f *FastPath, version uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.Wait(ctx, version); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	w := newTwin(t, dir)
	f := start(t, FastPathConfig{RunDir: dir})
	if f.Health().InSync {
		t.Error("in sync before anything was said")
	}
	one := tables("192.0.2.1")
	wait(t, f, f.Set(one))
	w.mustHold(t, one)
	two := tables("192.0.2.1", "192.0.2.2")
	wait(t, f, f.Set(two))
	w.mustHold(t, two)
	wait(t, f, f.Set(two)) // nothing new: no message
	w.set(func(w *twin) {
		if w.replays != 1 || w.deltas != 2 {
			t.Errorf("%d replays, %d deltas", w.replays, w.deltas)
		}
	})
	if h := f.Health(); !h.InSync || h.PID != os.Getpid() || h.Workers != 1 || h.Err != "" {
		t.Errorf("health %+v", h)
	}
	var last uint64
	for i := range 50 {
		last = f.Set(tables(fmt.Sprintf("198.51.100.%d", i+1)))
	}
	wait(t, f, last)
	w.mustHold(t, tables("198.51.100.50"))
}

// A fast path that dies is found dead, and its successor gets everything it
// should have.
func TestSuccessor(t *testing.T) {
	dir := t.TempDir()
	first := newTwin(t, dir)
	f := start(t, FastPathConfig{RunDir: dir})
	want := tables("192.0.2.1", "192.0.2.2")
	wait(t, f, f.Set(want))
	first.die()
	eventually(t, "not in sync", func() bool { return !f.Health().InSync })
	if h := f.Health(); !strings.Contains(h.Err, "not to start one") && h.Err == "" {
		t.Errorf("health %+v", h)
	}
	version := f.Set(tables("192.0.2.2", "192.0.2.3"))
	second := newTwin(t, dir)
	wait(t, f, version)
	second.mustHold(t, tables("192.0.2.2", "192.0.2.3"))
}

// A refused change does not end it all: it is said again, whole, until taken.
func TestRefusedChange(t *testing.T) {
	dir := t.TempDir()
	w := newTwin(t, dir)
	f := start(t, FastPathConfig{RunDir: dir})
	wait(t, f, f.Set(tables("192.0.2.1")))
	w.set(func(w *twin) { w.refuse = "vif 7: no such interface" })
	version := f.Set(tables("192.0.2.7"))
	eventually(t, "the refusal is shown", func() bool { return strings.Contains(f.Health().Err, "vif 7") })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.Wait(ctx, version); err == nil {
		t.Error("a refused version counts as acknowledged")
	}
	w.set(func(w *twin) { w.refuse = "" })
	wait(t, f, version)
	w.mustHold(t, tables("192.0.2.7"))
}

// One that is stopped (SIGSTOP) is not replaced, but it is not called healthy.
func TestSilence(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the probe")
	}
	dir := t.TempDir()
	w := newTwin(t, dir)
	f := start(t, FastPathConfig{RunDir: dir, Command: []string{"/bin/false"}})
	wait(t, f, f.Set(tables("192.0.2.1")))
	w.set(func(w *twin) { w.mute = true })
	eventually(t, "silence is noticed", func() bool { return strings.Contains(f.Health().Err, "no sign of life") })
	w.set(func(w *twin) { w.mute = false })
	eventually(t, "in sync again", func() bool { return f.Health().InSync })
}

// TestFastPathTwin is the process that TestStart starts.
func TestFastPathTwin(t *testing.T) {
	dir := os.Getenv("TWIN_DIR")
	if dir == "" {
		t.Skip("run by TestStart")
	}
	newTwin(t, dir)
	_, _ = os.Stdin.Read(make([]byte, 1)) // null device: returns at once
	time.Sleep(time.Minute)               // until it is killed
}

func TestStart(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TWIN_DIR", dir)
	log := filepath.Join(dir, "log")
	f := start(t, FastPathConfig{RunDir: dir, LogFile: log, Command: []string{os.Args[0], "-test.run=^TestFastPathTwin$"}})
	wait(t, f, f.Set(tables("192.0.2.1")))
	first := f.Health().PID
	if first == os.Getpid() || first == 0 {
		t.Fatalf("process %d", first)
	}
	if err := unix.Kill(first, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a successor runs", func() bool { h := f.Health(); return h.InSync && h.PID != first })
	second := f.Health().PID
	t.Cleanup(func() { _ = unix.Kill(second, unix.SIGKILL) })
	eventually(t, "the first is reaped", func() bool { return unix.Kill(first, 0) != nil })
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	f := start(t, FastPathConfig{RunDir: dir, LogFile: filepath.Join(dir, "log"), Command: []string{"/bin/false"}})
	f.Set(tables("192.0.2.1"))
	eventually(t, "the failure is shown", func() bool { return strings.Contains(f.Health().Err, "ended at once") })
	g := start(t, FastPathConfig{RunDir: dir, LogFile: filepath.Join(dir, "none", "log"), Command: []string{"/bin/false"}})
	eventually(t, "the log is missed", func() bool { return strings.Contains(g.Health().Err, "log of the fast path") })
	h := start(t, FastPathConfig{RunDir: dir})
	eventually(t, "nobody is to start one", func() bool { return strings.Contains(h.Health().Err, "not to start one") })
}

func TestAsk(t *testing.T) {
	dir := t.TempDir()
	f := NewFastPath(FastPathConfig{RunDir: dir, Log: slog.New(slog.DiscardHandler)})
	if _, err := f.Ask(&control.Request{Status: &control.Empty{}}); err == nil {
		t.Error("nobody answered")
	}
	newTwin(t, dir)
	if r, err := f.Ask(&control.Request{Status: &control.Empty{}}); err != nil || !reflect.DeepEqual(r.Status, &control.Status{PID: os.Getpid()}) {
		t.Errorf("%+v %v", r, err)
	}
}
