package engine

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// flowBatch is how many flows one reply carries.
const flowBatch = 500

// flows streams the entries that q selects. Workers go on meanwhile: each entry
// is a snapshot of its own.
func (e *engine) flows(c *wire.Conn, q *control.FlowQuery) error {
	p := e.plane.Load()
	if p == nil {
		return c.Send(control.Reply{Done: true})
	}
	p.refresh()
	s := &flowStream{conn: c, query: q, reader: flowReader{flows: p.memory.tables, tables: e.builder.Tables(), now: uint32(monotonic() >> forward.TickShift)}}
	if q.Index != nil {
		worker, slot := flow.Split(*q.Index)
		if worker < len(s.reader.flows) && int(slot) < s.reader.flows[worker].Slots() {
			if _, err := s.visit(worker, slot); err != nil {
				return err
			}
		}
		return s.end()
	}
	for worker, t := range s.reader.flows {
		for slot := range uint32(t.Slots()) {
			if !t.Used(slot) {
				continue
			}
			if done, err := s.visit(worker, slot); err != nil {
				return err
			} else if done {
				return s.end()
			}
		}
	}
	return s.end()
}

// flowStream collects entries and sends them in batches.
type flowStream struct {
	conn   *wire.Conn
	query  *control.FlowQuery
	reader flowReader
	batch  []control.Flow
	count  int
}

// visit sends the entry of a slot if it is selected. done says that the limit
// is reached.
func (s *flowStream) visit(worker int, slot uint32) (done bool, err error) {
	entry, ok := s.reader.flows[worker].Snapshot(slot)
	if !ok || !matches(s.query, &entry) {
		return false, nil
	}
	s.batch = append(s.batch, s.reader.describe(flow.Index(worker, slot), &entry))
	s.count++
	if s.query.Limit > 0 && s.count >= s.query.Limit {
		return true, nil
	}
	if len(s.batch) < flowBatch {
		return false, nil
	}
	err = s.conn.Send(control.Reply{Flows: s.batch})
	s.batch = s.batch[:0]
	return false, err
}

func (s *flowStream) end() error {
	return s.conn.Send(control.Reply{Flows: s.batch, Done: true})
}

// matches reports whether q selects an entry; either end may be its source, and
// its packets may match as they come or as they leave: the replies of a service
// are found by its VIP.
func matches(q *control.FlowQuery, e *flow.Record) bool {
	if q.Proto != 0 && q.Proto != e.Proto || q.VRF != 0 && uint32(q.VRF) != e.VRF {
		return false
	}
	in, out := e.Key().Tuple, e.Translated()
	return between(q.A, q.B, &in) || between(q.B, q.A, &in) || between(q.A, q.B, &out) || between(q.B, q.A, &out)
}

func between(src, dst netip.AddrPort, t *packet.Tuple) bool {
	return isEnd(src, t.Src, t.Sport) && isEnd(dst, t.Dst, t.Dport)
}

// isEnd reports whether addr and port are the end that want names; an
// unspecified address and port 0 are any.
func isEnd(want netip.AddrPort, addr packet.Addr, port uint16) bool {
	if want.Port() != 0 && want.Port() != port {
		return false
	}
	return !want.Addr().IsValid() || want.Addr().IsUnspecified() || packet.AddrFrom(want.Addr()) == addr
}

// flowReader turns entries into what people read.
type flowReader struct {
	flows  []*flow.Table
	tables *table.Tables
	now    uint32 // ticks
}

func (r *flowReader) describe(index uint32, e *flow.Record) control.Flow {
	to := e.Translated() // and what the tunnel's source port is made of
	f := control.Flow{
		Index: index, Reverse: e.Reverse, Forward: e.Flags&flow.FlagForward != 0,
		KeyNH: table.NextHopID(e.KeyNH), Src: addrPort(e.Src, e.Sport), Dst: addrPort(e.Dst, e.Dport),
		Proto: e.Proto, VRF: table.VRFID(e.VRF),
		Action: e.Action.String(), NAT: e.NAT.String(), TCP: e.TCP.String(),
		NH: table.NextHopID(e.NH), Label: e.Label(), ECMP: e.Member(), RPF: r.rpf(e),
		Gen: e.Gen, Packets: e.Packets, Bytes: e.Bytes, IdleMS: r.idle(e),
	}
	f.Offloaded = e.Flags&flow.FlagOffloaded != 0
	switch e.Action {
	case flow.ActionNAT:
		f.NewSrc, f.NewDst = addrPort(to.Src, to.Sport), addrPort(to.Dst, to.Dport)
	case flow.ActionDrop:
		f.Reason = reasonName(e.Reason)
	}
	if r.tables.NH(f.NH).Type == table.NHTunnel {
		f.Sport = packet.EntropyPort(to.Hash())
	}
	return f
}

// reasonName is the name of a drop reason; adopted memory may hold another's.
func reasonName(r uint8) string {
	if int(r) >= len(forward.Reasons()) {
		return fmt.Sprintf("reason-%d", r)
	}
	return forward.Reason(r).String()
}

// rpf is the next hop the sender is behind: where packets of the other direction go.
func (r *flowReader) rpf(e *flow.Record) table.NextHopID {
	worker, slot := flow.Split(e.Reverse)
	if e.Reverse != flow.NoReverse && worker < len(r.flows) && int(slot) < r.flows[worker].Slots() {
		if other, ok := r.flows[worker].Snapshot(slot); ok {
			return table.NextHopID(other.NH)
		}
	}
	return table.NextHopID(e.KeyNH)
}

// idle is the time since the last packet in milliseconds; the worker's clock may
// be a tick ahead of ours.
func (r *flowReader) idle(e *flow.Record) int64 {
	ticks := max(0, int32(r.now-e.LastSeen))
	return (time.Duration(ticks) << forward.TickShift).Milliseconds()
}

func addrPort(a packet.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Netip(), port) }
