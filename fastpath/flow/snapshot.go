package flow

import (
	"sync/atomic"
	"unsafe"
)

// Index names an entry among all workers: 8 bits of worker, 24 bits of slot.
func Index(worker int, slot uint32) uint32 { return uint32(worker)<<24 | slot }

// Split takes an Index apart.
func Split(index uint32) (worker int, slot uint32) { return int(index >> 24), index & (maxCells - 1) }

// Used reports whether a slot holds an entry. Any goroutine may call it; the
// answer may be old when it arrives.
func (t *Table) Used(slot uint32) bool {
	e := &t.cells[slot]
	status := atomic.LoadUint32((*uint32)(unsafe.Pointer(&e.Proto))) // Proto, Used, Action, Reason
	return (*[4]uint8)(unsafe.Pointer(&status))[1] == slotUsed
}

// words of an entry, and how many of them hold the key, Used and the action.
const (
	words    = cellSize / 8
	keyWords = 6
)

// Snapshot copies the entry of a slot while the worker goes on. Any goroutine
// may call it. The copy is of one conversation; its counters may be of
// different moments. ok is false if the slot is empty or never stands still.
func (t *Table) Snapshot(slot uint32) (e Entry, ok bool) {
	for range 8 {
		if !t.Used(slot) {
			return Entry{}, false
		}
		if t.copyCell(slot, &e) {
			return e, true
		}
	}
	return Entry{}, false
}

// copyCell copies word by word and reports whether the key words were the same
// after as before.
func (t *Table) copyCell(slot uint32, e *Entry) bool {
	from := (*[words]uint64)(unsafe.Pointer(&t.cells[slot]))
	to := (*[words]uint64)(unsafe.Pointer(e))
	for i := range from {
		to[i] = atomic.LoadUint64(&from[i])
	}
	for i := range keyWords {
		if atomic.LoadUint64(&from[i]) != to[i] {
			return false
		}
	}
	return e.Used == slotUsed
}
