package flow

import (
	"sync/atomic"
	"unsafe"
)

// Index names an entry among all workers: 8 bits of worker, 24 bits of slot.
func Index(worker int, slot uint32) uint32 { return uint32(worker)<<24 | slot }

// Split takes an Index apart.
func Split(index uint32) (worker int, slot uint32) { return int(index >> 24), index & (maxCells - 1) }

// Slot is the slot of an Index.
func Slot(index uint32) uint32 { return index & (maxCells - 1) }

// Used reports whether a slot holds an entry. Any goroutine may call it; the
// answer may be old when it arrives.
func (t *Table) Used(slot uint32) bool {
	status := atomic.LoadUint32((*uint32)(unsafe.Pointer(&t.Entry(slot).Proto))) // Proto, Used, Action, reach
	return (*[4]uint8)(unsafe.Pointer(&status))[1] == slotUsed
}

// Words of a line and of what is cold, and how many of them hold the key, Used and
// the action.
const (
	lineWords = lineSize / 8
	coldWords = coldSize / 4 // of 4 bytes
	keyWords  = 3
	keyWide   = 4 // in an IPv6 cell's second line
)

// Snapshot copies the entry of a slot while the worker goes on. Any goroutine
// may call it. The copy is of one conversation; its counters may be of
// different moments. ok is false if the slot is empty or never stands still.
func (t *Table) Snapshot(slot uint32) (r Record, ok bool) {
	for range 8 {
		if !t.Used(slot) {
			return Record{}, false
		}
		c := cell{six: t.isSix(slot)}
		if t.copyCell(slot, &c) {
			return c.record(), true
		}
	}
	return Record{}, false
}

// copyCell copies word by word and reports whether the key words were the same
// after as before.
func (t *Table) copyCell(slot uint32, c *cell) bool {
	line, to := (*[lineWords]uint64)(unsafe.Pointer(t.Entry(slot))), (*[lineWords]uint64)(unsafe.Pointer(&c.Entry))
	copyWords(to[:], line[:])
	var behind *[lineWords]uint64
	if c.six {
		behind = (*[lineWords]uint64)(unsafe.Pointer(t.six.wide(slot)))
		copyWords((*[lineWords]uint64)(unsafe.Pointer(&c.wide))[:], behind[:])
	}
	cold, toCold := (*[coldWords]uint32)(unsafe.Pointer(t.Cold(slot))), (*[coldWords]uint32)(unsafe.Pointer(&c.Cold))
	for i := range cold {
		toCold[i] = atomic.LoadUint32(&cold[i])
	}
	if c.six && !sameWords((*[lineWords]uint64)(unsafe.Pointer(&c.wide))[:keyWide], behind[:keyWide]) {
		return false
	}
	return sameWords(to[:keyWords], line[:keyWords]) && c.Used == slotUsed
}

func copyWords(to, from []uint64) {
	for i := range from {
		to[i] = atomic.LoadUint64(&from[i])
	}
}

func sameWords(copied, from []uint64) bool {
	for i := range from {
		if atomic.LoadUint64(&from[i]) != copied[i] {
			return false
		}
	}
	return true
}
