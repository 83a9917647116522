// Package frame is the memory packets live in while they are ours: equal
// chunks, and descriptors that say where in a chunk a packet lies. Each worker
// owns one Pool of free chunks; the memory itself belongs to whoever mapped it.
// It does not know what a packet is, nor any ring of the kernel.
package frame

const (
	// ChunkSize is in bytes. A page: the largest the kernel takes, and the least
	// descriptors for a jumbo packet.
	ChunkSize = 4096

	// LargeSize is the size in bytes of the few buffers that hold what does not fit
	// the first chunk of a packet of 64 KiB, in one piece: a packet that a network
	// card is to cut comes whole.
	LargeSize = 64 << 10

	// Headroom is the number of bytes the kernel leaves free in front of every
	// received packet, and of each further chunk of it (XDP_PACKET_HEADROOM).
	Headroom = 256

	// MaxRun is the largest number of descriptors of one packet that the kernel
	// sends (MAX_SKB_FRAGS + 1). A packet of 64 KiB is received in as many.
	MaxRun = 18

	// Contd in Desc.Options: the packet goes on in the next descriptor.
	Contd = 1
)

// Desc says where a packet, or a part of one, lies. Layout of struct xdp_desc
// (if_xdp.h).
type Desc struct {
	Addr    uint64 // of the first byte, from the start of the memory
	Len     uint32 // bytes
	Options uint32
}

// Memory is all chunks of all workers.
type Memory []byte

// Bytes returns what d describes. Its capacity ends with the chunk, or with the
// bytes in a large buffer.
func (m Memory) Bytes(d Desc) []byte {
	end := max(Base(d.Addr)+ChunkSize, d.Addr+uint64(d.Len))
	return m[d.Addr : d.Addr+uint64(d.Len) : end]
}

// Chunk returns the whole chunk that contains addr.
func (m Memory) Chunk(addr uint64) []byte {
	b := Base(addr)
	return m[b : b+ChunkSize : b+ChunkSize]
}

// Base returns the address of the first byte of the chunk that contains addr.
func Base(addr uint64) uint64 { return addr &^ (ChunkSize - 1) }
