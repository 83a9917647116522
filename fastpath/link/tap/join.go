package tap

import (
	"bytes"
	"encoding/binary"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet"
)

// What comes out of a tunnel or from a veth are segments of a connection, one behind
// the other. A network card's driver would merge them before the pod's stack sees them
// (GRO), which spares the stack most of its work, and us most system calls. So do we:
// segments that follow each other in what is to be sent become one packet, as their
// sender had it before it was cut.

// most is how many segments are joined at most: 64 KiB of those of an Ethernet.
const most = 64

// largest is the length of the largest IP packet.
const largest = 1<<16 - 1

// joined is what segments have become.
type joined struct {
	info    packet.Info
	payload int // where it begins in each frame
	size    int // of each segment's payload, bytes; the last may have less
}

func (j *joined) offload() frame.Offload {
	return frame.NewOffload(false, uint16(j.info.L4), uint16(j.size))
}

// join joins the first frames of b, none of which goes on in a second buffer or is
// unfinished, and returns how many. The first one's headers become those of all; s.joined
// says what is in them. What has a wrong checksum is left alone: its receiver shall see.
func (s *Set) join(b []frame.Desc) int {
	first, j := s.memory.Bytes(b[0]), &s.joined
	if len(b) < 2 || b[1].Options != 0 || !j.begin(first) {
		return 1
	}
	n, total := 1, j.size
	for ; n < len(b) && n < most && b[n].Options == 0 && first[j.info.L4+13]&packet.PSH == 0; n++ {
		f := s.memory.Bytes(b[n])
		size := len(f) - j.payload
		if size < 1 || size > j.size || j.payload-j.info.L3+total+size > largest || !j.follows(first, f, total) {
			break
		}
		in := j.info
		if in.Len = len(f) - in.L3; n == 1 && !packet.ChecksumOK(first, &j.info) || !packet.ChecksumOK(f, &in) {
			break
		}
		first[in.L4+13] |= f[in.L4+13] // PSH, which ends it
		if total += size; size < j.size {
			n++
			break
		}
	}
	if n > 1 {
		packet.PutSegment(first, &j.info, packet.Segment{Len: total, Last: true})
		packet.LeaveChecksum(first, &j.info)
	}
	return n
}

// begin reports whether a frame is a TCP segment that others may follow.
func (j *joined) begin(f []byte) bool {
	in := &j.info
	if len(f) < packet.EthernetLen {
		return false
	}
	switch packet.EtherType(f) {
	case packet.TypeIPv4, packet.TypeIPv6:
	default:
		return false
	}
	if packet.ParseIP(f, packet.EthernetLen, len(f)-packet.EthernetLen, in) != packet.FaultNone || in.Tuple.Proto != packet.ProtoTCP {
		return false
	}
	length := packet.IPv4Len
	if in.V6 {
		length = packet.IPv6Len
	}
	at, ok := packet.PayloadAt(f, in)
	j.payload, j.size = at, len(f)-at
	// Without DF the identification says something; there are no options, and no padding.
	return ok && in.DF && in.L4 == in.L3+length && in.L3+in.Len == len(f) && j.size > 0 && in.TCPFlags&^packet.PSH == packet.ACK
}

// follows reports whether f is what comes after the first total bytes of payload, with
// headers that differ from the first one's in nothing that is said for each segment.
func (j *joined) follows(first, f []byte, total int) bool {
	l3, l4 := j.info.L3, j.info.L4
	length, skip := l3+2, 4 // IPv4: total length and identification, and then the checksum
	if j.info.V6 {
		length, skip = l3+4, 2
	}
	want := len(f) - l3
	if j.info.V6 {
		want -= packet.IPv6Len
	}
	from := length + skip
	return int(binary.BigEndian.Uint16(f[length:])) == want &&
		binary.BigEndian.Uint32(f[l4+4:]) == binary.BigEndian.Uint32(first[l4+4:])+uint32(total) &&
		f[l4+13]&^packet.PSH == packet.ACK &&
		bytes.Equal(f[:length], first[:length]) &&
		(j.info.V6 && bytes.Equal(f[from:l4], first[from:l4]) ||
			!j.info.V6 && bytes.Equal(f[from:l3+10], first[from:l3+10]) && bytes.Equal(f[l3+12:l4], first[l3+12:l4])) &&
		bytes.Equal(f[l4:l4+4], first[l4:l4+4]) && // ports
		bytes.Equal(f[l4+8:l4+13], first[l4+8:l4+13]) && // acknowledgment, length of the header
		bytes.Equal(f[l4+20:j.payload], first[l4+20:j.payload]) // options
}
