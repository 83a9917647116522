package table

import (
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/ecmp"
)

// MaxVif and MaxNH bound the ids in use, so that workers can size what they keep
// per id when a new view arrives.
func (t *Tables) MaxVif() int { return len(t.vifs.pages)<<pageBits - 1 }

// MaxNH is MaxVif for next hops.
func (t *Tables) MaxNH() int { return len(t.nhs.pages)<<pageBits - 1 }

// Underlay reports whether a is an end of a tunnel: a peer or this node itself.
// It walks the vifs: only packets that look like tunnels from a pod ask.
func (t *Tables) Underlay(a packet.Addr) bool {
	if t.Peer(a) {
		return true
	}
	for _, p := range t.vifs.pages {
		if p == nil {
			continue
		}
		for _, v := range p.at {
			if v != nil && v.Kind == VifFabric && v.Owns(a) {
				return true
			}
		}
	}
	return false
}

// Holding returns the position of the member whose key is key: among those that
// take new flows and, if local, are on this node; or, if kept, among all of them,
// for flows that exist. -1: there is none.
func (t *Tables) Holding(n *NH, key uint64, local, kept bool) int {
	for i := range n.Members {
		m := &n.Members[i]
		if m.NH == 0 || m.Key != key {
			continue
		}
		to := t.NH(m.NH)
		if local && to.Type != NHEncap && to.Type != NHHost || !kept && (m.Draining || !to.Usable) {
			return -1
		}
		return i
	}
	return -1
}

// PickLocal is Pick among the members on this node: a packet from the fabric
// never goes back to it.
func (t *Tables) PickLocal(n *NH, hash uint64) int {
	best, at := uint64(0), -1
	for i := range n.Takers() {
		p := n.Taker(i)
		m := &n.Members[p]
		if to := t.NH(m.NH).Type; to != NHEncap && to != NHHost {
			continue
		}
		score := ecmp.Mix(hash, m.Key)
		if at < 0 || score > best || score == best && m.Key < n.Members[at].Key {
			best, at = score, p
		}
	}
	return at
}
