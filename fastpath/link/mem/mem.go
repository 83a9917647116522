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
	arena   []byte     // injected frames, one behind the other
	in      []injected // each in arena
	next    int        // the first not yet received
	sent    []sent
	flushes int
}

// injected is a frame that waits, and where it ends in the arena.
type injected struct {
	end     int
	card    bool // its sender has a network card that does the rest
	offload frame.Offload
}

type sent struct {
	frame   []byte
	offload frame.Offload
}

// New returns a link whose frames live in memory; the worker's free chunks are in pool.
func New(memory frame.Memory, pool *frame.Pool) *Link {
	return &Link{Room: -1, memory: memory, pool: pool, wake: make(chan struct{}, 1)}
}

// Beside makes what is injected here wake the worker that sleeps on first: it has
// several links, this one too.
func (l *Link) Beside(first *Link) { l.wake = first.wake }

// Inject queues a copy of a whole Ethernet frame for Receive.
func (l *Link) Inject(b []byte) { l.inject(b, injected{}) }

// InjectCard is Inject for a frame that its sender left to a network card to finish. It
// is laid out as package tap does: what does not fit the first chunk in one large
// buffer, which the pool must have.
func (l *Link) InjectCard(b []byte, o frame.Offload) { l.inject(b, injected{card: true, offload: o}) }

func (l *Link) inject(b []byte, in injected) {
	l.mu.Lock()
	l.arena = append(l.arena, b...)
	in.end = len(l.arena)
	l.in = append(l.in, in)
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
	for l.next < len(l.in) {
		start := 0
		if l.next > 0 {
			start = l.in[l.next-1].end
		}
		in := l.in[l.next]
		data := l.arena[start:in.end]
		k := max(1, (len(data)+Payload-1)/Payload)
		if in.card {
			k = min(k, 2)
		}
		if n+k > len(b) || l.pool.Len() < k {
			return n
		}
		if in.card && k == 2 {
			l.large(data, b[n:])
			in.offload |= frame.OffloadLarge
		} else {
			l.spread(data, b[n:n+k])
		}
		b[n].Options |= in.offload.Options()
		n += k
		l.next++
	}
	l.arena, l.in, l.next = l.arena[:0], l.in[:0], 0
	return n
}

// large puts what of data does not fit a chunk into a large buffer. Where there is
// none, the test has asked for too much.
func (l *Link) large(data []byte, run []frame.Desc) {
	l.spread(data[:Payload], run[:1])
	addr, ok := l.pool.GetLarge()
	if !ok {
		panic("mem: no large buffer")
	}
	run[0].Options = frame.Contd
	run[1] = frame.Desc{Addr: addr, Len: uint32(len(data) - Payload)}
	copy(l.memory.Bytes(run[1]), data[Payload:])
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
				l.sent = append(l.sent, sent{offload: frame.OffloadOf(d.Options)})
			}
			last := &l.sent[len(l.sent)-1]
			last.frame = append(last.frame, l.memory.Bytes(d)...)
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
	ready := l.next < len(l.in)
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
	frames, _ := l.SentCard()
	return frames
}

// SentCard is Sent with what of each frame was left to a network card.
func (l *Link) SentCard() (frames [][]byte, offloads []frame.Offload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sent {
		frames, offloads = append(frames, s.frame), append(offloads, s.offload)
	}
	l.sent = nil
	return frames, offloads
}

// Flushes returns how often the worker has called Flush.
func (l *Link) Flushes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushes
}
