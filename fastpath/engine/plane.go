package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/link/xsk"
	"github.com/vragent/vragent/fastpath/table"
)

// plane is the running data plane.
type plane struct {
	// Set once by newPlane.
	steer   *steer.Steer
	umem    *xsk.UMEM
	sockets []*xsk.Socket
	memory  []int // memfds of the flow tables, by worker
	flows   []*flow.Table
	shared  *forward.Shared
	workers []*forward.Worker
	adopted int // flow entries taken over
	limits  []string

	// Guarded by engine.mu.
	builder *table.Builder
	synced  bool // a replay was completed: workers may see the tables

	running sync.WaitGroup
}

// newPlane builds everything in the order in which frames need it: memory, tables,
// sockets, and last the steering's knowledge of the sockets.
func newPlane(cfg *Config, h *control.Hello, fds []int) (*plane, error) {
	p := &plane{builder: table.NewBuilder()}
	for _, step := range []func(*Config, *control.Hello, []int) error{p.openFlows, p.openSteering, p.openSockets, p.connect} {
		if err := step(cfg, h, fds); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// openFlows adopts the agent's flow memory, or makes new memory when there is none
// or it does not fit.
func (p *plane) openFlows(cfg *Config, _ *control.Hello, fds []int) error {
	if len(fds) == cfg.Workers && p.adopt(cfg, fds) {
		return nil
	}
	p.memory, p.flows, p.adopted = nil, nil, 0
	for i := range cfg.Workers {
		fd, mem, err := flow.NewMemory(cfg.FlowEntries)
		if err != nil {
			return fmt.Errorf("flow table of worker %d: %w", i, err)
		}
		p.memory = append(p.memory, fd)
		t, err := flow.New(mem, i, seed())
		if err != nil {
			return fmt.Errorf("flow table of worker %d: %w", i, err)
		}
		p.flows = append(p.flows, t)
	}
	return nil
}

func (p *plane) adopt(cfg *Config, fds []int) bool {
	for i, fd := range fds {
		mem, err := flow.MapMemory(fd)
		if err == nil {
			var t *flow.Table
			if t, err = flow.Adopt(mem, i); err == nil {
				p.flows = append(p.flows, t)
				p.adopted += t.Len()
				continue
			}
		}
		cfg.Log.Warn("the predecessor's flow table cannot be used: flows begin anew", "worker", i, "error", err)
		return false
	}
	p.memory = append(p.memory, fds...)
	return true
}

func seed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

func (p *plane) openSteering(cfg *Config, h *control.Hello, _ []int) error {
	var ends [2]int
	for i, name := range []string{h.PuntOuter, h.PuntInner} {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("punt link %s: %w", name, err)
		}
		ends[i] = dev.Index
	}
	var err error
	p.steer, err = steer.Open(steer.Config{BPFDir: filepath.Join(cfg.RunDir, "bpf"), PuntOuter: ends[0], PuntInner: ends[1], Workers: cfg.Workers})
	return err
}

func (p *plane) openSockets(cfg *Config, h *control.Hello, _ []int) (err error) {
	if p.umem, err = xsk.NewUMEM(cfg.Frames * cfg.Workers); err != nil {
		return err
	}
	pools := frame.NewPools(cfg.Frames, cfg.Workers)
	var first *xsk.Socket
	for i := range cfg.Workers {
		s, err := xsk.Open(xsk.Config{Ifname: h.PuntInner, Queue: i, Pool: pools[i], UMEM: p.umem, Shared: first})
		if err != nil {
			return err
		}
		if first == nil {
			first = s
			p.limits = s.Limits()
		}
		p.sockets = append(p.sockets, s)
	}
	p.shared, err = forward.NewShared(forward.Options{Workers: cfg.Workers, Memory: p.umem.Memory, Pools: pools, Flows: p.flows, Busy: cfg.Busy})
	return err
}

func (p *plane) connect(cfg *Config, _ *control.Hello, _ []int) error {
	for i, s := range p.sockets {
		p.workers = append(p.workers, p.shared.Worker(i, s))
	}
	for i, s := range p.sockets {
		if err := p.steer.SetSocket(i, s.FD()); err != nil {
			return err
		}
	}
	return nil
}

// Run gives every worker a thread of its own, pinned to its core if it has one. A
// worker that panics takes the process down: the agent starts its successor.
func (p *plane) Run(ctx context.Context, cfg *Config) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), cfg.Workers+2))
	for i, w := range p.workers {
		p.running.Add(1)
		go func() {
			defer p.running.Done()
			runtime.LockOSThread()
			if i < len(cfg.Cores) {
				if err := pin(cfg.Cores[i]); err != nil {
					cfg.Log.Warn("worker is not pinned to its core", "worker", i, "core", cfg.Cores[i], "error", err)
				}
			}
			if err := w.Run(ctx); err != nil {
				cfg.Log.Error("worker ended", "worker", i, "error", err)
			}
		}()
	}
}

func pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	return unix.SchedSetaffinity(0, &set)
}

// close waits for the workers, whose context has ended, and releases what is ours.
func (p *plane) close() error {
	p.running.Wait()
	var errs []error
	for _, s := range p.sockets {
		errs = append(errs, s.Close())
	}
	if p.steer != nil {
		errs = append(errs, p.steer.Close())
	}
	return errors.Join(errs...)
}
