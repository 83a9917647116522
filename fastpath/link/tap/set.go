// Package tap is the link to pods whose interface is a multi-queue tap: packets come
// and go whole, as the pod's kernel would hand them to a network card that segments
// and sums. A Set, with one queue of every such pod, belongs to one worker. It makes no
// device (package veth does) and does no card's work (package forward does, where needed).
//
// A packet of 64 KiB is read by one system call into two buffers: a chunk, where all
// headers are, and a large one behind it. Small packets need the chunk alone. Segments
// that are to go to a pod one behind the other are joined again.
package tap

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	// quantum is how many bytes all queues together deliver in one turn, about: what the
	// core's cache still holds when it is sent on, and for whose segments nobody waits
	// long. Queues with packets have equal shares of it.
	quantum = 256 << 10
	// What counts as so many bytes: a packet, for it is a system call; a segment that it
	// is to be cut into.
	packetCost, segmentCost = quantum / 32, 512
	// mostReady is how many queues with packets are looked at in one turn.
	mostReady = 32
	// maxVif bounds the vif ids of taps; a table of them is indexed by it.
	maxVif = 1 << 20
	// none is no address.
	none = ^uint64(0)
)

// Set implements link.Link on a worker's queues of all taps.
type Set struct {
	// Set once by New.
	memory frame.Memory
	pool   *frame.Pool
	epoll  int // of all queues: what poll and epoll_wait are asked

	// Owned by the worker.
	queues []int32 // by vif id: descriptor + 1; 0: no tap of ours
	open   int     // of them
	chunk  uint64  // to receive into, or none
	large  uint64  // behind it, or none
	heads  heads
	iov    [1 + most]unix.Iovec
	joined joined // sent last
	header [headerLen]byte

	count counters // written by the worker, read by anyone
}

// heads are queues that have packets.
type heads struct {
	ready [mostReady]unix.EpollEvent
	first uint // whose turn is first, modulo their number
}

type counters struct{ noBuffer, malformed, refused, gone atomic.Uint64 }

// New returns a Set without queues. The pool has large buffers.
func New(memory frame.Memory, pool *frame.Pool) (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("taps: %w", err)
	}
	return &Set{memory: memory, pool: pool, epoll: fd, chunk: none, large: none}, nil
}

// FD becomes readable when a queue has a packet: it is for poll(2).
func (s *Set) FD() int { return s.epoll }

// Add makes fd the queue of a vif, which has none.
func (s *Set) Add(vif table.VifID, fd int) error {
	if vif >= maxVif {
		return fmt.Errorf("tap of vif %d: the number is above %d", vif, maxVif-1)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(vif)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("tap of vif %d: %w", vif, err)
	}
	for len(s.queues) <= int(vif) {
		s.queues = append(s.queues, 0)
	}
	s.queues[vif] = int32(fd) + 1
	s.open++
	return nil
}

// Remove forgets the queue of a vif and returns it, -1 if there is none.
func (s *Set) Remove(vif table.VifID) (fd int) {
	if fd = s.queue(uint32(vif)); fd < 0 {
		return -1
	}
	s.queues[vif] = 0
	s.open--
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil) // ENOENT: it was deaf already
	return fd
}

func (s *Set) queue(vif uint32) int {
	if vif >= uint32(len(s.queues)) {
		return -1
	}
	return int(s.queues[vif]) - 1
}

// Receive implements link.Link. One question tells which queues have packets. The
// kernel names them in the same order each time, so the first to be asked changes: when
// the buffers are used up, it is another's turn to go without.
func (s *Set) Receive(b []frame.Desc) int {
	if s.open == 0 {
		return 0
	}
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), pointer(&s.heads.ready[0]), mostReady, 0, 0, 0)
	if e != 0 {
		return 0
	}
	got := 0
	s.heads.first++
	for i := range uint(n) {
		vif := uint32(s.heads.ready[(i+s.heads.first)%uint(n)].Fd)
		if fd := s.queue(vif); fd >= 0 {
			got += s.drain(vif, fd, quantum/int(n), b[got:])
		}
	}
	return got
}

// drain reads a queue's packets until there are none, or it had its share of bytes.
func (s *Set) drain(vif uint32, fd, share int, b []frame.Desc) int {
	n := 0
	for share > 0 && n+2 <= len(b) && s.prepare() {
		size, ok := s.read(fd)
		if !ok {
			break
		}
		k := s.take(vif, size, b[n:])
		share -= max(size, packetCost)
		if k > 0 {
			if o := frame.OffloadOf(b[n].Options); o.Size() != 0 {
				share -= max(0, size/o.Size()*segmentCost-size)
			}
		}
		n += k
	}
	return n
}

// prepare has a chunk and a large buffer ready for the next packet: how long it is
// shows only when it is there.
func (s *Set) prepare() bool {
	ok := true
	if s.chunk == none {
		if s.chunk, ok = s.pool.Get(); !ok {
			s.chunk = none
		}
	}
	if ok && s.large == none {
		if s.large, ok = s.pool.GetLarge(); !ok {
			s.large = none
		}
	}
	if !ok {
		s.count.noBuffer.Add(1)
	}
	return ok
}

