// Package train tells the kernel where a run of TCP segments ends that one worker sends in
// one turn, so that it joins them (GRO) and has no reason to wait for more: the last gets
// PSH. A Train belongs to one link of one worker. It neither sends nor orders packets.
package train

import (
	"encoding/binary"

	"github.com/vragent/vragent/fastpath/packet"
)

// Train is the segments of one connection that follow each other. The zero Train is ready.
type Train struct {
	last packet.Tuple
	next uint32 // the sequence number that would go on
	l4   []byte // of the last segment; nil: none that the kernel might keep
}

// Add is for the packet that begins in b, about to be sent behind all others: in is what
// it is now. What is no segment ends the train.
func (t *Train) Add(b []byte, in *packet.Info) {
	at, ok := packet.PayloadAt(b, in)
	size := in.L3 + in.Len - at
	if !ok || in.Tuple.Proto != packet.ProtoTCP || size == 0 {
		t.End()
		return
	}
	l4 := b[in.L4:]
	seq := binary.BigEndian.Uint32(l4[4:])
	if seq != t.next || in.Tuple != t.last {
		t.End()
	}
	t.l4, t.last, t.next = l4, in.Tuple, seq+uint32(size)
	if in.TCPFlags&(packet.PSH|packet.FIN|packet.SYN|packet.RST|packet.URG) != 0 {
		t.l4 = nil // the kernel does not wait for more
	}
}

// End is the end of the train: the link is about to send it, or something else goes first.
func (t *Train) End() {
	if t.l4 != nil {
		packet.Push(t.l4)
		t.l4 = nil
	}
}
