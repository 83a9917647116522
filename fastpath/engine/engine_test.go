package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/frame"
	linkmem "github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/table"
)

// quiet is a configuration for a fast path that no agent ever meets.
func quiet(t *testing.T) Config {
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return Config{Node: "n1", Version: "v0", RunDir: dir, Workers: 1, FlowEntries: 64, Frames: 256, Log: slog.New(slog.DiscardHandler)}
}

// Without an agent everything can be read and nothing changed; a second
// instance is refused; the end leaves no socket.
func TestWaitsForAgent(t *testing.T) {
	cfg := quiet(t)
	ctx, cancel := context.WithCancel(context.Background())
	var ended error
	var wait sync.WaitGroup
	wait.Go(func() { ended = Run(ctx, cfg) })
	t.Cleanup(func() { cancel(); wait.Wait() }) // before the directory goes
	socket := filepath.Join(cfg.RunDir, control.SocketName)
	await(t, "the socket", func() bool { return listens(socket) })

	if err := Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("a second instance: %v", err)
	}
	c := dial(t, socket)
	if s := c.status(); s.State != stateWaiting || s.PID != os.Getpid() || s.Node != "n1" || s.Poll != "adaptive" {
		t.Errorf("status %+v", s)
	}
	if r, _ := c.ask(control.Request{Tables: &control.Empty{}}); r.Tables == nil || len(r.Tables.Vifs) != 0 {
		t.Errorf("tables %+v", r.Tables)
	}
	if f := c.flows(control.FlowQuery{}); len(f) != 0 {
		t.Errorf("flows %v", f)
	}
	if c.drop("invalid-source") != 0 {
		t.Error("something dropped")
	}
	c.ask(control.Request{Vifs: &control.Empty{}})
	for name, req := range map[string]control.Request{
		"say hello first":   {Delta: &table.Delta{}},
		"empty request":     {},
		"has no tables":     {Trace: &control.TraceQuery{}},
		"version 99":        {Hello: &control.Hello{Version: 99}},
		"punt link nowhere": {Hello: &control.Hello{Version: control.Version, PuntOuter: "nowhere0", PuntInner: "nowhere1"}},
	} {
		if r, _ := c.try(req); name != "empty request" && !strings.Contains(r.Error, name) || r.Error == "" {
			t.Errorf("error %q, want one that says %q", r.Error, name)
		}
	}
	cancel()
	wait.Wait()
	if ended != nil {
		t.Errorf("Run: %v", ended)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestRefusesConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"0 workers":         func(c *Config) { c.Workers = 0 },
		"cores for":         func(c *Config) { c.Cores = []int{0, 1} },
		"core 999 is":       func(c *Config) { c.Cores = []int{999} },
		"not a directory":   func(c *Config) { c.RunDir = "/dev/null/x" },
		"1 to 107 bytes":    func(c *Config) { c.RunDir += strings.Repeat("/x", 60) },
		"65 workers: want ": func(c *Config) { c.Workers = 65 },
	} {
		cfg := quiet(t)
		change(&cfg)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
		cancel()
	}
}

