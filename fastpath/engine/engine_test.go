package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/store"
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
	if s := c.status(); s.State != control.StateWaiting || s.PID != os.Getpid() || s.Node != "n1" || s.Poll != "adaptive" {
		t.Errorf("status %+v", s)
	}
	if r := c.ask(control.Request{Tables: &control.Empty{}}); r.Tables == nil || len(r.Tables.Vifs) != 0 {
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
		if r := c.try(req); name != "empty request" && !strings.Contains(r.Error, name) || r.Error == "" {
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

// shm is a directory on a tmpfs that every Linux has.
func shm(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "engine")
	if err != nil {
		t.Skipf("needs /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, flowsDir)
}

// Flow memory is taken over only whole and fitting; mappings never leak.
func TestAdoptFlowMemory(t *testing.T) {
	dir := shm(t)
	log := &strings.Builder{}
	reopen := func(workers, entries int) *flowMemory {
		t.Helper()
		log.Reset()
		m, err := openFlowMemory(dir, workers, flow.Size{Four: entries, Six: entries}, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	maps := countMaps(t)
	m := reopen(2, 100)
	k := flow.Key{KeyNH: 7}
	slot, ok := m.tables[1].Insert(&k)
	if !ok {
		t.Fatal("insert")
	}
	m.tables[1].Entry(slot).Action = flow.ActionForward
	m.clients.Put(1234, 5, 6)
	again := reopen(2, 100) // the first one was killed: its memory stays as it is
	if _, ok := again.tables[1].Lookup(&k); !ok || again.adopted != 1 || log.Len() > 0 {
		t.Errorf("adopted %d flows; log: %s", again.adopted, log)
	}
	for want, next := range map[string]func() *flowMemory{
		"it had 2 workers, now there are 3":             func() *flowMemory { return reopen(3, 100) },
		"it had 3 workers, now there are 1":             func() *flowMemory { return reopen(1, 100) },
		"not for 5000 entries of IPv4 and 5000 of IPv6": func() *flowMemory { return reopen(2, 5000) },
		"belongs to worker 1":                           func() *flowMemory { swap(t, dir); return reopen(2, 100) },
	} {
		if strings.Contains(want, "had 3") {
			reopen(3, 100).close()
		} else {
			reopen(2, 100).close()
		}
		other := next()
		if other.adopted != 0 || !strings.Contains(log.String(), want) {
			t.Errorf("adopted %d flows, log %q, want one that says %q", other.adopted, log, want)
		}
		if member, _, ok := other.clients.Find(1234); !ok || member != 5 {
			t.Error("which member serves a client is forgotten")
		}
		if err := other.close(); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(m.close(), again.close()); err != nil {
		t.Error(err)
	}
	if n := countMaps(t); n != maps {
		t.Errorf("%d mappings, %d before", n, maps)
	}
}

// swap exchanges the files of two workers.
func swap(t *testing.T, dir string) {
	t.Helper()
	for _, r := range [][2]string{{file(0), "x"}, {file(1), file(0)}, {"x", file(1)}} {
		if err := os.Rename(filepath.Join(dir, r[0]), filepath.Join(dir, r[1])); err != nil {
			t.Fatal(err)
		}
	}
}

// countMaps counts mapped files of flow memory.
func countMaps(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "/"+flowsDir+"/")
}

// Where no file can be, flows live as long as the process, and the log says so.
func TestFlowMemoryWithoutFiles(t *testing.T) {
	log := &strings.Builder{}
	m, err := openFlowMemory("/dev/null/flows", 1, flow.Size{Four: 100, Six: 100}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.tables) != 1 || !strings.Contains(log.String(), "flows will not outlive this process") || !strings.Contains(m.limits()[0], "not a directory") {
		t.Errorf("%d tables, log %q, limits %v", len(m.tables), log, m.limits())
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
	if m, err := openFlowMemory(shm(t), 1, flow.Size{}, slog.New(slog.DiscardHandler)); err == nil {
		_ = m.close()
		t.Error("made a table of no entries")
	}
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
	memory, err := newFlowMemory(store.Private(), 1, flow.Size{Four: 64, Six: 64}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	pools, mem := frame.NewPools(64, 1), make(frame.Memory, 64*frame.ChunkSize)
	shared, err := forward.NewShared(forward.Options{Workers: 1, Memory: mem, Pools: pools, Flows: memory.tables, Clients: memory.clients})
	if err != nil {
		panic(err)
	}
	l := linkmem.New(mem, pools[0])
	p := &plane{memory: memory, shared: shared, workers: []*forward.Worker{shared.Worker(0, l, l)}}
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
	h := agent.hello()
	if h.PID != n.cmd.Process.Pid || h.Workers != workers || h.Epoch != 0 || h.AdoptedFlows != 0 {
		t.Fatalf("hello %+v", h)
	}
	agent.replay(1, network(a, b))
	n.up(t, a)
	n.up(t, b)
	server := echo(t, b)
	conn := connect(t, a, server)
	says(t, conn, "hello\n")
	checkReads(t, dial(t, n.socket()), a, b, &n.cfg)

	// Killed, and the agent with it; its successor takes the flows over and the
	// connection goes on.
	n.kill()
	_ = agent.Close()
	n.start(t)
	agent = dial(t, n.socket())
	if h = agent.hello(); h.AdoptedFlows != 2 {
		t.Fatalf("hello of the successor %+v", h)
	}
	agent.replay(2, network(a, b))
	says(t, conn, "are you still there?\n")
	if s := agent.status(); s.State != control.StateRunning || s.Epoch != 2 {
		t.Errorf("status %+v", s)
	}

	// A new agent: the old one may not change anything any more.
	second := dial(t, n.socket())
	second.hello()
	if r := agent.try(control.Request{Delta: &table.Delta{}}); !strings.Contains(r.Error, "another agent") {
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
	if r := second.ask(control.Request{Tables: &control.Empty{}}); len(r.Tables.Vifs) != 0 {
		t.Errorf("vifs %v", r.Tables.Vifs)
	}
	if err := n.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// TestSuccessor: fast path and agent are killed at once. Nobody but the files in the run
// directory knows of the connection to a service, and it goes on; what
// the status says of limits does not speak of it.
func TestSuccessor(t *testing.T) {
	n := newNode(t, 2)
	n.start(t)
	a, b := n.addPod(t, 31), n.addPod(t, 32)
	vip := netip.MustParseAddr("198.51.100.10")
	tables := network(a, b)
	tables.Upsert.NextHops = append(tables.Upsert.NextHops, table.NextHop{ID: 100, Type: table.NHComposite, VRF: 1, Proto: 6, Port: 80, Affinity: 3600,
		Members: []table.Member{{NH: b.vif.NH, Key: 1, Name: "b"}}})
	tables.Upsert.Routes = append(tables.Upsert.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(vip, 32), NH: 100})
	tables.Upsert.PortMaps = []table.PortMap{{Vif: b.vif.ID, VIP: vip, Proto: 6, Port: 80, Fixed: b.addr, Target: 7000}}
	agent := dial(t, n.socket())
	agent.hello()
	agent.replay(1, tables)
	n.up(t, a)
	n.up(t, b)
	echo(t, b)
	conn := connect(t, a, vip.String()+":80")
	says(t, conn, "hello\n")
	n.kill()
	_ = agent.Close()
	n.start(t)
	agent = dial(t, n.socket())
	if h := agent.hello(); h.AdoptedFlows != 2 {
		t.Errorf("%d flows were taken over", h.AdoptedFlows)
	}
	if f := agent.flows(control.FlowQuery{}); len(f) != 2 || f[0].Action != "N" || f[1].Action != "N" {
		t.Errorf("flows %+v", f)
	}
	agent.replay(2, tables)
	says(t, conn, "are you still there?\n")
	if l := agent.status().Limits; slices.ContainsFunc(l, func(s string) bool { return strings.Contains(s, "outlive") }) {
		t.Errorf("limits %v", l)
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
	r := c.ask(control.Request{Vifs: &control.Empty{}})
	if len(r.Vifs) != 2 || r.Vifs[0].RxPackets == 0 || r.Vifs[0].TxPackets == 0 || r.Vifs[0].Flows != 1 || r.Vifs[1].Flows != 0 {
		t.Errorf("vifs %+v", r.Vifs)
	}
	s := c.status()
	if s.State != control.StateRunning || len(s.Workers) != cfg.Workers || s.Epoch != 1 || (s.Poll == "busy") != cfg.Busy {
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
		r := c.ask(control.Request{Trace: query})
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
	agent.hello()
	agent.replay(1, network())
	r := agent.try(control.Request{Delta: network(ghost, a)})
	if !strings.Contains(r.Error, "tap22") || strings.Contains(r.Error, "tap21") {
		t.Errorf("error %q", r.Error)
	}
	agent.replay(2, network(ghost, a))
	if r := agent.ask(control.Request{Vifs: &control.Empty{}}); len(r.Vifs) != 2 || !r.Vifs[0].Attached || r.Vifs[1].Attached {
		t.Errorf("vifs %+v", r.Vifs)
	}
	if r := agent.try(control.Request{Delta: &table.Delta{Remove: table.Removal{VRFs: []table.VRFID{1}}}}); r.Error == "" {
		t.Error("a VRF in use was removed")
	}
	run(t, "ip -n "+n.ns+" link del "+a.vif.Name)
	await(t, "the vif to be detached", func() bool {
		r := agent.ask(control.Request{Vifs: &control.Empty{}})
		return !r.Vifs[0].Attached
	})
}
