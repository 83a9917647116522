package decide

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Keeps says that the member which p's entry e is pinned to is still one of what the
// route or label leads to now, serving or draining, and at which position; and that
// packets are translated as they were. A listener's members for clients outside
// count for all: who has a connection keeps it.
func (v *View) Keeps(p *Packet, e *flow.Record) (scope table.NextHopID, at int, ok bool) {
	hop, why := v.root(p)
	if why != reason.None || e.Member() < 0 {
		return 0, 0, false
	}
	src, why := source(p, hop)
	if why != reason.None || src != e.NatSrc && e.Flags&flow.FlagHairpin == 0 {
		return 0, 0, false
	}
	l, ok := listener(p, v.NH(hop.NH))
	if !ok || !v.stillMapped(e) {
		return 0, 0, false
	}
	if at = entry.Position(v.NH(l.NH), e); at < 0 && l.OutsideNH != 0 {
		at = entry.Position(v.NH(l.OutsideNH), e)
	}
	return hop.NH, at, at >= 0
}

// stillMapped says that a local backend's port map translates as it did.
func (v *View) stillMapped(e *flow.Record) bool {
	nh := v.NH(table.NextHopID(e.NH))
	if nh.Type != table.NHEncap {
		return nh.Type != table.NHDiscard
	}
	fixed, target, ok := v.PortMap(nh.Vif, e.Dst, e.Proto, e.Dport)
	return ok && fixed == e.NatDst && target == e.NatDport
}

// Alike says that d fits the reverse entry that e has: packets become the same, and
// replies are received as before. A source port translated because of a clash stays.
func (v *View) Alike(e *flow.Record, d *Decision) bool {
	to := e.Translated()
	to.Sport = d.To.Sport
	tunnels := v.NH(table.NextHopID(e.NH)).Type == table.NHTunnel && v.NH(d.NH).Type == table.NHTunnel
	return to == d.To && (e.NH == uint32(d.NH) || tunnels)
}

// Forbidden says of an entry whose packets do not come, so that nobody decides it
// again, that a pod began the flow by a route that is for replies only now. Replies
// would go on. TCP acknowledges them, and hears of it then.
func (v *View) Forbidden(e *flow.Record) bool {
	from := v.NH(table.NextHopID(e.KeyNH))
	if e.Proto == packet.ProtoTCP || from.Type != table.NHEncap || e.NH == e.KeyNH { // e.NH: from the fabric, for that pod
		return false
	}
	hop, ok := v.Lookup(table.VRFID(e.VRF), e.Dst)
	return ok && hop.Has(table.ReplyOnly)
}
