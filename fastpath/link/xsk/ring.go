package xsk

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
)

// ringSize is the number of slots of each ring. The fill ring must outlast the
// bursts the kernel brings between two turns of the worker.
const ringSize = 2048

// ring is one of the four rings a socket shares with the kernel: a single producer
// and a single consumer, each with an index that only grows, modulo 2^32. One side
// of each ring is ours; the comments of Socket say which.
//
// The kernel pairs load-acquire with store-release on the indices (xsk_queue.h).
// Go's atomics are sequentially consistent, so they do. Slots are read and written
// plainly between the two, and indices cached, so that a batch costs one store.
type ring[T any] struct {
	// Set once by mapRing.
	slots    []T
	producer *uint32 // in shared memory
	consumer *uint32 // in shared memory
	flags    *uint32 // in shared memory: XDP_RING_NEED_WAKEUP
	mapped   []byte

	// Owned by the worker.
	mine   uint32 // our index, published or about to be
	theirs uint32 // the kernel's index as last read
}

// mapRing maps the ring at page offset page of the socket fd.
func mapRing[T any](fd int, page int64, at unix.XDPRingOffset) (ring[T], error) {
	var slot T
	size := int(at.Desc) + ringSize*int(unsafe.Sizeof(slot))
	m, err := unix.Mmap(fd, page, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[T]{}, fmt.Errorf("map ring: %w", err)
	}
	start := unsafe.Pointer(&m[0])
	return ring[T]{
		slots:    unsafe.Slice((*T)(unsafe.Add(start, at.Desc)), ringSize),
		producer: (*uint32)(unsafe.Add(start, at.Producer)),
		consumer: (*uint32)(unsafe.Add(start, at.Consumer)),
		flags:    (*uint32)(unsafe.Add(start, at.Flags)),
		mapped:   m,
	}, nil
}

func (r *ring[T]) unmap() error {
	if r.mapped == nil {
		return nil
	}
	m := r.mapped
	r.mapped = nil
	return unix.Munmap(m)
}

// at returns the slot of index i.
func (r *ring[T]) at(i uint32) *T { return &r.slots[i%ringSize] }

// needWakeup tells whether the kernel asks for a system call before it goes on.
func (r *ring[T]) needWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

// As producer (fill, TX):

// room returns how many slots are free, reading the kernel's index only when
// fewer than want seem to be.
func (r *ring[T]) room(want uint32) uint32 {
	if ringSize-(r.mine-r.theirs) < want {
		r.theirs = atomic.LoadUint32(r.consumer)
	}
	return ringSize - (r.mine - r.theirs)
}

// pending returns how many slots the kernel has not consumed yet.
func (r *ring[T]) pending() uint32 {
	r.theirs = atomic.LoadUint32(r.consumer)
	return r.mine - r.theirs
}

// produced publishes the slots up to mine.
func (r *ring[T]) produced() { atomic.StoreUint32(r.producer, r.mine) }

// As consumer (RX, completion):

// ready returns how many slots are filled, reading the kernel's index only when
// fewer than want seem to be.
func (r *ring[T]) ready(want uint32) uint32 {
	if r.theirs-r.mine < want {
		r.theirs = atomic.LoadUint32(r.producer)
	}
	return r.theirs - r.mine
}

// come returns up to where slots are filled.
func (r *ring[T]) come() uint32 {
	r.theirs = atomic.LoadUint32(r.producer)
	return r.theirs
}

// consumed gives the slots up to mine back.
func (r *ring[T]) consumed() { atomic.StoreUint32(r.consumer, r.mine) }

// The layouts the kernel shares with us.
var (
	_ [16]byte = [unsafe.Sizeof(frame.Desc{})]byte{}
	_          = [1]struct{}{}[unsafe.Sizeof(frame.Desc{})-unsafe.Sizeof(unix.XDPDesc{})]
)
