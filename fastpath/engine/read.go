package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// read answers what changes nothing. It takes the lock only for a moment: a slow
// reader never holds the agent up.
func (e *engine) read(q *control.Request) *control.Reply {
	e.mu.Lock()
	p := e.plane
	e.mu.Unlock()
	switch {
	case q.Status != nil:
		return &control.Reply{Status: e.status(p)}
	case p == nil:
		return reply(errNoAgent)
	case q.Tables != nil:
		s := p.builder.State()
		return &control.Reply{Tables: &s}
	case q.Vifs != nil:
		return &control.Reply{Vifs: p.vifs()}
	case q.DropStats != nil:
		return p.dropStats()
	case q.Trace != nil:
		return p.trace(q.Trace)
	}
	return reply(errors.New("empty request: this fast path does not know what was asked"))
}

func (e *engine) status(p *plane) *control.Status {
	s := &control.Status{PID: os.Getpid(), Version: e.cfg.Version, Node: e.cfg.Node, Started: e.started, State: "waiting-for-agent", Poll: "adaptive"}
	if e.cfg.Busy {
		s.Poll = "busy"
	}
	if p == nil {
		return s
	}
	s.State, s.Epoch, s.Limits = "running", p.builder.Epoch(), p.limits
	for i, w := range p.workers {
		c := w.Counters()
		core := -1
		if i < len(e.cfg.Cores) {
			core = e.cfg.Cores[i]
		}
		var drops uint64
		for _, n := range w.Drops() {
			drops += n
		}
		s.Workers = append(s.Workers, control.WorkerStatus{
			Worker: i, Core: core, RxPackets: c.RxPackets, RxBytes: c.RxBytes, TxPackets: c.TxPackets, TxBytes: c.TxBytes,
			Drops: drops, Handoffs: c.Handoffs, Splits: c.Splits, Loops: c.Loops, Sleeps: c.Sleeps,
			Flows: c.Flows, FlowSize: c.FlowSize, FreeFrames: c.FreeFrames, LastAliveMS: sinceMS(c.Alive),
		})
	}
	return s
}

// sinceMS is the time since a monotonic instant, milliseconds.
func sinceMS(then int64) int64 { return (monotonic() - then) / int64(time.Millisecond) }

func monotonic() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano()
}

func (p *plane) vifs() []control.VifStats {
	out := []control.VifStats{} // an empty list, not null, for those who parse it
	for _, v := range p.builder.State().Vifs {
		s := control.VifStats{Vif: v}
		for _, w := range p.workers {
			c := w.VifCounters(v.ID)
			s.RxPackets += c.RxPackets
			s.RxBytes += c.RxBytes
			s.TxPackets += c.TxPackets
			s.TxBytes += c.TxBytes
			s.Drops += c.Drops
			s.Flows += c.Flows
		}
		out = append(out, s)
	}
	return out
}

// dropStats lists the workers' reasons, then what the kernel lost on the way to
// and from them.
func (p *plane) dropStats() *control.Reply {
	var out []control.DropCounter
	counts := make([][]uint64, len(p.workers))
	for i, w := range p.workers {
		counts[i] = w.Drops()
	}
	for r, text := range forward.Reasons()[1:] {
		c := control.DropCounter{Name: text.Name, Sentence: text.Sentence}
		for i := range counts {
			c.PerCore = append(c.PerCore, counts[i][r+1])
			c.Count += counts[i][r+1]
		}
		out = append(out, c)
	}
	out = append(out, p.socketDrops()...)
	kernel, err := p.steer.Stats()
	if err != nil {
		return reply(fmt.Errorf("read the kernel's counters: %w", err))
	}
	for _, d := range kernel {
		out = append(out, control.DropCounter{Name: d.Name, Sentence: d.Sentence, Count: d.Count, PerCore: d.PerCPU})
	}
	return &control.Reply{DropStats: out}
}

func (p *plane) socketDrops() []control.DropCounter {
	out := []control.DropCounter{
		{Name: "xsk-rx-dropped", Sentence: "The kernel had no packet buffer to receive into."},
		{Name: "xsk-rx-ring-full", Sentence: "The worker did not take received packets fast enough."},
		{Name: "xsk-tx-invalid", Sentence: "The kernel refused a descriptor; this is a bug."},
		{Name: "xsk-device-drops", Sentence: "The punt link did not take a packet of a worker."},
	}
	for _, s := range p.sockets {
		st, err := s.Stats()
		if err != nil {
			continue // the socket is closing
		}
		for i, n := range []uint64{st.RxDropped, st.RxRingFull, st.TxInvalid, st.DeviceDrops} {
			out[i].PerCore = append(out[i].PerCore, n)
			out[i].Count += n
		}
	}
	return out
}

