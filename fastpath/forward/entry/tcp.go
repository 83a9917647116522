package entry

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
)

// NextTCP is the state of a direction after one of its packets. What the packet shows
// is plain in its own entry and reversed (r) in the other's.
func NextTCP(s flow.TCPState, flags uint8) flow.TCPState {
	switch {
	case flags&packet.RST != 0:
		return s | flow.RST | flow.DEAD
	case flags&packet.SYN != 0:
		if s&flow.DEAD != 0 { // the tuple is used again
			s = 0
		}
		return s | flow.SYN
	}
	if flags&packet.ACK != 0 && s&(flow.SYN|flow.SYNr) == flow.SYN|flow.SYNr {
		s |= flow.EST
	}
	if flags&packet.FIN != 0 {
		s |= flow.FIN
	}
	return closing(s)
}

// closing names half-closed and closed connections.
func closing(s flow.TCPState) flow.TCPState {
	switch s & (flow.FIN | flow.FINr) {
	case flow.FIN | flow.FINr:
		return s&^flow.HALF | flow.DEAD
	case 0:
		return s
	default:
		return s | flow.HALF
	}
}

// midstream is the state of a connection whose beginning nobody saw here.
const midstream = flow.SYN | flow.SYNr | flow.EST

// FirstTCP is the state after the packet that created the entry.
func FirstTCP(flags uint8) flow.TCPState {
	if flags&packet.SYN != 0 {
		return flow.SYN
	}
	return NextTCP(midstream, flags)
}

// MergeTCP joins what two workers saw of one connection, both from the point of view
// of the first. A fresh SYN on a dead one starts over.
func MergeTCP(have, said flow.TCPState) flow.TCPState {
	if have&flow.DEAD != 0 && said == flow.SYNr {
		return said
	}
	return closing(have | said)
}
