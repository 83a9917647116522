package forward

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/told"
	"github.com/vragent/vragent/fastpath/table"
)

// Trace says what the live tables and flows would do with an Ethernet frame, and
// why, without sending or remembering anything. The stages it calls are the ones
// that decide packets.
func (s *Shared) Trace(frame []byte) told.Result {
	p := &pkt{parcel: parcel{end: len(frame), total: len(frame)}, chunk: frame, live: true}
	w := s.workers[0]
	w.Do(func() {
		if w.examine(p) == reason.None {
			w = s.workers[w.ownerOf(p)]
		}
	})
	probe := told.Teller{P: &p.Packet}
	w.Do(func() { w.trace(p, &probe) })
	return probe.Out
}

// trace tells r what each stage decides about p.
func (w *Worker) trace(p *pkt, r *told.Teller) {
	*p = pkt{parcel: p.parcel, chunk: p.chunk, live: true}
	r.T = w.view.Tables
	if why := w.examine(p); why != reason.None {
		r.Drop("classify", why)
		return
	}
	if p.ask != askNothing {
		r.Asked(p.ask == askND)
		return
	}
	r.Classified(w.ownerOf(p), w.workers)
	if p.Info.TTL <= 1 {
		r.Drop("ttl", reason.TTLExpired)
		return
	}
	k := flow.Key{KeyNH: uint32(p.KeyNH), Tuple: p.Info.Tuple}
	if p.Info.ICMPError {
		k.Tuple = p.Info.Inner.Reverse()
	}
	settle := w.view.First
	switch slot, ok := w.flows.Lookup(&k); {
	case ok:
		e := w.flows.Record(slot)
		if !r.Known(flow.Index(w.id, slot), &e) || e.Flags&flow.FlagForward == 0 {
			to := e.Translated()
			r.Send(&to, table.NextHopID(e.NH), e.Label())
			return
		}
		settle = w.view.Flow
	case p.Info.ICMPError:
		r.Drop("flow", reason.ICMPNoFlow)
		return
	default:
		r.Say("flow", "no entry for %s with key next hop %d: this is the first packet", k.Tuple, k.KeyNH)
	}
	var d decide.Decision
	settle(&p.Packet, &d)
	to := d.To
	r.Decided(&d, w.owner(&to))
}
