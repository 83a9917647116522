// Package ring is a queue between exactly two goroutines, without locks or
// allocation. One producer owns Push and PushAll, one consumer owns Pop and
// PopAll; anyone may ask Len. It is not for more than one goroutine at either
// end, and it never blocks: a full ring says so.
package ring

import "sync/atomic"

const line = 64 // bytes: a cache line; the two ends must not share one

// SPSC is a bounded single-producer single-consumer queue of T. T should hold
// no pointers: a popped slot is not cleared until it is pushed over.
type SPSC[T any] struct {
	// Set once by New.
	slots []T
	mask  uint64
	_     [line]byte

	// Owned by the producer; tail is read by anyone.
	tail     atomic.Uint64
	seenHead uint64 // head as last read; never ahead of it
	_        [line]byte

	// Owned by the consumer; head is read by anyone.
	head     atomic.Uint64
	seenTail uint64 // tail as last read; never ahead of it
	_        [line]byte
}

// New returns an empty ring of at least capacity slots, rounded up to a power
// of two.
func New[T any](capacity int) *SPSC[T] {
	n := 1
	for n < capacity {
		n *= 2
	}
	return &SPSC[T]{slots: make([]T, n), mask: uint64(n - 1)}
}

// Push appends v. It reports false, and changes nothing, when the ring is full.
func (r *SPSC[T]) Push(v T) bool {
	tail := r.tail.Load()
	if r.room(tail, 1) == 0 {
		return false
	}
	r.slots[tail&r.mask] = v
	r.tail.Store(tail + 1)
	return true
}

// PushAll appends the first n of v and returns n; n < len(v) means the ring is
// full. All n become visible with one store.
func (r *SPSC[T]) PushAll(v []T) int {
	tail := r.tail.Load()
	n := min(r.room(tail, uint64(len(v))), uint64(len(v)))
	if n == 0 {
		return 0
	}
	i := tail & r.mask
	k := copy(r.slots[i:], v[:n])
	copy(r.slots, v[k:n])
	r.tail.Store(tail + n)
	return int(n)
}

// room returns how many slots are free, looking at the consumer's index only
// when fewer than want seem to be.
func (r *SPSC[T]) room(tail, want uint64) uint64 {
	size := r.mask + 1
	if size-(tail-r.seenHead) < want {
		r.seenHead = r.head.Load()
	}
	return size - (tail - r.seenHead)
}

// Pop takes the oldest element into v. It reports false when the ring is empty.
func (r *SPSC[T]) Pop(v *T) bool {
	head := r.head.Load()
	if r.ready(head, 1) == 0 {
		return false
	}
	*v = r.slots[head&r.mask]
	r.head.Store(head + 1)
	return true
}

// PopAll takes up to len(v) of the oldest elements, in order, and returns how
// many. Their slots are given back with one store.
func (r *SPSC[T]) PopAll(v []T) int {
	head := r.head.Load()
	n := min(r.ready(head, uint64(len(v))), uint64(len(v)))
	if n == 0 {
		return 0
	}
	i := head & r.mask
	k := copy(v[:n], r.slots[i:])
	copy(v[k:n], r.slots)
	r.head.Store(head + n)
	return int(n)
}

// ready returns how many elements wait, looking at the producer's index only
// when fewer than want seem to.
func (r *SPSC[T]) ready(head, want uint64) uint64 {
	if r.seenTail-head < want {
		r.seenTail = r.tail.Load()
	}
	return r.seenTail - head
}

// Len returns how many elements wait. For a goroutine that owns neither end it
// is a moment's estimate.
func (r *SPSC[T]) Len() int {
	head := r.head.Load() // first: tail only grows, so the difference is never negative
	return int(r.tail.Load() - head)
}

// Cap returns the number of slots.
func (r *SPSC[T]) Cap() int { return len(r.slots) }
