// Package ecmp holds the members of a composite next hop and chooses among them (equal-cost
// multipath). A Composite belongs to the snapshot of tables it is in; nothing changes in it
// once that is published. It does not know where next hops lead.
package ecmp

import "github.com/vragent/vragent/fastpath/packet"

// NextHopID names a next hop; 0 discards.
type NextHopID uint32

// Label is an MPLS label, 16..1048575 (RFC 3032; 0..15 are reserved).
type Label uint32

// MemberEntry is a Member as workers read it: 24 bytes without a pointer, so that Go's
// garbage collector does not look into the members of ten thousand services.
type MemberEntry struct {
	NH       NextHopID
	Label    Label
	Key      uint64
	nameEnd  uint32 // bytes: where its name ends in names; it begins where that of the one before ends
	Draining bool
}

// Composite is the members of one next hop: a few objects, however many they are.
type Composite struct {
	Members []MemberEntry // by position
	names   string        // of all, one after the other
	dnats   []dnat        // by position; nil: nothing is translated for any of them

	// Set by Open, never changed in place: versions share them.
	keys      []uint64 // of those that take new flows
	positions []uint16 // and their positions; nil: 0, 1, 2…
}

// dnat is what the packets to a member that is no VMI are translated to.
type dnat struct {
	addr packet.Addr
	port uint16
	set  bool
}

// Pick chooses the member for a new flow: the one with the highest score among
// those that are neither holes nor draining nor unusable (rendezvous hashing).
// A member that goes takes only its own flows along; one that comes takes its
// share from all. Positions do not matter. -1: there is none.
func (c *Composite) Pick(hash uint64) int {
	if len(c.keys) == 0 {
		return -1
	}
	best, at := uint64(0), 0 // the first has this score at least
	for i, key := range c.keys {
		score := Mix(hash, key)
		if score > best || score == best && key < c.keys[at] {
			best, at = score, i
		}
	}
	return c.Taker(at)
}

// Mix hashes two words: the finalizer of MurmurHash3 in Stafford's variant 13, a bijection
// every input bit of which flips every output bit with probability 1/2.
func Mix(a, b uint64) uint64 {
	x := a ^ b*0x9E3779B97F4A7C15
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

// Takers is how many members take new flows.
func (c *Composite) Takers() int { return len(c.keys) }

// Taker returns the position of the i-th of them.
func (c *Composite) Taker(i int) int {
	if c.positions == nil {
		return i
	}
	return int(c.positions[i])
}

// DNAT returns what the packets to member i are translated to, if they are.
func (c *Composite) DNAT(i int) (to packet.Addr, port uint16, ok bool) {
	if c.dnats == nil {
		return to, 0, false
	}
	d := &c.dnats[i]
	return d.addr, d.port, d.set
}

// MemberName returns the name of member i.
func (c *Composite) MemberName(i int) string {
	begin := uint32(0)
	if i > 0 {
		begin = c.Members[i-1].nameEnd
	}
	return c.names[begin:c.Members[i].nameEnd]
}

// Open has those members take new flows that are neither holes nor draining and whose next
// hop is usable.
func (c *Composite) Open(usable func(NextHopID) bool) {
	c.keys, c.positions = nil, nil
	for i := range c.Members {
		if m := &c.Members[i]; m.NH != 0 && !m.Draining && usable(m.NH) {
			c.take(i)
		}
	}
}

// take adds the member at position i to those that take new flows.
func (c *Composite) take(i int) {
	left := len(c.Members) - i
	if c.keys == nil {
		c.keys = make([]uint64, 0, left)
	}
	if c.positions == nil && len(c.keys) < i {
		c.positions = make([]uint16, len(c.keys), len(c.keys)+left)
		for k := range c.positions {
			c.positions[k] = uint16(k)
		}
	}
	if c.positions != nil {
		c.positions = append(c.positions, uint16(i))
	}
	c.keys = append(c.keys, c.Members[i].Key)
}
