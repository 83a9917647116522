package mem

import (
	"encoding/binary"
	"time"

	"github.com/vragent/vragent/fastpath/frame"
)

// Replay is a link for benchmarks: it receives the same packets round and round,
// and forgets what is transmitted. It takes no lock, allocates nothing and leaves
// the packets' bytes where a kernel would, so that its own cost is small and can be
// measured alone. All of it belongs to the worker.
type Replay struct {
	// Set by the benchmark.
	Frames  []Frame
	Packets []Packet // may be replaced between turns; Next is then 0 again
	Next    int      // of Packets, received next
	Stop    bool     // receives nothing

	// Set once by NewReplay.
	memory frame.Memory
	pool   *frame.Pool
}

// Frame is what many packets have in common: all their bytes, and where in them
// each packet differs from the others, in bytes from the start of the frame.
type Frame struct {
	Bytes    []byte
	Src, Dst int // the last four bytes of the addresses
	Ports    int // source and destination port
	Sum      int // checksum of the IPv4 header; 0: there is none
}

// Packet is what one packet has of its own.
type Packet struct {
	Src, Dst     [4]byte // of the address, the last four bytes
	Sport, Dport uint16
	Sum          uint16 // IPv4 header checksum
	Frame        uint16 // index of Frames
}

// NewReplay returns a link whose frames live in memory; the worker's free chunks
// are in pool.
func NewReplay(memory frame.Memory, pool *frame.Pool) *Replay {
	return &Replay{memory: memory, pool: pool}
}

// Receive implements link.Link.
func (r *Replay) Receive(b []frame.Desc) int {
	if r.Stop || len(r.Packets) == 0 {
		return 0
	}
	for i := range b {
		base, ok := r.pool.Get()
		if !ok {
			return i
		}
		p := &r.Packets[r.Next]
		if r.Next++; r.Next == len(r.Packets) {
			r.Next = 0
		}
		b[i] = frame.Desc{Addr: base + frame.Headroom, Len: uint32(r.put(r.memory.Chunk(base)[frame.Headroom:], p))}
	}
	return len(b)
}

// put writes p into the chunk and returns its length.
func (r *Replay) put(chunk []byte, p *Packet) int {
	f := &r.Frames[p.Frame]
	n := copy(chunk, f.Bytes)
	*(*[4]byte)(chunk[f.Src:]) = p.Src
	*(*[4]byte)(chunk[f.Dst:]) = p.Dst
	binary.BigEndian.PutUint32(chunk[f.Ports:], uint32(p.Sport)<<16|uint32(p.Dport))
	if f.Sum != 0 {
		binary.BigEndian.PutUint16(chunk[f.Sum:], p.Sum)
	}
	return n
}

// Transmit implements link.Link.
func (r *Replay) Transmit(b []frame.Desc) int {
	for i := range b {
		r.pool.Put(b[i].Addr)
	}
	return len(b)
}

// Flush implements link.Link.
func (r *Replay) Flush() {}

// Wait implements link.Sleeper.
func (r *Replay) Wait(time.Duration) {}

// Wake implements link.Sleeper.
func (r *Replay) Wake() {}

// Pending implements link.Link.
func (r *Replay) Pending() bool { return false }
