// Package quota counts the flows that interfaces have begun, so that none takes the whole
// table. Counts belong to one worker. It does not evict, and does not decide.
package quota

import "github.com/vragent/vragent/fastpath/flow"

// Counts are of forward entries, by key next hop and family.
type Counts []count

type count struct {
	four, six uint32
	tick      uint32 // of the last search in vain
	barren    uint32 // how many of them in that tick
}

// Grow makes room for next hops below n.
func (c *Counts) Grow(n int) {
	if n > len(*c) {
		*c = append(*c, make(Counts, n-len(*c))...)
	}
}

// Of is the count of a next hop that there is room for.
func (c Counts) Of(nh uint32, six bool) *uint32 {
	if six {
		return &c[nh].six
	}
	return &c[nh].four
}

// Sum is of both families, 0 where there is no room.
func (c Counts) Sum(nh uint32) int {
	if int(nh) >= len(c) {
		return 0
	}
	return int(c[nh].four + c[nh].six)
}

// Held is the count of a next hop, 0 where there is no room.
func (c Counts) Held(nh uint32, six bool) uint32 {
	if int(nh) >= len(c) {
		return 0
	}
	return *c.Of(nh, six)
}

// Sub counts one less, if there is any.
func (c Counts) Sub(nh uint32, six bool) {
	if c.Held(nh, six) > 0 {
		*c.Of(nh, six)--
	}
}

// A search for a flow that may go looks at many, and a flood would have one with each
// packet. After patience searches in vain there is no other in that tick. Time counts,
// not packets: who sends few is never shut out by what it sent before.
const patience = 8

// Worth says whether such a search is to be made for a next hop.
func (c Counts) Worth(nh, tick uint32) bool {
	return int(nh) >= len(c) || c[nh].tick != tick || c[nh].barren < patience
}

// Searched notes how a search went, and returns that.
func (c Counts) Searched(nh, tick uint32, found bool) bool {
	if found || int(nh) >= len(c) {
		return found
	}
	if q := &c[nh]; q.tick != tick {
		q.tick, q.barren = tick, 1
	} else {
		q.barren++
	}
	return false
}

// Most is how many flows a next hop may have of a table: a quarter, which with their
// reverse entries is half of it.
func Most(table flow.Size, six bool) uint32 {
	if six {
		return uint32(table.Six / 4)
	}
	return uint32(table.Four / 4)
}

// Yields says that a flow of holder of makes room in a full table for one of holder by:
// if of has more, or as long as one that replaces its own has but a small part of what
// it may. So who floods the table does not even keep it busy.
func (c Counts) Yields(of, by uint32, table flow.Size, six bool) bool {
	if of == by {
		return c.Held(by, six) < Most(table, six)/4
	}
	return c.Held(of, six) > c.Held(by, six)
}
