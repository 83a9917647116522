// Package engine is the process "vragent fastpath": it joins workers, links,
// flow memory and tables, and answers the agent and the CLI on a Unix socket.
// The agent that said hello last owns the tables; each worker owns its thread,
// its socket and its flow table. It decides nothing about a packet, and of the
// node it changes only what steering pins.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/table"
)

// Config is what the process is started with.
type Config struct {
	Node         string
	Version      string // of the program, for status
	RunDir       string // of the socket, the lock, the pins in bpf/ and the flow memory in flows/
	Workers      int
	Cores        []int // one per worker; empty: not pinned
	Busy         bool  // poll: busy
	FlowEntries  int   // per worker
	FlowEntries6 int   // the same for IPv6; 0: a quarter as many
	Frames       int   // packet buffers per worker
	FabricXDP    bool  // fabric.io: afxdp; else the fabric is steered like everything
	Offload      admit.Mode
	Attach       steer.Attach
	Log          *slog.Logger
}

// flowSize is how many flow entries of each family a worker has.
func (c *Config) flowSize() flow.Size {
	size := flow.Size{Four: c.FlowEntries, Six: c.FlowEntries6}
	if size.Six == 0 {
		size.Six = (c.FlowEntries + 3) / 4
	}
	return size
}

// engine is the state behind the socket.
type engine struct {
	// Set once by Run.
	cfg     Config
	log     *slog.Logger
	started time.Time
	garbage *collector
	start   chan *plane // hands the plane to forward, once, when the tables are complete

	// Written under mu, read by anyone.
	plane atomic.Pointer[plane] // nil until an agent said hello

	// Guarded by mu: one change at a time.
	mu        sync.Mutex
	builder   *table.Builder // its reads are for everyone
	agent     *wire.Conn     // who may change tables
	replaying bool           // between Begin and InSync
}

// Run serves until ctx is done (nil) or a worker fails. What is pinned stays:
// a successor takes it over. It sets limits of the whole process.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.RunDir, 0o755); err != nil {
		return fmt.Errorf("fast path: %w", err)
	}
	lock, err := acquire(filepath.Join(cfg.RunDir, "fastpath.lock"))
	if err != nil {
		return fmt.Errorf("fast path: %w", err)
	}
	defer lock.Close()
	socket := filepath.Join(cfg.RunDir, control.SocketName)
	l, err := wire.Listen(socket, 0o600)
	if err != nil {
		return fmt.Errorf("fast path: %w", err)
	}
	e := &engine{cfg: cfg, log: cfg.Log, started: time.Now(), start: make(chan *plane, 1), builder: table.NewBuilder()}
	e.garbage = newCollector(e.hold)
	e.tune()
	if err := settle(cfg.Cores, cfg.Busy); err != nil {
		return fmt.Errorf("fast path: %w", err)
	}
	defer e.close()
	e.log.Info("fast path waits for the agent", "node", cfg.Node, "socket", socket)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.serve(ctx, l) })
	g.Go(func() error { return e.forward(ctx) })
	g.Go(func() error { return e.garbage.run(ctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	e.log.Info("fast path stops; pods are mute until its successor runs", "node", cfg.Node)
	return nil
}

func (c *Config) check() error {
	switch {
	case c.Workers < 1 || c.Workers > steer.MaxWorkers:
		return fmt.Errorf("fast path: %d workers: want 1 to %d", c.Workers, steer.MaxWorkers)
	case len(c.Cores) != 0 && len(c.Cores) != c.Workers:
		return fmt.Errorf("fast path: %d cores for %d workers: one each, or none at all", len(c.Cores), c.Workers)
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("fast path: read the cores this process may use: %w", err)
	}
	for _, core := range c.Cores {
		if !allowed.IsSet(core) {
			return fmt.Errorf("fast path: core %d is offline or not for this process (see taskset -p %d)", core, os.Getpid())
		}
	}
	return nil
}

// acquire takes the lock that keeps a second instance away. It is held until
// the file is closed, and by nobody after a crash.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid := make([]byte, 16)
		n, _ := f.Read(pid)
		return nil, errors.Join(fmt.Errorf("another one runs in this run directory (pid %s holds %s)", pid[:n], path), f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprint(f, os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// forward runs the workers once the tables are complete.
func (e *engine) forward(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case p := <-e.start:
		return p.Run(ctx, e.log)
	}
}

// close gives back what the process holds. Pins stay.
func (e *engine) close() {
	if p := e.plane.Load(); p != nil {
		if err := p.close(); err != nil {
			e.log.Warn("closing the data plane", "error", err)
		}
	}
}
