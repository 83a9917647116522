package engine

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/table"
)

// hung is how long ago a worker's last sign of life is when nothing more is
// asked of it: it would not answer. A sleeping worker turns far more often.
const hung = 2 * time.Second

func (e *engine) status() *control.Status {
	s := &control.Status{
		PID: os.Getpid(), Version: e.cfg.Version, Node: e.cfg.Node, Started: e.started,
		State: control.StateWaiting, Epoch: e.builder.Epoch(), Poll: "adaptive",
		Offload: control.OffloadStatus{Mode: e.cfg.Offload.String()},
	}
	if e.cfg.Busy {
		s.Poll = "busy"
	}
	p := e.plane.Load()
	if p == nil {
		return s
	}
	s.State, s.Offload = control.StateSyncing, p.kernel.status()
	if p.running.Load() {
		s.State = control.StateRunning
	}
	s.Limits = slices.Concat(p.steer.Limits(), p.kernel.sentences(), p.sockets[0].Limits(), p.fabric.limits(), p.memory.limits())
	for i := range p.workers {
		s.Workers = append(s.Workers, p.workerStatus(i))
	}
	return s
}

func (p *plane) workerStatus(i int) control.WorkerStatus {
	s := control.WorkerStatus{Worker: i, Core: p.core(i), Flows: p.memory.tables[i].Len(), FlowSize: p.memory.tables[i].Cap().Four}
	if !p.running.Load() {
		return s
	}
	idle := p.idle(i)
	s.LastAliveMS = idle.Milliseconds()
	if idle > hung {
		return s
	}
	w := p.workers[i]
	c := w.Counters()
	s.RxPackets, s.RxBytes, s.TxPackets, s.TxBytes = c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes
	s.Handoffs, s.Splits, s.Loops, s.Sleeps = c.Handoffs, c.Splits, c.Loops, c.Sleeps
	s.FreeFrames = c.FreeFrames
	for _, n := range w.Drops() {
		s.Drops += n
	}
	return s
}

// idle is the time since a worker last turned.
func (p *plane) idle(i int) time.Duration {
	alive := p.workers[i].Alive()
	if alive == 0 {
		return 0 // it starts
	}
	return max(0, time.Duration(monotonic()-alive))
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the workers' clock.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail: the clock exists
	return t.Nano()
}

// vifs sums every vif's counters over the workers.
func (e *engine) vifs() ([]control.VifStats, error) {
	p := e.plane.Load()
	if p == nil {
		return nil, nil
	}
	attached, err := p.attached()
	if err != nil {
		return nil, err
	}
	p.refresh()
	var out []control.VifStats
	e.builder.Tables().Vifs(func(v *table.VifEntry) {
		_, ok := slices.BinarySearch(attached, v.ID)
		s := control.VifStats{Vif: v.Vif, Attached: ok}
		for _, w := range p.workers {
			add(&s, w.VifCounters(v.ID))
		}
		out = append(out, s)
	})
	return out, nil
}

func add(s *control.VifStats, c forward.VifCounters) {
	s.RxPackets += c.RxPackets
	s.RxBytes += c.RxBytes
	s.TxPackets += c.TxPackets
	s.TxBytes += c.TxBytes
	s.Drops += c.Drops
	s.Flows += c.Flows
}
