package lpm

import "math/bits"

// A page is 4 KiB: small enough to copy for one change, large enough to keep the
// list of pages short. It has no pointers, so the garbage collector does not look
// inside. Lines are those of the processor's cache.
const (
	lineBits = 3 // words, as powers of two
	runBits  = 6
	pageBits = 9
	lineMask = 1<<lineBits - 1
	pageMask = 1<<(pageBits-lineBits) - 1
)

type (
	line [1 << lineBits]uint64
	page [1 << (pageBits - lineBits)]line
)

// sizes are those of blocks, in words. A block lies within a run, a run within a page.
var sizes = [...]uint8{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}

// class is the place in sizes of the smallest block of n words, 1 to 64.
func class(n int) int {
	for c, size := range sizes {
		if int(size) >= n {
			return c
		}
	}
	panic("lpm: a block of more than 64 words")
}

// memory is words by number, in versions that share pages: a change copies the
// pages it touches, once, unless they are its own. Word 0 is never given out.
type memory struct {
	pages []*page
	runs  uint32 // given to blocks, those of freed ones included
	used  int    // words in blocks
	// Of each class: the first freed block, whose first word is the number of the
	// next one, and the first and last word of its newest run not in a block yet.
	free, next, end [len(sizes)]uint32
	own             []uint64 // bitmap of the pages this version may write; nil: it shares the list of pages, too
}

// share makes a second version of m; neither may write the pages of both.
func (m *memory) share() memory {
	if m.own != nil { // others may be reading m: nothing is written once it is shared
		m.own = nil
	}
	return *m
}

func (m *memory) at(i uint32) uint64 {
	return m.pages[i>>pageBits][i>>lineBits&pageMask][i&lineMask]
}

// line is the line that begins with word i.
func (m *memory) line(i uint32) *line { return &m.pages[i>>pageBits][i>>lineBits&pageMask] }

func (m *memory) set(i uint32, v uint64) { m.edit(i)[i&lineMask] = v }

// edit is line for what is to be written: word i's, in a page of this version.
func (m *memory) edit(i uint32) *line {
	n := i >> pageBits
	if m.own == nil || m.own[n>>6]>>(n&63)&1 == 0 {
		m.take(n)
	}
	return &m.pages[n][i>>lineBits&pageMask]
}

// take makes page n this version's own.
func (m *memory) take(n uint32) {
	m.takeList(int(n) + 1)
	fresh := new(page)
	if old := m.pages[n]; old != nil {
		*fresh = *old
	}
	m.pages[n] = fresh
	m.own[n>>6] |= 1 << (n & 63)
}

// takeList makes the list of pages this version's own, and n long at least.
func (m *memory) takeList(n int) {
	if m.own == nil {
		m.pages = append(make([]*page, 0, max(n, len(m.pages))), m.pages...)
		m.own = make([]uint64, (len(m.pages)+63)/64)
	}
	for len(m.pages) < n {
		m.pages = append(m.pages, nil)
	}
	for len(m.own) < (n+63)/64 {
		m.own = append(m.own, 0)
	}
}

// alloc returns the number of the first of n words, 1 to 64, whose contents are
// undefined. Blocks of eight words are lines.
func (m *memory) alloc(n int) uint32 {
	c := class(n)
	size := uint32(sizes[c])
	m.used += int(size)
	if i := m.free[c]; i != 0 {
		m.free[c] = uint32(m.at(i))
		return i
	}
	if m.end[c]-m.next[c] < size {
		m.runs++ // the first is left out: it has word 0
		m.next[c], m.end[c] = m.runs<<runBits, (m.runs+1)<<runBits
		if p := m.next[c] >> pageBits; int(p) >= len(m.pages) || m.pages[p] == nil {
			m.take(p)
		}
	}
	i := m.next[c]
	m.next[c] += size
	return i
}

// release takes back the n words at i.
func (m *memory) release(i uint32, n int) {
	c := class(n)
	m.used -= int(sizes[c])
	m.set(i, uint64(m.free[c]))
	m.free[c] = i
}

// sparse reports whether three quarters of more than a few pages are in no block.
func (m *memory) sparse() bool {
	return m.runs > 4<<(pageBits-runBits) && m.used < int(m.runs)<<runBits/4
}

// list is a packed array: the values of those of 64 places that are taken.
type list struct {
	taken uint64 // bitmap
	at    uint32 // number of the first word; 0 while none is taken
}

// place is the number of the word of place c, which is taken.
func (l list) place(c uint) uint32 {
	return l.at + uint32(bits.OnesCount64(l.taken&(1<<(c&63)-1)))
}

// insert takes place c for v.
func (m *memory) insert(l list, c uint, v uint64) list {
	n := bits.OnesCount64(l.taken)
	grown := list{l.taken | 1<<c, l.at}
	if n == 0 || class(n) != class(n+1) {
		grown.at = m.alloc(n + 1)
	}
	split := int(l.place(c) - l.at)
	for k := n; k > split; k-- { // from behind: it may be the same block
		m.set(grown.at+uint32(k), m.at(l.at+uint32(k-1)))
	}
	m.set(grown.at+uint32(split), v)
	if grown.at == l.at {
		return grown
	}
	for k := range split {
		m.set(grown.at+uint32(k), m.at(l.at+uint32(k)))
	}
	if n > 0 {
		m.release(l.at, n)
	}
	return grown
}

// remove gives place c, which is taken, back.
func (m *memory) remove(l list, c uint) list {
	n := bits.OnesCount64(l.taken)
	left := list{l.taken &^ (1 << c), l.at}
	if n == 1 {
		m.release(l.at, n)
		return list{}
	}
	if class(n) != class(n-1) {
		left.at = m.alloc(n - 1)
	}
	split := int(l.place(c) - l.at)
	for k := range n - 1 {
		from := k
		if k >= split {
			from++
		}
		if from != k || left.at != l.at {
			m.set(left.at+uint32(k), m.at(l.at+uint32(from)))
		}
	}
	if left.at != l.at {
		m.release(l.at, n)
	}
	return left
}
