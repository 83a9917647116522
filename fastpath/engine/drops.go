package engine

import (
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
	{"xsk-no-buffer", "A frame for a worker found no free packet buffer (XDP_STATISTICS rx_dropped).",
		func(s *xsk.Stats) uint64 { return s.RxDropped }},
	{"xsk-rx-ring-full", "A worker did not take frames from its receive ring fast enough (rx_ring_full).",
		func(s *xsk.Stats) uint64 { return s.RxRingFull }},
	{"xsk-tx-invalid", "The kernel refused a worker's transmit descriptor; this is a bug (tx_invalid_descs).",
		func(s *xsk.Stats) uint64 { return s.TxInvalid }},
	{"xsk-device-busy", "The punt link did not take a worker's frame.",
		func(s *xsk.Stats) uint64 { return s.DeviceDrops }},
}

func (p *plane) socketDrops() ([]control.DropCounter, error) {
	out := make([]control.DropCounter, len(socketLosses))
	for i, loss := range socketLosses {
		out[i] = control.DropCounter{Name: loss.name, Sentence: loss.sentence}
	}
	for _, s := range p.sockets {
		stats, err := s.Stats()
		if err != nil {
			return nil, err
		}
		for i, loss := range socketLosses {
			n := loss.of(&stats)
			out[i].Count += n
			out[i].PerCore = append(out[i].PerCore, n)
		}
	}
	return out, nil
}
