package blocks

import (
	"slices"
	"time"
)

// giveBack lets the leases of a holder rest that it does not need, those with
// the highest addresses first, and ends those that have rested long enough:
//
//	unused for the quarantine → retired: the node is told to let go of it
//	for the retirement, and the node says that it has → ended
//	for the retirement, in case somebody knows it late → free
//
// Whenever it is used again or needed again, it is a lease like any other.
func (p *planner) giveBack(h Holder, leases []Lease) {
	keep := slices.Clone(leases)
	slices.SortFunc(leases, func(a, b Lease) int { return comparePrefix(b.Prefix, a.Prefix) })
	for _, l := range leases {
		if p.made[l] {
			continue
		}
		state := p.State(l)
		if state == Used || p.exactly(h, l) {
			continue
		}
		if rest := without(keep, l); state == Forlorn || p.surplus(h, l, rest) {
			keep = rest
			p.rest(l, state)
		}
	}
}

func without(leases []Lease, l Lease) []Lease {
	return slices.DeleteFunc(slices.Clone(leases), func(o Lease) bool { return o == l })
}

// exactly tells whether somebody needs an address of the block and no other.
func (p *planner) exactly(h Holder, l Lease) bool {
	n := p.Needs[h]
	return n != nil && slices.ContainsFunc(n.Exactly, l.Prefix.Contains)
}

// surplus tells whether a holder can do without a block: a single address that
// was leased for one pod at once, others when its need could double.
func (p *planner) surplus(h Holder, l Lease, rest []Lease) bool {
	need, network := p.Needs[h], p.byName[h.Network]
	if need == nil || subnetOf(network, l.Prefix) < 0 {
		return true
	}
	margin := uint64(2)
	if !p.usual(l) {
		margin = 1
	}
	return enough(usable(rest, network, l.Prefix.Addr().Is6()), need.Addresses, margin)
}

// usual tells whether a block has the size that is leased today.
func (p *planner) usual(l Lease) bool {
	network := p.byName[l.Network]
	in := subnetOf(network, l.Prefix)
	return in >= 0 && l.Prefix.Bits() == p.length(l.Network, network.Subnets[in])
}

// rest counts the time of a lease that nobody needs.
func (p *planner) rest(l Lease, s State) {
	r := p.Resting[l]
	r.Awaited, r.Ended = false, time.Time{}
	if r.Since.IsZero() {
		r.Since = p.Now
	}
	quarantine := p.Quarantine
	if s == Unused && p.wanted[l] && l.Prefix.IsSingleIP() {
		quarantine = 0 // a pod that keeps its address has moved to another node
	}
	switch end := r.Since.Add(quarantine); {
	case p.Now.Before(end):
		p.again(end)
	case s == Forlorn:
		p.out.Delete = append(p.out.Delete, l)
	case r.Retired.IsZero():
		r.Retired = p.Now
		p.again(p.Now.Add(p.Retirement))
	case p.Now.Before(r.Retired.Add(p.Retirement)):
		p.again(r.Retired.Add(p.Retirement))
	case p.Resting[l].Awaited && p.Settled(l):
		r.Awaited = true
		p.out.Delete = append(p.out.Delete, l)
	default:
		r.Awaited = true
		if !p.Resting[l].Awaited {
			p.again(p.Now.Add(p.Recheck))
		}
	}
	p.out.Resting[l] = r
}

func (p *planner) again(t time.Time) {
	if p.out.Again.IsZero() || t.Before(p.out.Again) {
		p.out.Again = t
	}
}

// remember keeps the leases that rested and are no more from going to somebody
// else at once. What was leased for one pod is not handed out to another by
// mistake: that need not wait.
func (p *planner) remember() {
	for l, r := range p.Resting {
		if slices.Contains(p.held[Holder{l.Node, l.Network}], l) || l.Prefix.IsSingleIP() && !p.usual(l) {
			continue
		}
		if r.Ended.IsZero() {
			r.Ended, r.Awaited = p.Now, false
		}
		if end := r.Ended.Add(p.Retirement); p.Now.Before(end) {
			p.ended.insert(l)
			p.out.Resting[l] = r
			p.again(end)
		}
	}
}
