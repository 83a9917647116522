package dial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
)

// startTimeout bounds how long a started fast path may take to listen.
const startTimeout = 5 * time.Second

// connect returns a connection to the fast path that runs, or to one it started.
func (f *FastPath) connect(ctx context.Context) (*wire.Conn, error) {
	socket := filepath.Join(f.cfg.RunDir, control.SocketName)
	c, err := wire.Dial(socket)
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f.cfg.Prepare != nil {
		if err := f.cfg.Prepare(); err != nil {
			return nil, err
		}
	}
	if len(f.cfg.Command) == 0 {
		return nil, fmt.Errorf("no fast path runs in %s, and this agent is not to start one (fastpath.start): %w", f.cfg.RunDir, err)
	}
	f.starts.wait(ctx, nil)
	exited, err := f.start()
	if err != nil {
		return nil, err
	}
	deadline := time.After(startTimeout)
	for {
		if c, err = wire.Dial(socket); err == nil {
			f.starts.reset()
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-exited:
			return nil, fmt.Errorf("the fast path ended at once: %v (see %s)", err, f.cfg.LogFile)
		case <-deadline:
			return nil, fmt.Errorf("the fast path does not listen after %s (see %s): %w", startTimeout, f.cfg.LogFile, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// start runs the fast path apart from this one (setsid): it outlives this agent.
func (f *FastPath) start() (exited <-chan error, err error) {
	out, err := os.OpenFile(f.cfg.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log of the fast path: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(f.cfg.Command[0], f.cfg.Command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the fast path: %w", err)
	}
	f.cfg.Log.Info("fast path started", "pid", cmd.Process.Pid)
	child := reaper{cmd: cmd, exited: make(chan error, 1)}
	child.Run()
	return child.exited, nil
}

// reaper collects the child when it ends, which may be after this agent has.
type reaper struct {
	cmd    *exec.Cmd
	exited chan error
}

// Run waits in the background; nobody waits for it: the child may live longer.
func (r reaper) Run() { go func() { r.exited <- r.cmd.Wait() }() }

// pauses space repeated attempts: none before the first, then doubling, with jitter.
type pauses struct {
	least, most time.Duration
	next        time.Duration
}

func (b *pauses) reset() { b.next = 0 }

// wait waits until the pause is over, or for less: until ctx is done or there is
// a reason to hurry (nil: never).
func (b *pauses) wait(ctx context.Context, hurry <-chan struct{}) {
	d := b.next
	b.next = min(max(2*b.next, b.least), b.most)
	if d == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-hurry:
	case <-time.After(d/2 + rand.N(d)):
	}
}