// flowBatch is the number of entries in one message of a stream.
const flowBatch = 500

// flows streams the entries that match. It copies entries while the workers go
// on: each is whole, but they are not of one instant.
func (e *engine) flows(c *wire.Conn, q *control.FlowQuery) error {
	e.mu.Lock()
	p := e.plane
	e.mu.Unlock()
	if p == nil {
		return c.Send(&control.Reply{Error: errNoAgent.Error(), Done: true})
	}
	batch := make([]control.Flow, 0, flowBatch)
	sent := 0
	for w, t := range p.flows {
		for slot := range uint32(t.Slots()) {
			entry, ok := t.Snapshot(slot)
			index := flow.Index(w, slot)
			if !ok || !matches(q, index, &entry) {
				continue
			}
			batch = append(batch, p.describe(index, &entry))
			sent++
			if q.Limit > 0 && sent == q.Limit {
				return c.Send(&control.Reply{Flows: batch, Done: true})
			}
			if len(batch) == flowBatch {
				if err := c.Send(&control.Reply{Flows: batch}); err != nil {
					return err
				}
				batch = batch[:0]
			}
		}
	}
	return c.Send(&control.Reply{Flows: batch, Done: true})
}

func matches(q *control.FlowQuery, index uint32, e *flow.Entry) bool {
	if q.Index != nil && *q.Index != index || q.Proto != 0 && q.Proto != e.Proto || q.VRF != 0 && uint32(q.VRF) != e.VRF {
		return false
	}
	src, dst := netip.AddrPortFrom(e.Src.Netip(), e.Sport), netip.AddrPortFrom(e.Dst.Netip(), e.Dport)
	return is(q.A, src) && is(q.B, dst) || is(q.A, dst) && is(q.B, src)
}

// is reports whether end matches the pattern: an unset address or port is any.
func is(pattern, end netip.AddrPort) bool {
	a := pattern.Addr()
	return (!a.IsValid() || a.IsUnspecified() || a.Unmap() == end.Addr()) && (pattern.Port() == 0 || pattern.Port() == end.Port())
}

func (p *plane) describe(index uint32, e *flow.Entry) control.Flow {
	tuple := e.Key().Tuple
	f := control.Flow{
		Index: index, Reverse: e.Reverse, Forward: e.Flags&flow.FlagForward != 0, KeyNH: table.NextHopID(e.KeyNH),
		Src: netip.AddrPortFrom(e.Src.Netip(), e.Sport), Dst: netip.AddrPortFrom(e.Dst.Netip(), e.Dport),
		Proto: e.Proto, VRF: table.VRFID(e.VRF), Action: e.Action.String(), NAT: e.NAT.String(),
		NH: table.NextHopID(e.NH), Label: e.Label(), ECMP: e.Member(), Gen: e.Gen, Packets: e.Packets, Bytes: e.Bytes,
		IdleMS: idleMS(e.LastSeen),
	}
	if e.Action == flow.ActionNAT {
		f.NewSrc = netip.AddrPortFrom(e.NatSrc.Netip(), e.NatSport)
		f.NewDst = netip.AddrPortFrom(e.NatDst.Netip(), e.NatDport)
	}
	if e.Proto == packet.ProtoTCP {
		f.TCP = e.TCP.String()
	}
	if p.builder.Tables().NH(f.NH).Type == table.NHTunnel {
		f.Sport = packet.EntropyPort(tuple.Hash())
	}
	if worker, slot := flow.Split(e.Reverse); e.Reverse != flow.NoReverse && worker < len(p.flows) {
		if r, ok := p.flows[worker].Snapshot(slot); ok {
			f.RPF = table.NextHopID(r.NH)
		}
	}
	return f
}

// idleMS is the time since the ticks of an entry, milliseconds.
func idleMS(ticks uint32) int64 {
	now := uint32(uint64(monotonic()) >> forward.TickShift)
	return max(0, int64(int32(now-ticks))) * (1 << forward.TickShift) / int64(time.Millisecond)
}
