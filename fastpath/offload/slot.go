package offload

import (
	"encoding/binary"
	"sync/atomic"
)

// Slot is shared memory through which one flow changes from the user plane to the
// kernel without overtaking itself. While an entry is pending, the kernel marks and
// counts each frame that it sends up, and begins to forward when the worker has
// transmitted as many: then nothing of the flow is under way, as frames keep
// their order between the two.
//
//	worker: Begin; cache: Put(Flow{Handover, Turn})
//	kernel: Up++, frame marked ──► worker: transmits, flushes, Done++
//	kernel: Up == Done, not 0: Active = Turn, this packet and all after it are the kernel's
//	worker: sees Taken: the slot is free
//
// A frame lost on the way leaves the two unequal for ever: the worker gives up after
// a while, and may begin another turn. Marks of an old turn count for nothing.
//
// A cache line of its own. The worker that owns the flow writes Done and Turn, the
// kernel Up and Active; in each, plain stores of the one are seen by the other.
type Slot struct {
	Up     uint64 // frames sent up in this turn
	Done   uint64 // of them, frames the worker has transmitted
	Turn   uint32 // 16 bits are used; never 0 in use
	Active uint32 // Turn, once the kernel has taken over
	_      [40]byte
}

// Begin starts a turn and returns it: nothing is under way, as far as is known. The
// entry that names the turn may be put into the cache afterwards. A frame that the
// kernel counts while the turn changes makes Up too large, never too small.
func (s *Slot) Begin() (turn uint16) {
	turn = uint16(s.Turn) + 1
	if turn == 0 {
		turn = 1
	}
	atomic.StoreUint32(&s.Active, 0)
	atomic.StoreUint64(&s.Up, 0)
	atomic.StoreUint64(&s.Done, 0)
	atomic.StoreUint32(&s.Turn, uint32(turn))
	return turn
}

// Sent says that n frames with the mark of the running turn have been transmitted,
// flushed, or dropped. Of the owner alone.
func (s *Slot) Sent(n uint64) { atomic.StoreUint64(&s.Done, s.Done+n) }

// Met says that the kernel has counted frames of the running turn: packets of the flow
// come to it, and are such as it forwards.
func (s *Slot) Met() bool { return atomic.LoadUint64(&s.Up) != 0 }

// Taken says that the kernel forwards the flow of the running turn.
func (s *Slot) Taken() bool { return atomic.LoadUint32(&s.Active) == s.Turn }

// Frames towards a worker have its mark where their Ethernet source was, or nothing:
//
//	00:00:00:00:00:00   not of a pending flow
//	06:56:ss:ss:tt:tt   s: Flow.Handover, t: Flow.Turn, big endian
const mark0, mark1 = 0x06, 0x56

// Mark reads the mark of a frame of at least 14 bytes; slot 0: it has none.
func Mark(frame []byte) (slot, turn uint16) {
	_ = frame[11]
	if frame[6] != mark0 || frame[7] != mark1 {
		return 0, 0
	}
	return binary.BigEndian.Uint16(frame[8:]), binary.BigEndian.Uint16(frame[10:])
}

// PutMark writes a mark as the kernel does.
func PutMark(frame []byte, slot, turn uint16) {
	frame[6], frame[7] = mark0, mark1
	binary.BigEndian.PutUint16(frame[8:], slot)
	binary.BigEndian.PutUint16(frame[10:], turn)
}
