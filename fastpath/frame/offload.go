package frame

// Offload is what the sender of a packet left for its network card to do. It travels
// in Options of the packet's first descriptor, beside Contd:
//
//	bits 31..16  GSO size: payload bytes of each segment the packet is to be cut into; 0: it is one
//	bits 15..4   where the L4 header begins, bytes from the first of the frame
//	bit  3       what does not fit the first chunk lies in a large buffer
//	bit  2       the protocol is UDP, else TCP
//	bit  1       the L4 checksum is unfinished, always so with a GSO size
//
// The zero value is a packet as it goes on a wire. What the kernel shares with us in
// Options (XDP_TX_METADATA is bit 1 too) never meets these bits: package xsk passes
// on none but Contd.
type Offload uint32

const (
	offloadPartial = 1 << 1
	offloadUDP     = 1 << 2
	// OffloadLarge is the bit of packets that lie in a large buffer.
	OffloadLarge Offload = 1 << 3

	offloadStart = 4
	offloadSize  = 16

	// OffloadStartMax is the last place of an L4 header that can be said.
	OffloadStartMax = 1<<(offloadSize-offloadStart) - 1
)

// NewOffload says that the checksum is unfinished, and the packet to be cut into
// segments of size bytes, or not (0). start is at most OffloadStartMax.
func NewOffload(udp bool, start, size uint16) Offload {
	o := Offload(offloadPartial | uint32(start)<<offloadStart | uint32(size)<<offloadSize)
	if udp {
		o |= offloadUDP
	}
	return o
}

// OffloadOf returns what the options of a first descriptor say.
func OffloadOf(options uint32) Offload { return Offload(options &^ Contd) }

// Options returns o as options of a packet's first descriptor.
func (o Offload) Options() uint32 { return uint32(o) }

// Partial reports whether the L4 checksum is unfinished.
func (o Offload) Partial() bool { return o&offloadPartial != 0 }

// UDP reports whether the protocol is UDP, else it is TCP.
func (o Offload) UDP() bool { return o&offloadUDP != 0 }

// Start is where the L4 header begins, bytes from the first of the frame.
func (o Offload) Start() int { return int(o >> offloadStart & OffloadStartMax) }

// Size is the payload of each segment in bytes; 0: the packet is not to be cut.
func (o Offload) Size() int { return int(o >> offloadSize) }
