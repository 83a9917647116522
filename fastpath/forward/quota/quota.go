// Package quota counts the flows that interfaces have begun, so that none takes the whole
// table. Counts belong to one worker. It does not say how many are too many.
package quota

// Counts are of forward entries, by key next hop and family.
type Counts []count

type count struct{ four, six uint32 }

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
