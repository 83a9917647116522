// Package card does the work of a network card for packets that leave where there is
// none: it cuts them into segments and finishes checksums. A Cutter belongs to one
// worker. It neither decides where a packet goes nor sends it.
package card

import (
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
)

// MaxChunks bounds a packet's buffers: 6 of 3,840 bytes carry a jumbo frame.
const MaxChunks = 6

// maxSegments of one packet: as many as Linux's TCP cuts 64 KiB into at most (TCP_MIN_GSO_SIZE
// is 48 bytes). Who asks for more only wants others to wait.
const maxSegments = 1366

// Where the IP packet of a segment begins in its buffer: behind room for the kernel's
// headroom and for our outer headers.
const room = frame.Headroom + 64 // bytes

// Believe holds what a card is asked against the headers of the packet that begins at
// b[off:] (Ethernet). It returns what is left to ask: nothing where the checksum was
// another's than the packet's own (of a packet inside of it, say), and is finished now.
// ok is false for what cannot be.
func Believe(b []byte, off int, tails [][]byte, o frame.Offload, in *packet.Info) (left frame.Offload, ok bool) {
	start, proto, at := off+o.Start(), packet.ProtoTCP, 16
	if o.UDP() {
		proto, at = packet.ProtoUDP, 6
	}
	switch {
	case !o.Partial():
		return o, true
	case in.L4 == start && in.Tuple.Proto == proto && in.Frag == packet.FragNone:
		at, fits := packet.PayloadAt(b, in)
		few := o.Size() == 0 || in.L3+in.Len-at <= maxSegments*o.Size()
		in.Partial = fits && few && at-in.L3 <= frame.ChunkSize-room // each segment's first chunk holds all headers
		return o, in.Partial
	case o.Size() != 0, start < in.L3, start+at+2 > len(b):
		return 0, false
	}
	packet.FinishChecksum(b, start, start+at, tails...)
	return o & frame.OffloadLarge, true
}

// FinishInner completes the checksum of the packet in a tunnel, which begins at b[off:]
// (Ethernet) and goes on in tails, if its sender has left that to a card.
func FinishInner(b []byte, off int, tails [][]byte) {
	total := len(b) - off
	for _, t := range tails {
		total += len(t)
	}
	var outer packet.Tunnel
	var in packet.Info
	if packet.ParseTunnel(b[off:], total, &outer) != packet.FaultNone ||
		packet.ParseIP(b, off+outer.Inner, outer.Len, &in) != packet.FaultNone || !packet.Unfinished(b, &in) {
		return
	}
	left := in.L3 + in.Len - len(b) // what is behind is padding
	if left < 0 {
		b = b[:len(b)+left]
	}
	for i, t := range tails {
		tails[i] = t[:max(0, min(left, len(t)))]
		left -= len(t)
	}
	packet.PutChecksum(b, &in, tails...)
}

// Largest is the length of the largest packet that comes out of the one in b, bytes.
func Largest(b []byte, o frame.Offload, in *packet.Info) int {
	if o.Size() == 0 {
		return in.Len
	}
	at, _ := packet.PayloadAt(b, in)
	return min(in.Len, at-in.L3+o.Size())
}

// Cutter cuts one packet at a time.
type Cutter struct {
	// Set once by its worker.
	Memory frame.Memory
	Pool   *frame.Pool

	// Set by Begin.
	info    packet.Info
	offload frame.Offload
	header  []byte            // that each segment has
	pieces  [MaxChunks][]byte // of the payload, in order; less what was cut off
	step    int               // bytes of payload in each but the last
	length  int               // of the payload, bytes

	// Moved on by Next.
	index, off, piece int
}

// Segment is what is cut off: whole IP packets in buffers of their own.
type Segment struct {
	Info  packet.Info
	First frame.Desc // of the IP packet, without an Ethernet header
	Tail  [MaxChunks - 1]frame.Desc
	Tails int
}

// Begin takes the packet in b and tails, which believes o (see Believe) and has no
// padding. A packet that is not to be cut comes out as one, in chunks.
func (c *Cutter) Begin(b []byte, tails []frame.Desc, o frame.Offload, in *packet.Info) {
	at := in.L3
	c.step = in.Len
	if o.Size() != 0 {
		at, _ = packet.PayloadAt(b, in)
		c.step = o.Size()
	}
	c.info, c.offload, c.header, c.length = *in, o, b[in.L3:at], in.L3+in.Len-at
	c.pieces[0] = b[at:]
	for i, t := range tails {
		c.pieces[1+i] = c.Memory.Bytes(t)
	}
	clear(c.pieces[1+len(tails):])
	c.index, c.off, c.piece = 0, 0, 0
}

// More says that Next has another segment.
func (c *Cutter) More() bool { return c.off < c.length || c.index == 0 }

// Chunks is how many chunks the next segment takes at most.
func (c *Cutter) Chunks() int { return min(chunks(len(c.header)+c.step), MaxChunks) }

// chunks is how many hold a packet of n bytes.
func chunks(n int) int { return 1 + (room+n-1)/frame.ChunkSize }

// Next cuts off a segment. Where it cannot, it has taken no buffers.
func (c *Cutter) Next(s *Segment) reason.Reason {
	n := min(c.step, c.length-c.off)
	s.Info = c.info
	s.Info.L3, s.Info.L4, s.Info.Partial = room, c.info.L4+room-c.info.L3, false
	if r := c.fill(s, n); r != reason.None {
		return r
	}
	b := c.Memory.Chunk(s.First.Addr)[:room+s.First.Len]
	if c.offload.Size() != 0 {
		packet.PutSegment(b, &s.Info, packet.Segment{Index: c.index, Off: c.off, Len: n, Last: c.off+n == c.length})
	}
	if c.offload.Partial() {
		var tails [MaxChunks - 1][]byte
		for i, t := range s.Tail[:s.Tails] {
			tails[i] = c.Memory.Bytes(t)
		}
		packet.PutChecksum(b, &s.Info, tails[:s.Tails]...)
	}
	c.index, c.off = c.index+1, c.off+n
	return reason.None
}

// fill puts the header and the next n bytes of payload into chunks.
func (c *Cutter) fill(s *Segment, n int) reason.Reason {
	want := chunks(len(c.header) + n)
	if want > MaxChunks {
		return reason.TooManyChunks
	}
	if c.Pool.Len() < want {
		return reason.NoBuffer
	}
	addr, _ := c.Pool.Get()
	b := c.Memory.Chunk(addr)
	at := room + copy(b[room:], c.header)
	k := min(n, len(b)-at)
	c.read(b[at : at+k])
	s.First, s.Tails = frame.Desc{Addr: addr + room, Len: uint32(at - room + k)}, 0
	for n -= k; n > 0; n -= k {
		addr, _ := c.Pool.Get()
		k = min(n, frame.ChunkSize)
		s.Tail[s.Tails] = frame.Desc{Addr: addr, Len: uint32(k)}
		c.read(c.Memory.Bytes(s.Tail[s.Tails]))
		s.Tails++
	}
	return reason.None
}

// read fills b with the next bytes of payload. There are enough.
func (c *Cutter) read(b []byte) {
	for {
		k := copy(b, c.pieces[c.piece])
		c.pieces[c.piece] = c.pieces[c.piece][k:]
		if b = b[k:]; len(b) == 0 {
			return
		}
		c.piece++
	}
}
