// Package dial keeps the agent's two connections: to its fast path, which it
// starts when there is none, and to the controllers. Each is told the whole state
// it should have and finds the difference itself; each survives its other end. It
// decides nothing: what to say comes from the node's state.
package dial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

// FastPathConfig says where the fast path is and how it is started.
type FastPathConfig struct {
	Node      string
	RunDir    string
	PuntOuter string
	PuntInner string
	// Command starts the fast path when none answers; empty: only adopt one.
	Command []string
	LogFile string // its output
	Log     *slog.Logger
}

// FastPath keeps one fast path programmed with the state last Set.
type FastPath struct {
	// Set once by NewFastPath.
	cfg  FastPathConfig
	kick chan struct{}

	// Guarded by mu.
	mu      sync.Mutex
	want    *table.State
	version uint64        // of want
	acked   uint64        // the last version that is in the fast path
	changed chan struct{} // closed and replaced whenever acked or health moves
	health  Health

	// Owned by Run.
	memory []int // descriptors of its flow memory, for its successor
	starts backoff
}

// Health is what is known of the fast path.
type Health struct {
	InSync  bool
	PID     int
	Workers int
	Adopted int // flow entries its process took over
	Since   time.Time
	Err     string // why it is not in sync
}

// NewFastPath prepares a session; Run keeps it.
func NewFastPath(cfg FastPathConfig) *FastPath {
	return &FastPath{cfg: cfg, kick: make(chan struct{}, 1), changed: make(chan struct{}),
		health: Health{Since: time.Now(), Err: "not connected yet"}}
}

// Set says the whole state the fast path should have. It returns a version to Wait
// for. States set while one is under way are skipped for the latest.
func (f *FastPath) Set(s *table.State) uint64 {
	f.mu.Lock()
	f.want = s
	f.version++
	v := f.version
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
	return v
}

// Acked is the last version that is in the fast path.
func (f *FastPath) Acked() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked
}

// Wait returns when the fast path has this version or a later one.
func (f *FastPath) Wait(ctx context.Context, version uint64) error {
	for {
		f.mu.Lock()
		acked, changed, health := f.acked, f.changed, f.health
		f.mu.Unlock()
		if acked >= version {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if health.Err != "" {
				return fmt.Errorf("fast path: %s", health.Err)
			}
			return fmt.Errorf("fast path: did not take the change in time: %w", ctx.Err())
		}
	}
}

// Health returns what is known of the fast path.
func (f *FastPath) Health() Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

func (f *FastPath) setHealth(change func(h *Health)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.health
	change(&f.health)
	if before.InSync != f.health.InSync {
		f.health.Since = time.Now()
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// Run keeps a session until ctx is done and calls acked whenever more is in the
// fast path. It leaves the fast path running.
func (f *FastPath) Run(ctx context.Context, acked func()) error {
	defer f.release()
	retry := backoff{least: 100 * time.Millisecond, most: 5 * time.Second}
	f.starts = backoff{least: 200 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		err := f.session(ctx, acked, retry.reset)
		if ctx.Err() != nil {
			break
		}
		f.setHealth(func(h *Health) { h.InSync, h.Err = false, err.Error() })
		f.cfg.Log.Warn("fast path session ended", "error", err)
		retry.wait(ctx)
	}
	return nil
}

func (f *FastPath) release() {
	for _, fd := range f.memory {
		unix.Close(fd)
	}
}

// callTimeout bounds one exchange; attaching a batch of interfaces is the longest.
const callTimeout = 15 * time.Second

// probeEvery is how often an idle fast path is asked for a sign of life.
const probeEvery = 2 * time.Second

// session connects, replays everything, then sends differences.
func (f *FastPath) session(ctx context.Context, acked func(), connected func()) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := f.hello(c); err != nil {
		return err
	}
	sent, err := f.replay(ctx, c)
	if err != nil {
		return err
	}
	connected()
	acked()
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-probe.C:
			if _, err := call(c, &control.Request{Status: &control.Empty{}}); err != nil {
				return err
			}
		case <-f.kick:
			want, version := f.latest()
			d := compile.Diff(sent, want)
			if !compile.IsEmpty(&d) {
				if _, err := call(c, &control.Request{Delta: &d}); err != nil {
					return err
				}
			}
			sent = want
			f.ack(version)
			acked()
		}
	}
}

func (f *FastPath) latest() (*table.State, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.want, f.version
}

func (f *FastPath) ack(version uint64) {
	f.mu.Lock()
	f.acked = version
	f.mu.Unlock()
	f.setHealth(func(h *Health) { h.InSync, h.Err = true, "" })
}

// hello introduces us. Flow memory goes to the fast path that has none and comes
// from the one that has.
func (f *FastPath) hello(c *wire.Conn) error {
	h := &control.Hello{Version: control.Version, Node: f.cfg.Node, PuntOuter: f.cfg.PuntOuter, PuntInner: f.cfg.PuntInner, FlowMemory: len(f.memory)}
	if err := c.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	if err := c.Send(&control.Request{Hello: h}, f.memory...); err != nil {
		return err
	}
	var r control.Reply
	fds, err := c.Receive(&r)
	if err != nil {
		return err
	}
	if r.Error != "" || r.Hello == nil {
		return fmt.Errorf("the fast path refuses: %s", r.Error)
	}
	if len(fds) > 0 {
		f.release()
		f.memory = fds
	}
	f.cfg.Log.Info("fast path connected", "pid", r.Hello.PID, "workers", r.Hello.Workers, "adopted flows", r.Hello.AdoptedFlows)
	f.setHealth(func(s *Health) {
		s.PID, s.Workers, s.Adopted, s.Err = r.Hello.PID, r.Hello.Workers, r.Hello.AdoptedFlows, "replaying"
	})
	return nil
}

// replayBatch is about the number of objects in one message.
const replayBatch = 1000

// replay says everything under a new epoch; what is not said is swept.
func (f *FastPath) replay(ctx context.Context, c *wire.Conn) (*table.State, error) {
	for {
		if want, version := f.latest(); want != nil {
			return want, f.replayState(c, want, version)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.kick:
		}
	}
}

func (f *FastPath) replayState(c *wire.Conn, want *table.State, version uint64) error {
	epoch := uint64(time.Now().UnixNano())
	if _, err := call(c, &control.Request{Begin: &control.Begin{Epoch: epoch}}); err != nil {
		return err
	}
	for _, d := range compile.Replay(want, replayBatch) {
		if _, err := call(c, &control.Request{Delta: &d}); err != nil {
			return err
		}
	}
	if _, err := call(c, &control.Request{InSync: &control.InSync{Epoch: epoch}}); err != nil {
		return err
	}
	f.ack(version)
	return nil
}

// call makes one exchange.
func call(c *wire.Conn, q *control.Request) (*control.Reply, error) {
	if err := c.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	var r control.Reply
	if err := c.Call(q, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return &r, nil
}

// Ask makes one read of the fast path on a connection of its own.
func (f *FastPath) Ask(q *control.Request) (*control.Reply, error) {
	c, err := wire.Dial(filepath.Join(f.cfg.RunDir, control.SocketName))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return call(c, q)
}