// Flow memory is taken over only whole and fitting; descriptors never leak.
func TestAdoptFlowMemory(t *testing.T) {
	m, err := newFlowMemory(2, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if _, ok := m.tables[1].Insert(&flow.Key{KeyNH: 7}); !ok {
		t.Fatal("insert")
	}
	slot, _ := m.tables[1].Lookup(&flow.Key{KeyNH: 7})
	m.tables[1].Entry(slot).Action = flow.ActionForward
	before := countFDs(t)
	dups := func() []int {
		var out []int
		for _, fd := range m.fds {
			d, err := unix.Dup(fd)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, d)
		}
		return out
	}
	good, err := adoptFlowMemory(dups(), 2, 100)
	if err != nil {
		t.Fatal(err)
	}
	if good.adopted != 1 || !good.same(m.fds) || good.same(m.fds[:1]) {
		t.Errorf("adopted %d flows, same %v", good.adopted, good.same(m.fds))
	}
	if err := good.close(); err != nil {
		t.Error(err)
	}
	for want, adopt := range map[string]func() (*flowMemory, error){
		"now there are 3":   func() (*flowMemory, error) { return adoptFlowMemory(dups(), 3, 100) },
		"5000 entries need": func() (*flowMemory, error) { return adoptFlowMemory(dups(), 2, 5000) },
		"worker 1": func() (*flowMemory, error) {
			d := dups()
			d[0], d[1] = d[1], d[0]
			return adoptFlowMemory(d, 2, 100)
		},
	} {
		if _, err := adopt(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if n := countFDs(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

func countFDs(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// A worker that panics ends the process with a message that names it.
func TestWorkerPanic(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPanic+"=1")
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() == 0 || !strings.Contains(string(out), `msg="worker panics" worker=0 panic="out of cheese"`) {
		t.Errorf("%v\n%s", err, out)
	}
}

func panicInWorker() {
	memory, err := newFlowMemory(1, 64)
	if err != nil {
		panic(err)
	}
	pools, mem := frame.NewPools(64, 1), make(frame.Memory, 64*frame.ChunkSize)
	shared, err := forward.NewShared(forward.Options{Workers: 1, Memory: mem, Pools: pools, Flows: memory.tables})
	if err != nil {
		panic(err)
	}
	p := &plane{memory: memory, shared: shared, workers: []*forward.Worker{shared.Worker(0, linkmem.New(mem, pools[0]))}}
	go func() {
		for p.workers[0].Alive() == 0 { // it does not turn yet: Do would run here
			runtime.Gosched()
		}
		p.workers[0].Do(func() { panic("out of cheese") })
	}()
	_ = p.Run(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// echo serves TCP echo in a pod and returns its address.
func echo(t *testing.T, p *pod) string {
	var l net.Listener
	in(t, p.ns, func() (err error) {
		l, err = net.Listen("tcp4", p.addr.String()+":7000")
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

// connect opens a TCP connection from a pod.
func connect(t *testing.T, p *pod, to string) net.Conn {
	t.Helper()
	var c net.Conn
	in(t, p.ns, func() (err error) {
		c, err = net.DialTimeout("tcp4", to, 10*time.Second)
		return err
	})
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// says sends a line and wants it back.
func says(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(line))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != line {
		t.Fatalf("sent %q, got %q, %v", line, b, err)
	}
}

// TestLife: a fast path with real devices from hello to its end, with one worker
// and with two.
func TestLife(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"1 worker":               func(c *Config) { c.Workers = 1 },
		"2 workers":              func(c *Config) { c.Workers = 2 },
		"1 worker, busy, pinned": func(c *Config) { c.Workers, c.Busy, c.Cores = 1, true, []int{0} },
	} {
		t.Run(name, func(t *testing.T) { life(t, change) })
	}
}

func life(t *testing.T, change func(*Config)) {
	var cfg Config
	change(&cfg)
	workers := cfg.Workers
	n := newNode(t, workers)
	change(&n.cfg)
	n.start(t)
	a, b := n.addPod(t, 11), n.addPod(t, 12)
	agent := dial(t, n.socket())
	h, fds := agent.hello()
	defer func() { closeAll(fds) }()
	if h.PID != n.cmd.Process.Pid || h.Workers != workers || h.Epoch != 0 || len(fds) != workers {
		t.Fatalf("hello %+v", h)
	}
	agent.replay(1, network(a, b))
	n.up(t, a)
	n.up(t, b)
	server := echo(t, b)
	conn := connect(t, a, server)
	says(t, conn, "hello\n")
	checkReads(t, dial(t, n.socket()), a, b, &n.cfg)

	// Killed; its successor takes the flows over and the connection goes on.
	n.kill()
	n.start(t)
	agent = dial(t, n.socket())
	h, more := agent.hello(fds...)
	if h.AdoptedFlows != 2 || len(more) != 0 {
		t.Fatalf("hello of the successor %+v", h)
	}
	agent.replay(2, network(a, b))
	says(t, conn, "are you still there?\n")
	if s := agent.status(); s.State != stateRunning || s.Epoch != 2 {
		t.Errorf("status %+v", s)
	}

	// A new agent: the old one may not change anything any more, the flow memory
	// it lacks is sent.
	second := dial(t, n.socket())
	_, again := second.hello()
	defer closeAll(again)
	if len(again) != workers {
		t.Errorf("%d descriptors, want %d", len(again), workers)
	}
	if r, _ := agent.try(control.Request{Delta: &table.Delta{}}); !strings.Contains(r.Error, "another agent") {
		t.Errorf("the old agent: %q", r.Error)
	}
	says(t, conn, "and now?\n")

	// A pod leaves: its flows go, its frames are dropped in the kernel.
	second.ask(control.Request{Delta: &table.Delta{Remove: table.Removal{
		Vifs: []table.VifID{a.vif.ID}, NextHops: []table.NextHopID{a.vif.NH},
		Routes: []table.RouteKey{{VRF: 1, Prefix: network(a).Upsert.Routes[0].Prefix}},
	}}})
	await(t, "the flows of the pod to go", func() bool { return len(second.flows(control.FlowQuery{})) == 0 })
	before := second.drop("steer-unknown-device")
	if _, err := io.WriteString(conn, "anybody?\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "a drop in the kernel", func() bool { return second.drop("steer-unknown-device") > before })

	// A replay without the other pod takes it away, too.
	second.replay(3, network())
	if r, _ := second.ask(control.Request{Tables: &control.Empty{}}); len(r.Tables.Vifs) != 0 {
		t.Errorf("vifs %v", r.Tables.Vifs)
	}
	if err := n.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// checkReads looks at everything the CLI asks for while a connection is open.
func checkReads(t *testing.T, c *client, a, b *pod, cfg *Config) {
	t.Helper()
	flows := c.flows(control.FlowQuery{})
	if len(flows) != 2 {
		t.Fatalf("flows %+v", flows)
	}
	for _, f := range flows {
		other := c.flows(control.FlowQuery{Index: &f.Reverse})
		if len(other) != 1 || other[0].Reverse != f.Index || other[0].Src != f.Dst || other[0].Dst != f.Src {
			t.Errorf("reverse of %+v is %+v", f, other)
		}
		if f.Action != "F" || f.TCP != "SSrEEr" || f.ECMP != -1 || f.RPF != f.KeyNH || f.Packets == 0 || f.Proto != 6 {
			t.Errorf("flow %+v", f)
		}
	}
	if got := c.flows(control.FlowQuery{Limit: 1}); len(got) != 1 {
		t.Errorf("limit 1: %d flows", len(got))
	}
	r, _ := c.ask(control.Request{Vifs: &control.Empty{}})
	if len(r.Vifs) != 2 || r.Vifs[0].RxPackets == 0 || r.Vifs[0].TxPackets == 0 || r.Vifs[0].Flows != 1 || r.Vifs[1].Flows != 0 {
		t.Errorf("vifs %+v", r.Vifs)
	}
	s := c.status()
	if s.State != stateRunning || len(s.Workers) != cfg.Workers || s.Epoch != 1 || (s.Poll == "busy") != cfg.Busy {
		t.Errorf("status %+v", s)
	}
	var rx uint64
	for _, w := range s.Workers {
		rx += w.RxPackets
		if (w.Core == -1) != (cfg.Cores == nil) || w.FlowSize < 4096 || w.FreeFrames == 0 || w.LastAliveMS > 1000 {
			t.Errorf("worker %+v", w)
		}
	}
	if rx < 6 {
		t.Errorf("workers received %d packets", rx)
	}
	for query, want := range map[*control.TraceQuery]string{
		{Vif: a.vif.ID, Dst: addrPort4(b, 80), Proto: 6}:                              "delivered ",
		{Vif: a.vif.ID, Dst: addrPort4(b, 80), Proto: 132, Size: 1400}:                "delivered ",
		{Vif: a.vif.ID, Dst: addrPort4(b, 80), Proto: 17, Size: 9000, DF: true}:       "dropped too-big",
		{Vif: a.vif.ID, Src: addrPort4(b, 5), Dst: addrPort4(b, 80), Proto: 17}:       "dropped invalid-source",
		{Vif: a.vif.ID, Dst: addrPort4(a, 0), Proto: 1, TTL: 1}:                       "dropped ttl-expired",
		{Vif: a.vif.ID, Dst: addrPortString("198.51.100.1:80"), Proto: 6, Flags: "S"}: "dropped no-route",
	} {
		r, _ := c.ask(control.Request{Trace: query})
		if got := r.Trace.Verdict + " " + r.Trace.Reason; got != want {
			t.Errorf("trace %+v: %q, want %q\n%+v", query, got, want, r.Trace.Steps)
		}
	}
	if n := len(c.flows(control.FlowQuery{})); n != 2 {
		t.Errorf("%d flows after tracing", n)
	}
}

// A vif whose device is gone is an error that names it, and the rest of the
// delta is done; in a replay it is only not attached.
func TestAttachMissingDevice(t *testing.T) {
	n := newNode(t, 1)
	n.start(t)
	a := n.addPod(t, 21)
	ghost := &pod{addr: a.addr.Next(), vif: a.vif}
	ghost.vif.ID, ghost.vif.NH, ghost.vif.Ifindex, ghost.vif.Name = 22, 22, 9999, "tap22"
	ghost.vif.Addrs = nil
	agent := dial(t, n.socket())
	_, fds := agent.hello()
	defer closeAll(fds)
	agent.replay(1, network())
	r, _ := agent.try(control.Request{Delta: network(ghost, a)})
	if !strings.Contains(r.Error, "tap22") || strings.Contains(r.Error, "tap21") {
		t.Errorf("error %q", r.Error)
	}
	agent.replay(2, network(ghost, a))
	if r, _ := agent.ask(control.Request{Vifs: &control.Empty{}}); len(r.Vifs) != 2 || !r.Vifs[0].Attached || r.Vifs[1].Attached {
		t.Errorf("vifs %+v", r.Vifs)
	}
	if r, _ := agent.try(control.Request{Delta: &table.Delta{Remove: table.Removal{VRFs: []table.VRFID{1}}}}); r.Error == "" {
		t.Error("a VRF in use was removed")
	}
	run(t, "ip -n "+n.ns+" link del "+a.vif.Name)
	await(t, "the vif to be detached", func() bool {
		r, _ := agent.ask(control.Request{Vifs: &control.Empty{}})
		return !r.Vifs[0].Attached
	})
}
