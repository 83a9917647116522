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
	// Prepare makes the punt link fit for a fast path that is to be started.
	Prepare func() error
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
	starts pauses
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

// NewFastPath prepares a connection; Run keeps it.
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

// adoptEvery is how often a fast path that something else starts is looked for:
// until it is found, pods are mute.
const adoptEvery = 200 * time.Millisecond

// Run keeps a connection until ctx is done and calls acked whenever more is in the
// fast path. It leaves the fast path running.
func (f *FastPath) Run(ctx context.Context, acked func()) error {
	retry := pauses{least: 100 * time.Millisecond, most: 5 * time.Second}
	if len(f.cfg.Command) == 0 {
		retry.most = adoptEvery
	}
	f.starts = pauses{least: 200 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		err := f.serve(ctx, acked, retry.reset)
		if ctx.Err() != nil {
			break
		}
		if before := f.Health(); before.InSync || before.Err != err.Error() {
			f.cfg.Log.Warn("fast path lost", "error", err)
		}
		f.setHealth(func(h *Health) { h.InSync, h.Err = false, err.Error() })
		retry.wait(ctx, nil)
	}
	return nil
}

// callTimeout bounds one exchange; attaching a batch of interfaces is the
// longest. askTimeout bounds a read somebody waits for.
const (
	callTimeout = 15 * time.Second
	askTimeout  = 5 * time.Second
)

// probeEvery is how often an idle fast path is asked for a sign of life, and
// probeTimeout how long it may take to give one.
const (
	probeEvery   = 2 * time.Second
	probeTimeout = 5 * time.Second
)

// serve connects, replays everything, then sends differences.
func (f *FastPath) serve(ctx context.Context, acked func(), connected func()) error {
	c, err := f.connect(ctx)
	if err != nil {
		return err
	}
	x := newExchange(c)
	defer x.close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := f.hello(x); err != nil {
		return err
	}
	sent, err := f.replay(ctx, x)
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
		case a := <-x.answers:
			return a.died()
		case <-probe.C:
			if _, err := x.ask(&control.Request{Status: &control.Empty{}}, probeTimeout); err != nil {
				return fmt.Errorf("it gives no sign of life: %w", err)
			}
		case <-f.kick:
			want, version := f.latest()
			d := compile.Diff(sent, want)
			if !compile.IsEmpty(&d) {
				if _, err := x.ask(&control.Request{Delta: &d}, callTimeout); err != nil {
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

// hello introduces us.
func (f *FastPath) hello(x *exchange) error {
	h := &control.Hello{Version: control.Version, Node: f.cfg.Node, PuntOuter: f.cfg.PuntOuter, PuntInner: f.cfg.PuntInner}
	r, err := x.ask(&control.Request{Hello: h}, callTimeout)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if r.Hello == nil {
		return errors.New("hello: the answer is empty")
	}
	f.cfg.Log.Info("fast path connected", "pid", r.Hello.PID, "workers", r.Hello.Workers, "adopted flows", r.Hello.AdoptedFlows)
	f.setHealth(func(s *Health) {
		s.PID, s.Workers, s.Adopted, s.Err = r.Hello.PID, r.Hello.Workers, r.Hello.AdoptedFlows, "replaying"
	})
	return nil
}

// replayBatch is about the number of objects in one message: each copies the pages of the
// tables that it changes, and has the agent wait for an answer.
const replayBatch = 4000

// replay says everything under a new epoch; what is not said is swept.
func (f *FastPath) replay(ctx context.Context, x *exchange) (*table.State, error) {
	for {
		if want, version := f.latest(); want != nil {
			return want, f.replayState(x, want, version)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case a := <-x.answers:
			return nil, a.died()
		case <-f.kick:
		}
	}
}

func (f *FastPath) replayState(x *exchange, want *table.State, version uint64) error {
	epoch := uint64(time.Now().UnixNano())
	if _, err := x.ask(&control.Request{Begin: &control.Begin{Epoch: epoch}}, callTimeout); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	for _, d := range compile.Replay(want, replayBatch) {
		if _, err := x.ask(&control.Request{Delta: &d}, callTimeout); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	if _, err := x.ask(&control.Request{InSync: &control.InSync{Epoch: epoch}}, callTimeout); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	f.ack(version)
	return nil
}

// Ask makes one read of the fast path on a connection of its own.
func (f *FastPath) Ask(q *control.Request) (*control.Reply, error) {
	c, err := wire.Dial(filepath.Join(f.cfg.RunDir, control.SocketName))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
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
