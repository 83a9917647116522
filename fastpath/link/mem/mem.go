// Package mem is a link without a kernel, for tests and benchmarks: frames are
// injected at one side and read at the other. The worker owns the Link as it
// owns any; Inject, Sent and Wake may be called by a test's goroutine meanwhile.
// It does not imitate losses of the kernel, only a full ring when told to.
package mem

import (
	"sync"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
)

// Payload is how many bytes of a packet fit in a chunk, as with the kernel.
const Payload = frame.ChunkSize - frame.Headroom

// Link implements link.Link, and link.Sleeper for its worker.
type Link struct {
	// Set by the test, before the worker runs.

	// Room is how many more descriptors Transmit takes until Flush; below zero
	// (as New sets it) there is no limit.
	Room int
	// Blind drops what is transmitted instead of keeping it for Sent, so that
	// benchmarks do not allocate.
	Blind bool

	// Set once by New.
	memory frame.Memory
	pool   *frame.Pool
	wake   chan struct{}

	// Owned by the worker.
	pending int // descriptors transmitted and not flushed

	// Shared under mu.
	mu      sync.Mutex
	arena   []byte // injected frames, one behind the other
	ends    []int  // of each in arena
	next    int    // the first not yet received
	sent    [][]byte
	flushes int
}

// New returns a link whose frames live in memory; the worker's free chunks are in pool.
func New(memory frame.Memory, pool *frame.Pool) *Link {
	return &Link{Room: -1, memory: memory, pool: pool, wake: make(chan struct{}, 1)}
}

// Beside makes what is injected here wake the worker that sleeps on first: it has
// several links, this one too.
func (l *Link) Beside(first *Link) { l.wake = first.wake }

// Inject queues a copy of a whole Ethernet frame for Receive.
func (l *Link) Inject(frame []byte) {
	l.mu.Lock()
	l.arena = append(l.arena, frame...)
	l.ends = append(l.ends, len(l.arena))
	l.mu.Unlock()
	l.Wake()
}

// Receive implements link.Link. A frame is laid out as the kernel would: cut
// into chunks with frame.Headroom bytes free in front of each part. When the
// pool runs out the frame waits.
func (l *Link) Receive(b []frame.Desc) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for l.next < len(l.ends) {
		start := 0
		if l.next > 0 {
			start = l.ends[l.next-1]
		}
		data := l.arena[start:l.ends[l.next]]
		k := max(1, (len(data)+Payload-1)/Payload)
		if n+k > len(b) || l.pool.Len() < k {
			return n
		}
		l.spread(data, b[n:n+k])
		n += k
		l.next++
	}
	l.arena, l.ends, l.next = l.arena[:0], l.ends[:0], 0
	return n
}

// spread copies data into as many chunks as there are descriptors in run.
func (l *Link) spread(data []byte, run []frame.Desc) {
	for i := range run {
		base, _ := l.pool.Get() // the caller saw that there are enough
		addr := base + frame.Headroom
		n := copy(l.memory.Chunk(base)[frame.Headroom:], data)
		data = data[n:]
		run[i] = frame.Desc{Addr: addr, Len: uint32(n), Options: frame.Contd}
	}
	run[len(run)-1].Options = 0
}

// Transmit implements link.Link.
func (l *Link) Transmit(b []frame.Desc) int {
	n := len(b)
	if l.Room >= 0 {
		n = max(0, min(n, l.Room-l.pending))
	}
	for n > 0 && b[n-1].Options&frame.Contd != 0 {
		n--
	}
	l.pending += n
	l.mu.Lock()
	defer l.mu.Unlock()
	start := true
	for _, d := range b[:n] {
		if !l.Blind {
			if start {
				l.sent = append(l.sent, nil)
			}
			last := &l.sent[len(l.sent)-1]
			*last = append(*last, l.memory.Bytes(d)...)
		}
		start = d.Options&frame.Contd == 0
		l.pool.Put(d.Addr)
	}
	return n
}

// Flush implements link.Link.
func (l *Link) Flush() {
	l.pending = 0
	l.mu.Lock()
	l.flushes++
	l.mu.Unlock()
}

// Pending implements link.Link: what has been transmitted has left.
func (l *Link) Pending() bool { return false }

// Wait implements link.Sleeper.
func (l *Link) Wait(timeout time.Duration) {
	l.mu.Lock()
	ready := l.next < len(l.ends)
	l.mu.Unlock()
	if ready {
		return
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-l.wake:
	case <-t.C:
	}
}

// Wake implements link.Sleeper.
func (l *Link) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // one is already under way
	}
}

// Sent returns a copy of every frame transmitted since the last call, in one
// piece each.
func (l *Link) Sent() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sent
	l.sent = nil
	return s
}

// Flushes returns how often the worker has called Flush.
func (l *Link) Flushes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushes
}
