// Package engine is the fast path's process: it opens steering, sockets and flow
// memory, runs the workers, and serves the control socket. It owns them all for
// as long as it runs; what must outlive it is pinned (steering) or held by the
// agent (flow memory). It decides nothing about packets.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// Config is what the process is started with. Everything else comes with Hello.
type Config struct {
	Node        string
	Version     string
	RunDir      string
	Workers     int
	Cores       []int // one per worker; empty: not pinned
	Busy        bool  // poll: busy
	FlowEntries int   // per worker
	Frames      int   // packet buffers per worker
	Log         *slog.Logger
}

// heapPercent lets the heap double: it is tens of megabytes, and everything large
// is outside of it.
const heapPercent = 100

// Run serves until ctx is done. It returns at once when another fast path runs in
// the same directory.
func Run(ctx context.Context, cfg Config) error {
	debug.SetGCPercent(heapPercent)
	unlock, err := lock(cfg.RunDir)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := wire.Listen(filepath.Join(cfg.RunDir, control.SocketName), 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &engine{cfg: cfg, started: time.Now(), ctx: ctx}
	cfg.Log.Info("fast path waits for the agent", "node", cfg.Node, "socket", filepath.Join(cfg.RunDir, control.SocketName))
	err = e.serve(ctx, l)
	cancel()
	e.stop()
	return err
}

// lock makes sure that one fast path runs per directory.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "fastpath.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another fast path runs in %s (%s is locked): stop it first", dir, f.Name())
	}
	return func() { f.Close() }, nil
}

// engine is the state behind the socket.
type engine struct {
	// Set once by Run.
	cfg     Config
	ctx     context.Context // ends the workers
	started time.Time

	// Guarded by mu: one request at a time changes tables or starts the plane.
	mu    sync.Mutex
	plane *plane // nil until the first Hello
	agent *wire.Conn

	connections sync.WaitGroup
}

// serve accepts until ctx is done, then ends every connection.
func (e *engine) serve(ctx context.Context, l *wire.Listener) error {
	open := connections{list: map[*wire.Conn]bool{}}
	stop := context.AfterFunc(ctx, func() { l.Close(); open.close() })
	defer stop()
	defer e.connections.Wait()
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		case !open.add(c):
			c.Close()
			continue
		}
		e.connections.Add(1)
		e.Run(c, &open)
	}
}

// Run answers one connection in a goroutine of its own; serve waits for it.
func (e *engine) Run(c *wire.Conn, open *connections) {
	go func() {
		defer e.connections.Done()
		defer open.remove(c)
		e.talk(c)
	}()
}

// connections are those to end when the process ends.
type connections struct {
	mu     sync.Mutex
	list   map[*wire.Conn]bool
	closed bool
}

func (o *connections) add(c *wire.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.list[c] = true
	}
	return !o.closed
}

func (o *connections) remove(c *wire.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.list, c)
	c.Close()
}

func (o *connections) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for c := range o.list {
		c.Close()
	}
}

// stop waits for the workers and lets go of everything; pins stay.
func (e *engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.plane != nil {
		e.plane.close()
	}
	e.cfg.Log.Info("fast path stopped; pods are mute until its successor runs", "node", e.cfg.Node)
}
