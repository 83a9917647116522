package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/poll"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/link/xsk"
)

// plane is the data plane: everything between the kernel and the workers.
type plane struct {
	// Set once by openPlane.
	cores    []int
	punt     []*net.Interface // both ends
	memory   *flowMemory
	steer    *steer.Steer
	fabric   fabricLinks
	taps     taps
	umem     *xsk.UMEM
	sockets  []*xsk.Socket
	kernel   kernel
	shared   *forward.Shared
	workers  []*forward.Worker
	sleepers []*poll.Sleeper // of the workers
	holds    bool            // they sleep without a word to Go's scheduler
	joins    bool            // the kernel joins segments on the punt link

	// Written by begin, read by anyone.
	running atomic.Bool
}

// Folders of the run directory.
const (
	pinsDir  = "bpf"
	flowsDir = "flows"
)

// openPlane opens flow memory, steering and a socket per worker on the punt link.
// Nothing is received before begin.
func openPlane(cfg *Config, h *control.Hello) (*plane, error) {
	p := &plane{cores: cfg.Cores}
	if err := p.open(cfg, h); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *plane) open(cfg *Config, h *control.Hello) error {
	outer, err := net.InterfaceByName(h.PuntOuter)
	if err != nil {
		return fmt.Errorf("punt link %s: %w", h.PuntOuter, err)
	}
	inner, err := net.InterfaceByName(h.PuntInner)
	if err != nil {
		return fmt.Errorf("punt link %s: %w", h.PuntInner, err)
	}
	p.punt = []*net.Interface{outer, inner}
	if p.memory, err = openFlowMemory(filepath.Join(cfg.RunDir, flowsDir), cfg.Workers, cfg.flowSize(), cfg.Log); err != nil {
		return err
	}
	if p.steer, err = steer.Open(steer.Config{BPFDir: filepath.Join(cfg.RunDir, pinsDir), PuntOuter: outer.Index, PuntInner: inner.Index, Workers: cfg.Workers, CacheFlows: roomFor(cfg.Offload), Attach: cfg.Attach}); err != nil {
		return err
	}
	p.kernel = p.openKernel(cfg)
	pools := frame.NewPools(cfg.frames(), cfg.Workers)
	if p.umem, err = xsk.NewUMEM(frame.AddLarge(pools, larges) / frame.ChunkSize); err != nil {
		return err
	}
	p.taps.memory, p.taps.pools = p.umem.Memory, pools
	if err := p.openFabric(cfg, pools); err != nil {
		return err
	}
	for i := range cfg.Workers {
		c := xsk.Config{Ifname: inner.Name, Ifindex: inner.Index, Queue: i, Pool: pools[i], UMEM: p.umem, Round: p.steer.Round(i)}
		if i > 0 {
			c.Shared = p.sockets[0]
		}
		s, err := xsk.Open(c)
		if err != nil {
			return err
		}
		p.sockets = append(p.sockets, s)
	}
	slice, known := findSlice(cfg.Workers, cfg.Log)
	p.holds = known
	p.shared, err = forward.NewShared(forward.Options{
		Workers: cfg.Workers, Memory: p.umem.Memory, Pools: pools, Flows: p.memory.tables, Clients: p.memory.clients, Busy: cfg.Busy,
		Joins: p.join(cfg), Offload: p.kernel.config, Slice: slice,
	})
	if err != nil {
		return err
	}
	for i, s := range p.sockets {
		sleeper, err := poll.New()
		if err != nil {
			return err
		}
		sleeper.Add(s.FD())
		sleeper.Hold(p.holds)
		p.sleepers = append(p.sleepers, sleeper)
		p.workers = append(p.workers, p.shared.Worker(i, s, sleeper))
	}
	return nil
}

// join has the kernel join TCP segments towards pods, and says whether it does. Not so
// with offload: what is handed over there is counted frame by frame.
func (p *plane) join(cfg *Config) bool {
	p.joins = cfg.Offload == admit.Off
	if err := xsk.Join(p.punt[1].Name, p.punt[0].Name, p.joins); err != nil {
		cfg.Log.Warn("TCP segments are not joined on their way to pods", "error", err)
		p.joins = false
	}
	return p.joins
}

// begin lets frames in; Run must follow.
func (p *plane) begin() error {
	for i, s := range p.sockets {
		if err := p.steer.SetSocket(i, s.FD()); err != nil {
			return err
		}
	}
	if err := p.listenFabric(); err != nil {
		return err
	}
	p.running.Store(true)
	return nil
}

// Run turns the workers, each on a thread of its own, until ctx is done.
func (p *plane) Run(ctx context.Context, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range p.workers {
		g.Go(func() error { return p.work(ctx, i, log) })
	}
	g.Go(func() error { return p.guard(ctx) })
	if o := p.kernel.offloader; o != nil {
		g.Go(func() error { return o.Run(ctx) })
	}
	return g.Wait()
}

// refresh brings counters of what the kernel forwards up to date: workers hear of it
// once a second.
func (p *plane) refresh() {
	if p.kernel.offloader == nil || !p.running.Load() {
		return
	}
	p.kernel.offloader.Pass(uint64(monotonic()))
	for i, w := range p.workers {
		if p.idle(i) <= hung {
			w.Hear()
		}
	}
}

// guardEvery is how often the punt link is looked at.
const guardEvery = time.Second

// guard ends the process when somebody took the punt link or the fabric away: it
// would be deaf, while a successor finds the link made anew.
func (p *plane) guard(ctx context.Context) error {
	d, err := openDevices()
	if err != nil {
		return err
	}
	defer d.close()
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.fabric.check(d); err != nil {
			return err
		}
		for _, was := range p.punt {
			up, err := d.up(was.Index)
			if err != nil {
				return fmt.Errorf("punt link: %s is gone: %w", was.Name, err)
			}
			if !up {
				return fmt.Errorf("punt link: %s is down", was.Name)
			}
		}
	}
}

// work is one worker's thread. It never unlocks it: the thread ends with the
// worker, and its affinity with it.
func (p *plane) work(ctx context.Context, i int, log *slog.Logger) error {
	runtime.LockOSThread()
	core := p.core(i)
	if core >= 0 {
		var set unix.CPUSet
		set.Set(core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin worker %d to core %d: %w", i, core, err)
		}
	}
	hasten()
	defer func() {
		// A worker that panics left its tables in an unknown state: end the process
		// and be started again.
		if r := recover(); r != nil {
			log.Error("worker panics", "worker", i, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			panic(r)
		}
	}()
	log.Info("worker starts", "worker", i, "core", core)
	err := p.workers[i].Run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("ended without being told to")
	}
	if err != nil {
		return fmt.Errorf("worker %d: %w", i, err)
	}
	return nil
}

// core is the core of a worker, -1 when it is not pinned.
func (p *plane) core(worker int) int {
	if worker < len(p.cores) {
		return p.cores[worker]
	}
	return -1
}

// close gives everything back; steering's pins stay. Run has returned.
func (p *plane) close() error {
	var errs []error
	for _, s := range p.sleepers {
		errs = append(errs, s.Close())
	}
	if p.joins {
		errs = append(errs, xsk.Join(p.punt[1].Name, p.punt[0].Name, false))
	}
	errs = append(errs, p.fabric.close())
	for _, s := range p.sockets {
		errs = append(errs, s.Close())
	}
	errs = append(errs, p.taps.close())
	if p.umem != nil {
		errs = append(errs, p.umem.Close())
	}
	if p.steer != nil {
		errs = append(errs, p.steer.Close())
	}
	if p.memory != nil {
		errs = append(errs, p.memory.close())
	}
	return errors.Join(errs...)
}
