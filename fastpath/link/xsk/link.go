package xsk

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
)

// Receive implements link.Link.
func (s *Socket) Receive(b []frame.Desc) int {
	n := min(s.rx.ready(uint32(len(b))), uint32(len(b)))
	if n == 0 {
		s.came.rounds.idle(s.rx.mine)
		s.refill() // after starvation nothing arrives that could cause it
		if s.busy {
			s.call()
		}
		return 0
	}
	i := s.rx.mine % ringSize
	k := copy(b[:n], s.rx.slots[i:])
	copy(b[k:n], s.rx.slots)
	for n > 0 && b[n-1].Options&frame.Contd != 0 {
		n-- // the kernel publishes whole packets; only len(b) cuts one
	}
	s.rx.mine += n
	s.rx.consumed()
	if s.came.rounds.over(s.rx.mine) {
		s.came.rounds.begin(s.rx.come())
	}
	s.came.heads.touch(b[:n])
	s.refill()
	return int(n)
}

// arrivals are the frames received: what is to be done with them at once.
type arrivals struct {
	heads  toucher
	rounds rounds
}

// toucher reads a byte of each frame before anybody looks at one. Another processor wrote
// them, in copy mode: loads that depend on nothing overlap, so that a batch waits once for
// its headers and not every packet for its own. It is worth a quarter of the packet rate.
type toucher struct {
	memory frame.Memory
	sum    byte // nothing: it keeps the loads
}

func (t *toucher) touch(b []frame.Desc) {
	sum := t.sum
	for i := range b {
		sum += t.memory[b[i].Addr]
	}
	t.sum = sum
}

// refill gives the kernel chunks to receive into. It works in batches: one store,
// and one look at the pool's rings, for many chunks. It leaves a reserve in the
// pool: the replies and fragments a worker makes itself must not starve while the
// kernel holds buffers for what may come.
func (s *Socket) refill() {
	batch, reserve := min(64, s.pool.Cap()/8, s.most/2), min(256, s.pool.Cap()/8)
	held := int(s.fill.mine - s.rx.mine) // what it lost on the way it uses again
	room := min(int(s.fill.room(ringSize)), s.most-held)
	if room < max(batch, 1) {
		return
	}
	free := s.pool.Len() - reserve
	if free < max(batch, 1) {
		return
	}
	room = min(room, free)
	for range room {
		addr, ok := s.pool.Get()
		if !ok {
			break
		}
		*s.fill.at(s.fill.mine) = addr
		s.fill.mine++
	}
	s.fill.produced()
	if s.fill.needWakeup() { // never in copy mode; a driver that starved waits for it
		s.call()
	}
}

// call lets the driver receive: it is told that there are chunks again, or, busy
// polling, runs here.
func (s *Socket) call() {
	unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}

// Transmit implements link.Link.
func (s *Socket) Transmit(b []frame.Desc) int {
	n := min(s.tx.room(uint32(len(b))), uint32(len(b)))
	for n > 0 && b[n-1].Options&frame.Contd != 0 {
		n--
	}
	if n == 0 {
		return 0
	}
	for i := range b[:n] {
		d := s.tx.at(s.tx.mine)
		*d = b[i]
		d.Options &= frame.Contd // any other bit makes the descriptor invalid
		s.tx.mine++
	}
	s.tx.produced()
	return int(n)
}

// stall is how many kicks in a row may send nothing before Flush leaves the rest
// to the next one.
const stall = 3

// Flush implements link.Link. In copy mode the kernel sends only inside a system
// call, and a bounded number of frames: kick until it took all. What the device
// does not take now (it is down, or too much is on its way) stays in the ring. A
// driver with zero-copy sends by itself, once it runs.
func (s *Socket) Flush() {
	left := s.tx.pending()
	if s.zeroCopy {
		if left > 0 && s.tx.needWakeup() {
			s.kick()
		}
		left = 0
	}
	for idle := 0; left > 0 && idle < stall; idle++ {
		if !s.kick() {
			break
		}
		s.reap()
		if now := s.tx.pending(); now != left {
			left, idle = now, -1
		}
	}
	s.reap()
}

// kick makes the kernel send. It reports whether another kick can help.
//
// RawSyscall does not tell Go's scheduler, which saves a third of the call; it may,
// because the call does not sleep.
func (s *Socket) kick() bool {
	s.count.kicks.Add(1)
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	switch e {
	case 0:
	case unix.EBUSY: // the device dropped a frame, which counts as sent
		s.count.deviceDrops.Add(1)
	case unix.EAGAIN, unix.ENOBUFS: // the budget is used up, or the completion ring or the send buffer is full
		s.count.retries.Add(1)
	default: // ENETDOWN, ENXIO: the device is down or gone
		s.count.down.Add(1)
		return false
	}
	return true
}

// reap takes the chunks of frames that have left back into the pool, whoever is
// their home. Until they are reaped the kernel sends no more.
func (s *Socket) reap() {
	n := s.done.ready(ringSize)
	if n == 0 {
		return
	}
	for range n {
		s.pool.Put(*s.done.at(s.done.mine))
		s.done.mine++
	}
	s.done.consumed()
}

// Pending implements link.Link.
func (s *Socket) Pending() bool { return s.tx.pending() > 0 }

// Stats are counters since Open. The first four are the kernel's (XDP_STATISTICS).
type Stats struct {
	RxDropped     uint64 // received frames for which there was no chunk, or too few
	RxRingFull    uint64 // received frames dropped because the worker did not keep up
	FillRingEmpty uint64 // how often the kernel found no chunk to receive into
	TxInvalid     uint64 // descriptors the kernel refused: a bug of ours

	DeviceDrops uint64 // frames the device did not take (its other end was full or down)
	Retries     uint64 // kicks that ended early: budget, completion ring or send buffer
	Down        uint64 // kicks in vain: the device is down or gone
	Kicks       uint64
}

// counters are what the worker counts itself; anyone may read them.
type counters struct{ kicks, retries, deviceDrops, down atomic.Uint64 }

// Stats reads the counters. Any goroutine may, until Close.
func (s *Socket) Stats() (Stats, error) {
	var k unix.XDPStatistics
	size := uint32(unsafe.Sizeof(k))
	err := s.get(unix.XDP_STATISTICS, unsafe.Pointer(&k), &size)
	return Stats{
		RxDropped: k.Rx_dropped, RxRingFull: k.Rx_ring_full, FillRingEmpty: k.Rx_fill_ring_empty_descs,
		TxInvalid:   k.Tx_invalid_descs,
		DeviceDrops: s.count.deviceDrops.Load(), Retries: s.count.retries.Load(),
		Down: s.count.down.Load(), Kicks: s.count.kicks.Load(),
	}, err
}
