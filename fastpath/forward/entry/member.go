package entry

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// ChoiceHash spreads flows over members. It is not seeded: every node and every
// restart chooses alike.
func ChoiceHash(t *packet.Tuple) uint64 {
	h := uint64(t.Hash())
	// The symmetric hash ignores which end is which; a choice need not.
	h ^= uint64(t.Sport)<<48 | uint64(t.Dport)<<32
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Position finds the member of nh that e is pinned to, first where it was: the next hop and
// label name a VMI; a backend that is no VMI is named by its address. -1: it is gone.
func Position(nh *table.NH, e *flow.Record) int {
	if i := e.Member(); i >= 0 && i < len(nh.Members) && pinned(nh, i, e) {
		return i
	}
	for i := range nh.Members {
		if pinned(nh, i, e) {
			return i
		}
	}
	return -1
}

func pinned(nh *table.NH, i int, e *flow.Record) bool {
	m := &nh.Members[i]
	if uint32(m.NH) != e.NH || m.Label != e.Label() || m.NH == 0 {
		return false
	}
	to, port, ok := nh.DNAT(i)
	return !ok || to == e.NatDst && port == e.NatDport
}
