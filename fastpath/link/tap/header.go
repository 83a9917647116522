package tap

import (
	"encoding/binary"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
)

// headerLen is the length of struct virtio_net_hdr in bytes, which stands before every
// frame of a tap (virtio 1.2, 5.1.6), in the host's byte order:
//
//	flags 1, GSO type 1, header length 2, GSO size 2, checksum start 2, checksum offset 2
const headerLen = 10

// Values of flags and GSO type.
const (
	needsChecksum = 1
	gsoNone       = 0
	gsoTCP4       = 1
	gsoTCP6       = 4
	gsoUDP        = 5 // USO, either family
)

// Where checksums lie in their headers, bytes: the way to tell TCP from UDP.
const (
	tcpChecksum = 16
	udpChecksum = 6
)

// readHeader says what the pod's kernel left for us to do, and whether the rest of
// the user plane can be told. If it cannot, the checksum is to be finished here, over
// the frame from start on; its place is at.
func readHeader(h []byte) (o frame.Offload, start, at int, ok bool) {
	_ = h[headerLen-1]
	if h[0]&needsChecksum == 0 {
		return 0, 0, 0, h[1] == gsoNone
	}
	size := binary.NativeEndian.Uint16(h[4:])
	first := binary.NativeEndian.Uint16(h[6:])
	offset := int(binary.NativeEndian.Uint16(h[8:]))
	start, at = int(first), int(first)+offset
	switch {
	case first > frame.OffloadStartMax, offset != tcpChecksum && offset != udpChecksum:
		return 0, start, at, false
	case h[1] == gsoNone:
		size = 0
	case size == 0:
		return 0, start, at, false
	}
	return frame.NewOffload(offset == udpChecksum, first, size), start, at, true
}

// putHeader tells the pod's kernel what we left for it. b is the frame's first part,
// with all headers.
func putHeader(h []byte, o frame.Offload, b []byte) {
	clear(h[:headerLen])
	if !o.Partial() {
		return
	}
	start := o.Start()
	h[0] = needsChecksum
	offset, length := tcpChecksum, packet.TCPLen
	switch v6 := packet.EtherType(b) == packet.TypeIPv6; {
	case o.UDP():
		h[1], offset, length = gsoUDP, udpChecksum, packet.UDPLen
	case v6:
		h[1] = gsoTCP6
	default:
		h[1] = gsoTCP4
	}
	if !o.UDP() && start+12 < len(b) {
		length = int(b[start+12]>>4) * 4
	}
	if o.Size() == 0 {
		h[1] = gsoNone
	}
	binary.NativeEndian.PutUint16(h[2:], uint16(start+length))
	binary.NativeEndian.PutUint16(h[4:], uint16(o.Size()))
	binary.NativeEndian.PutUint16(h[6:], uint16(start))
	binary.NativeEndian.PutUint16(h[8:], uint16(offset))
}
