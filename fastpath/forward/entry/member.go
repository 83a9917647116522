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

// Position finds the member e is pinned to, first where it was: the next hop and
// label name a VMI; a backend that is no VMI is named by its address. -1: it is gone.
func Position(members []table.Member, e *flow.Record) int {
	if i := e.Member(); i >= 0 && i < len(members) && pinned(&members[i], e) {
		return i
	}
	for i := range members {
		if pinned(&members[i], e) {
			return i
		}
	}
	return -1
}

func pinned(m *table.Member, e *flow.Record) bool {
	if uint32(m.NH) != e.NH || m.Label != e.Label() || m.NH == 0 {
		return false
	}
	return !m.DNAT.IsValid() || packet.AddrFrom(m.DNAT.Addr()) == e.NatDst && m.DNAT.Port() == e.NatDport
}
