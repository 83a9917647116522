// Package affinity remembers which member of a composite serves a client (Service
// affinity ClientIP). One Table serves all workers, with atomics and no lock; its
// memory may outlive the process. It does not choose members.
package affinity

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/vragent/vragent/fastpath/packet"
)

// Layout of the memory: a header, then buckets of ways cells each. A client's
// bucket follows from its tag; when all its cells are taken, the one that was used
// longest ago goes.
const (
	ways       = 8
	buckets    = 1 << 13
	headerSize = 64 // bytes

	// Clients is how many pairs of client and composite fit.
	Clients = ways * buckets
	// Size is the memory of a table in bytes: 1.5 MiB.
	Size = headerSize + Clients*int(unsafe.Sizeof(cell{}))

	magic         = 0x56524641 // "VRFA"
	layoutVersion = 1
)

// header is the first bytes of the memory, in host byte order.
type header struct {
	magic, version uint32
	ways, buckets  uint32
}

// cell is what is remembered of one client and composite. Who changes tag or
// member first puts writing into seen, and nobody else writes until another time is
// there. What a reader finds between two looks at the same time is of one choice;
// what a race can do is to forget one.
type cell struct {
	tag    atomic.Uint64
	member atomic.Uint64 // Member.Key
	seen   atomic.Uint64 // ns, CLOCK_MONOTONIC; 0: empty
}

const writing = ^uint64(0)

// Table is safe for all workers.
type Table struct {
	cells []cell
}

// Open makes a table of mem, which is Size bytes, zero or a predecessor's, whenever
// that stopped. kept says that what the predecessor knew is there.
func Open(mem []byte) (t *Table, kept bool, err error) {
	if len(mem) != Size || uintptr(unsafe.Pointer(&mem[0]))%8 != 0 {
		return nil, false, errors.New("affinity memory: wrong size, or not aligned to words")
	}
	head := (*header)(unsafe.Pointer(&mem[0]))
	t = &Table{cells: unsafe.Slice((*cell)(unsafe.Pointer(&mem[headerSize])), Clients)}
	want := header{magic, layoutVersion, ways, buckets}
	if kept = *head == want; !kept {
		clear(mem)
		*head = want
	}
	for i := range t.cells {
		if c := &t.cells[i]; c.seen.Load() == writing {
			c.seen.Store(0)
		}
	}
	return t, kept, nil
}

// New makes a table that ends with the process.
func New() *Table { return &Table{cells: make([]cell, Clients)} }

// Tag names a client of a composite. It is not seeded: with the same members, the
// first choice is the same after every restart.
func Tag(client packet.Addr, composite uint32) uint64 {
	h := binary.NativeEndian.Uint64(client[:8])
	h = spread(h ^ uint64(composite)*0x9E3779B97F4A7C15)
	return spread(h ^ binary.NativeEndian.Uint64(client[8:]))
}

// Anew is another hash of the same client, for a choice after the one that ended
// then: it differs from time to time, and is the same for flows that begin at once.
func Anew(tag, then uint64) uint64 { return spread(tag ^ spread(then)) }

// spread is the finalizer of splitmix64.
func spread(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

func (t *Table) bucket(tag uint64) []cell {
	i := int(tag>>40) % buckets * ways
	return t.cells[i : i+ways]
}

// Find returns the member that served a client last, and when its last flow began.
func (t *Table) Find(tag uint64) (member, seen uint64, ok bool) {
	cells := t.bucket(tag)
	for i := range cells {
		if c := &cells[i]; c.tag.Load() == tag {
			if member, seen, ok = c.read(tag); ok {
				return member, seen, true
			}
		}
	}
	return 0, 0, false
}

// read returns what stands in c for tag, if it stands still for a moment.
func (c *cell) read(tag uint64) (member, seen uint64, ok bool) {
	for range 4 {
		seen, member = c.seen.Load(), c.member.Load()
		if seen != 0 && seen != writing && c.tag.Load() == tag && c.seen.Load() == seen {
			return member, seen, true
		}
	}
	return 0, 0, false
}

// Put remembers that a flow of a client, that begins now, goes to a member. When
// another worker writes at the same place, this one's is forgotten.
func (t *Table) Put(tag, member, now uint64) {
	c := t.place(tag)
	seen := c.seen.Load()
	if seen != 0 && seen != writing && c.tag.Load() == tag && c.member.Load() == member {
		c.seen.CompareAndSwap(seen, now)
		return
	}
	if seen == writing || !c.seen.CompareAndSwap(seen, writing) {
		return
	}
	c.tag.Store(tag)
	c.member.Store(member)
	c.seen.Store(now)
}

// place is the client's cell, or the one that it takes: an empty one, or else the
// one that was used longest ago.
func (t *Table) place(tag uint64) *cell {
	cells := t.bucket(tag)
	oldest := &cells[0]
	for i := range cells {
		c := &cells[i]
		if c.tag.Load() == tag && c.seen.Load() != 0 {
			return c
		}
		if c.seen.Load() < oldest.seen.Load() {
			oldest = c
		}
	}
	return oldest
}
