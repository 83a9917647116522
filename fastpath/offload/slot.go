package offload

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/packet"
)

// Slot is shared memory through which one flow changes from the user plane to the
// kernel without overtaking itself. While an entry is pending, the kernel marks and
// counts each frame that it sends up; the worker sends it down marked as well, the
// kernel counts it again, and begins to forward when as many have come down.
//
// That a frame has come down does not say that it has been handed on: a processor may
// be in the middle of it, or have put it into a queue of its own on its way
// into another namespace. So behind its marked frames a worker sends a fence, which
// goes that way twice. Frames are handled in order by the processor the worker sends on; if
// they came down on another one than the fence, the fence is of no use.
//
//	worker: Begin; cache: Put(Flow{Handover, Turn})
//	kernel: Up++, frame marked ──► worker: transmits it marked, then a fence: so many
//	kernel: Passed++ ... fence, as many have passed: Done = Up at that time
//	kernel: Up == Done, not 0: Active = Turn, this packet and all after it are the kernel's
//	worker: sees Taken: the slot is free; or it is when another flow wants it
//
// A frame lost on the way leaves the counts unequal for ever: the worker gives up after
// a while, and may begin another turn. Marks of an old turn count for nothing. An entry that
// has not been taken over is thus the worker's to end, without a call of the kernel, before
// another connection has its ports.
//
// A cache line of its own. The worker that owns the flow writes Turn, the kernel all
// else, but for Begin and Force; in each, plain stores of the one are seen by the other.
type Slot struct {
	Up     uint64 // frames sent up in this turn
	Passed uint64 // turn << 32 | frames that came down, marked
	Done   uint64 // turn << 32 | of Up, what has certainly left
	Turn   uint32 // 16 bits are used; never 0 in use
	Active uint32 // Turn, once the kernel has taken over
	CPU    uint32 // 1 + the processor on which frames come down, or all ones: several
	_      [28]byte
}

// Begin starts a turn and returns it: nothing is under way, as far as is known. The
// entry that names the turn may be put into the cache afterwards. A frame that the
// kernel counts while the turn changes makes Up too large, never too small; Passed and
// Done name their turn.
func (s *Slot) Begin() (turn uint16) {
	turn = uint16(s.Turn) + 1
	if turn == 0 {
		turn = 1
	}
	atomic.StoreUint32(&s.Active, 0)
	atomic.StoreUint64(&s.Up, 0)
	atomic.StoreUint32(&s.Turn, uint32(turn))
	return turn
}

// Force ends the turn that has begun: the kernel takes over with the next packet, whatever
// is under way.
func (s *Slot) Force() {
	atomic.StoreUint64(&s.Done, uint64(s.Turn)<<32|1)
	atomic.StoreUint64(&s.Up, 1)
}

// Void gives the turn up that has begun: the kernel takes over no entry that names it,
// neither one that is in the cache nor one that is on its way there.
func (s *Slot) Void() { atomic.StoreUint32(&s.Turn, uint32(uint16(s.Turn)+1)) }

// Met says that the kernel has counted frames of the running turn: packets of the flow
// come to it, and are such as it forwards.
func (s *Slot) Met() bool { return atomic.LoadUint64(&s.Up) != 0 }

// Rests says that nothing of the flow is under way: the kernel forwards its next packet, or
// the one after that if it has seen none in the running turn.
func (s *Slot) Rests() bool {
	up := atomic.LoadUint64(&s.Up)
	return up == 0 || atomic.LoadUint64(&s.Done) == uint64(s.Turn)<<32|up
}

// Taken says that the kernel forwards the flow of the running turn.
func (s *Slot) Taken() bool { return atomic.LoadUint32(&s.Active) == s.Turn }

// Mark names a turn of a slot. The zero Mark is none: slot 0 is never used.
type Mark struct{ Slot, Turn uint16 }

// Frames towards a worker have their mark where their Ethernet source was, or nothing:
//
//	00:00:00:00:00:00   not of a pending flow
//	06:56:ss:ss:tt:tt   s: Flow.Handover, t: Flow.Turn, big endian
const mark0, mark1 = 0x06, 0x56

// MarkOf reads the mark of a frame of at least 14 bytes.
func MarkOf(frame []byte) Mark {
	_ = frame[11]
	if frame[6] != mark0 || frame[7] != mark1 {
		return Mark{}
	}
	return Mark{binary.BigEndian.Uint16(frame[8:]), binary.BigEndian.Uint16(frame[10:])}
}

// PutMark writes a mark as the kernel does.
func PutMark(frame []byte, m Mark) {
	frame[6], frame[7] = mark0, mark1
	binary.BigEndian.PutUint16(frame[8:], m.Slot)
	binary.BigEndian.PutUint16(frame[10:], m.Turn)
}

// MaxMarkedVif bounds the ids of vifs by which marked frames can leave.
const MaxMarkedVif = 1 << 16

// A marked frame from a worker has both the vif it leaves by and its mark in its
// Ethernet source; of the turn, the last 12 bits:
//
//	06:vv:vv:ss:st:tt
const TurnBits = 1<<12 - 1

// Down is that source. The vif must be below MaxMarkedVif.
func (m Mark) Down(vif uint32) [6]byte {
	return [6]byte{mark0, byte(vif >> 8), byte(vif), byte(m.Slot >> 4), byte(m.Slot<<4) | byte(m.Turn>>8)&0x0f, byte(m.Turn)}
}

// ParseDown undoes Down, as the kernel does.
func ParseDown(source []byte) (vif uint32, m Mark, ok bool) {
	_ = source[5]
	vif = uint32(source[1])<<8 | uint32(source[2])
	m = Mark{uint16(source[3])<<4 | uint16(source[4])>>4, uint16(source[4]&0x0f)<<8 | uint16(source[5])}
	return vif, m, source[0] == mark0
}

// Fence is what a worker sends down behind marked frames.
type Fence struct {
	Mark
	Down uint32 // marked frames of the turn that were sent down before
	Up   uint32 // that came up; what is missing below left otherwise, or was dropped
}

const (
	fence0    = 0x0a
	fenceType = 0x88b5 // IEEE 802, for local experiments
	// FenceLen is the length of its frame, bytes: the smallest of Ethernet.
	FenceLen = 60
)

// Put writes the fence's frame. from_punt in steer.c reads it.
//
//	6 bytes 0 | 0a:56:ss:ss:tt:tt | 88b5 | Down, 4 bytes | Up, 4 bytes
func (f *Fence) Put(frame []byte) {
	clear(frame[:FenceLen])
	frame[6], frame[7] = fence0, mark1
	binary.BigEndian.PutUint16(frame[8:], f.Slot)
	binary.BigEndian.PutUint16(frame[10:], f.Turn)
	binary.BigEndian.PutUint16(frame[12:], fenceType)
	binary.BigEndian.PutUint32(frame[packet.EthernetLen:], f.Down)
	binary.BigEndian.PutUint32(frame[packet.EthernetLen+4:], f.Up)
}

// ParseFence undoes Put, for the kernel's twin.
func ParseFence(frame []byte) (f Fence, ok bool) {
	if len(frame) < FenceLen || frame[6] != fence0 || frame[7] != mark1 {
		return f, false
	}
	f.Slot, f.Turn = binary.BigEndian.Uint16(frame[8:]), binary.BigEndian.Uint16(frame[10:])
	f.Down, f.Up = binary.BigEndian.Uint32(frame[packet.EthernetLen:]), binary.BigEndian.Uint32(frame[packet.EthernetLen+4:])
	return f, true
}
