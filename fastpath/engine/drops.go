package engine

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/link/xsk"
)

// dropStats lists every way a packet can be lost: in the workers, in their
// sockets, and in the kernel before and behind them.
func (e *engine) dropStats() ([]control.DropCounter, error) {
	p := e.plane.Load()
	out := workerDrops(p)
	if p == nil {
		return out, nil
	}
	sockets, err := p.socketDrops()
	if err != nil {
		return nil, err
	}
	kernel, err := p.steer.Stats()
	if err != nil {
		return nil, err
	}
	out = append(out, sockets...)
	out = append(out, p.taps.drops()...)
	for _, d := range kernel {
		out = append(out, control.DropCounter{Name: d.Name, Sentence: d.Sentence, Count: d.Count})
	}
	return out, nil
}

// workerDrops lists the workers' reasons.
func workerDrops(p *plane) []control.DropCounter {
	var out []control.DropCounter
	for _, r := range forward.Reasons()[1:] { // 0 is no reason
		out = append(out, control.DropCounter{Name: r.Name, Sentence: r.Sentence})
	}
	if p == nil {
		return out
	}
	for _, w := range p.workers {
		for reason, n := range w.Drops()[1:] {
			out[reason].Count += n
			out[reason].PerCore = append(out[reason].PerCore, n)
		}
	}
	return out
}

// socketLosses are the counters of an AF_XDP socket that mean lost packets.
var socketLosses = []struct {
	name, sentence string
	of             func(*xsk.Stats) uint64
}{
	{"no-buffer", "A frame of %s for a worker found no free packet buffer (XDP_STATISTICS rx_dropped).",
		func(s *xsk.Stats) uint64 { return s.RxDropped }},
	{"rx-ring-full", "A worker did not take frames of %s from its receive ring fast enough (rx_ring_full).",
		func(s *xsk.Stats) uint64 { return s.RxRingFull }},
	{"tx-invalid", "The kernel refused a worker's transmit descriptor for %s; this is a bug (tx_invalid_descs).",
		func(s *xsk.Stats) uint64 { return s.TxInvalid }},
	{"device-busy", "A worker's frame was not taken by %s.",
		func(s *xsk.Stats) uint64 { return s.DeviceDrops }},
}

// socketDrops lists the losses of the workers' sockets on the punt link, and of those
// on the fabric where there are some.
func (p *plane) socketDrops() ([]control.DropCounter, error) {
	out, err := lossesOf("xsk-", "the punt link", len(p.workers), func(i int) []*xsk.Socket { return p.sockets[i : i+1] })
	nic := p.fabric.nic.Load()
	if err != nil || nic == nil {
		return out, err
	}
	more, err := lossesOf("fabric-", "the fabric", len(p.workers), nic.Links)
	return append(out, more...), err
}

// lossesOf sums up the losses of each worker's sockets on one device.
func lossesOf(prefix, device string, workers int, of func(worker int) []*xsk.Socket) ([]control.DropCounter, error) {
	out := make([]control.DropCounter, len(socketLosses))
	for i, loss := range socketLosses {
		out[i] = control.DropCounter{Name: prefix + loss.name, Sentence: fmt.Sprintf(loss.sentence, device), PerCore: make([]uint64, workers)}
	}
	for worker := range workers {
		for _, s := range of(worker) {
			stats, err := s.Stats()
			if err != nil {
				return nil, err
			}
			for i, loss := range socketLosses {
				n := loss.of(&stats)
				out[i].Count += n
				out[i].PerCore[worker] += n
			}
		}
	}
	return out, nil
}
