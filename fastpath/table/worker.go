package table

import "github.com/vragent/vragent/fastpath/packet"

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
	for i, key := range n.keys {
		if to := t.NH(n.Members[n.positions[i]].NH).Type; to != NHEncap && to != NHHost {
			continue
		}
		score := mix64(hash ^ key*0x9E3779B97F4A7C15)
		if at < 0 || score > best || score == best && key < n.keys[at] {
			best, at = score, i
		}
	}
	if at < 0 {
		return -1
	}
	return int(n.positions[at])
}