// room is how many bytes of a frame lie in its first chunk.
const room = frame.ChunkSize - frame.Headroom

// read takes one packet off a queue, with its header in front of the frame. A queue
// whose device is gone would be ready for ever.
func (s *Set) read(fd int) (size int, ok bool) {
	s.iov[0] = unix.Iovec{Base: &s.memory[s.chunk+frame.Headroom-headerLen], Len: headerLen + room}
	s.iov[1] = unix.Iovec{Base: &s.memory[s.large], Len: frame.LargeSize}
	n, _, e := unix.RawSyscall(unix.SYS_READV, uintptr(fd), pointer(&s.iov[0]), 2)
	switch e {
	case 0:
		return int(n) - headerLen, true
	case unix.EAGAIN, unix.EINTR:
	default:
		s.count.gone.Add(1)
		_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
	return 0, false
}

// take makes descriptors of the packet that was read, addressed as one from its vif,
// and returns how many. Without any, its buffers are ready for the next.
func (s *Set) take(vif uint32, size int, b []frame.Desc) int {
	if size < packet.EthernetLen {
		s.count.malformed.Add(1)
		return 0
	}
	addr := s.chunk + frame.Headroom
	head := s.memory[addr : addr+uint64(min(size, room))]
	rest := s.memory[s.large : s.large+uint64(size-len(head))]
	o, start, at, ok := readHeader(s.memory[addr-headerLen : addr])
	if !ok {
		if start == 0 || start > at || at+2 > len(head) {
			s.count.malformed.Add(1)
			return 0
		}
		packet.FinishChecksum(head, start, at, rest)
	}
	mac := link.VifMAC(vif)
	copy(head, mac[:])
	b[0] = frame.Desc{Addr: addr, Len: uint32(len(head)), Options: o.Options()}
	s.chunk = none
	if len(rest) == 0 {
		return 1
	}
	b[0].Options |= frame.Contd | frame.OffloadLarge.Options()
	b[1] = frame.Desc{Addr: s.large, Len: uint32(len(rest))}
	s.large = none
	return 2
}

// Transmit implements link.Link. What is sent is copied at once: all is taken, and
// every buffer is free again. A pod that is gone or does not take a packet costs it.
func (s *Set) Transmit(b []frame.Desc) int {
	for i := 0; i < len(b); {
		n, skip, o := 1, 0, frame.OffloadOf(b[i].Options)
		for b[i+n-1].Options&frame.Contd != 0 {
			n++
		}
		if n == 1 && o == 0 {
			if n = s.join(b[i:]); n > 1 {
				skip, o = s.joined.payload, s.joined.offload()
			}
		}
		s.send(b[i:i+n], skip, o)
		for _, d := range b[i : i+n] {
			s.pool.Put(d.Addr)
		}
		i += n
	}
	return len(b)
}

// send writes one packet to the tap its source address names: all of run, less the
// first skip bytes of what follows the first descriptor.
func (s *Set) send(run []frame.Desc, skip int, o frame.Offload) {
	head := s.memory.Bytes(run[0])
	vif, _ := link.VifOf(head[6:])
	fd := s.queue(vif)
	if fd < 0 || len(run) >= len(s.iov) {
		s.count.refused.Add(1)
		return
	}
	copy(head[6:], table.RouterMAC[:])
	putHeader(s.header[:], o, head)
	s.iov[0] = unix.Iovec{Base: &s.header[0], Len: headerLen}
	s.iov[1] = unix.Iovec{Base: &head[0], Len: uint64(len(head))}
	for i, d := range run[1:] {
		s.iov[2+i] = unix.Iovec{Base: &s.memory[d.Addr+uint64(skip)], Len: uint64(d.Len) - uint64(skip)}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), pointer(&s.iov[0]), uintptr(1+len(run))); e != 0 {
		s.count.refused.Add(1)
	}
}

// Flush implements link.Link: nothing waits.
func (s *Set) Flush() {}

// Pending implements link.Link.
func (s *Set) Pending() bool { return false }

// Stats are packets lost since New.
type Stats struct {
	NoBuffer  uint64 // times that packets had to wait for a buffer; the kernel drops when its queue is full
	Malformed uint64 // packets whose virtio header could not be obeyed
	Refused   uint64 // packets that a tap did not take: it is down or gone
	Gone      uint64 // queues whose device went away
}

// Stats reads the counters. Any goroutine may.
func (s *Set) Stats() Stats {
	c := &s.count
	return Stats{c.noBuffer.Load(), c.malformed.Load(), c.refused.Load(), c.gone.Load()}
}

// Close closes all queues. The buffers it holds are lost to the pool: the memory is
// given up as a whole.
func (s *Set) Close() error {
	err := unix.Close(s.epoll)
	for _, d := range s.queues {
		if d != 0 {
			err = errors.Join(err, unix.Close(int(d)-1))
		}
	}
	s.queues, s.open = nil, 0
	if err != nil {
		return fmt.Errorf("close taps: %w", err)
	}
	return nil
}
