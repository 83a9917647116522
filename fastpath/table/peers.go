package table

import (
	"encoding/binary"
	"math/bits"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/ecmp"
)

// peerSet is an open addressing hash set of tunnel sources, at most half full.
// It is rebuilt, never changed. The zero address marks an empty slot; it is
// never a peer.
type peerSet struct {
	slots []packet.Addr // length is a power of two, or none
	count int
}

func newPeerSet(peers map[packet.Addr]struct{}) peerSet {
	if len(peers) == 0 {
		return peerSet{}
	}
	s := peerSet{slots: make([]packet.Addr, 1<<bits.Len(uint(2*len(peers)-1))), count: len(peers)}
	for a := range peers {
		s.slots[s.find(a)] = a
	}
	return s
}

// find returns the slot of a, or the empty slot where it belongs.
func (s *peerSet) find(a packet.Addr) int {
	mask := len(s.slots) - 1
	i := int(spread(a)) & mask
	for s.slots[i] != a && s.slots[i] != (packet.Addr{}) {
		i = (i + 1) & mask
	}
	return i
}

func (s *peerSet) has(a packet.Addr) bool {
	return s.count > 0 && s.slots[s.find(a)] == a && a != packet.Addr{}
}

// list returns the peers in the order of their slots.
func (s *peerSet) list() []packet.Addr {
	peers := make([]packet.Addr, 0, s.count)
	for _, a := range s.slots {
		if a != (packet.Addr{}) {
			peers = append(peers, a)
		}
	}
	return peers
}

func spread(a packet.Addr) uint64 {
	return ecmp.Mix(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]))
}
