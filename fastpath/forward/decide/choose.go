package decide

import (
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/table"
)

// choose picks the member of a composite: by a consistent hash of the 5-tuple, or
// the client's own.
func (v *View) choose(p *Packet, d *Decision, nh *table.NH) (*table.MemberEntry, reason.Reason) {
	if nh.Port != 0 && (nh.Proto != d.To.Proto || nh.Port != d.To.Dport) {
		return nil, reason.NoListener
	}
	if nh.Affinity > 0 {
		d.ECMP = v.sticky(p, d, nh)
	} else {
		d.ECMP = v.pick(p, nh, entry.ChoiceHash(&p.Info.Tuple))
	}
	if d.ECMP < 0 {
		return nil, reason.NoBackend
	}
	d.Composite = nh.ID
	if to, port, ok := nh.DNAT(d.ECMP); ok {
		d.To.Dst, d.To.Dport = to, port
	}
	return &nh.Members[d.ECMP], reason.None
}

func (v *View) pick(p *Packet, nh *table.NH, hash uint64) int {
	if p.Fabric {
		return v.PickLocal(nh, hash)
	}
	return nh.Pick(hash)
}

// sticky picks the member that the client's last flow went to, if that began less
// than nh.Affinity ago and the member takes new flows. The first choice is a pure
// function of client and composite; when the time is over, it is another. What is
// in the middle of a connection follows the last choice, however long ago that was,
// and does not make it last longer.
func (v *View) sticky(p *Packet, d *Decision, nh *table.NH) (at int) {
	tag := affinity.Tag(d.To.Src, uint32(nh.ID))
	key, seen, known := v.Clients.Find(tag)
	midstream := p.Midstream()
	at = -1
	hash := tag
	switch {
	case !known:
	case midstream || int64(v.Now-seen) <= int64(nh.Affinity)*1e9: // another worker's clock may be a turn ahead
		at = v.Holding(nh, key, p.Fabric, midstream)
	default:
		hash = affinity.Anew(tag, seen)
	}
	if at < 0 {
		at = v.pick(p, nh, hash)
	}
	if at >= 0 && !(midstream && known) {
		d.Client, d.Key = tag, nh.Members[at].Key
	}
	return at
}
