package forward

import "github.com/vragent/vragent/fastpath/flow"

// TCP header flags (RFC 9293).
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// tcp moves the state of a pair: what a packet of this direction shows is plain in
// its own entry and reversed (r) in the other's. Nothing is sent to another
// worker unless the state changed, which is a handful of times in a connection.
func (w *Worker) tcp(slot uint32, e *flow.Entry, flags uint8) {
	next := nextTCP(e.TCP, flags)
	if next == e.TCP {
		return
	}
	e.TCP = next
	w.mirrorTCP(slot, e)
}

// nextTCP is the state of a direction after one of its packets.
func nextTCP(s flow.TCPState, flags uint8) flow.TCPState {
	switch {
	case flags&tcpRST != 0:
		return s | flow.RST | flow.DEAD
	case flags&tcpSYN != 0:
		if s&flow.DEAD != 0 { // the tuple is used again
			s = 0
		}
		return s | flow.SYN
	}
	if flags&tcpACK != 0 && s&(flow.SYN|flow.SYNr) == flow.SYN|flow.SYNr {
		s |= flow.EST
	}
	if flags&tcpFIN != 0 {
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

// firstTCP is the state after the packet that created the entry.
func firstTCP(flags uint8) flow.TCPState {
	if flags&tcpSYN != 0 {
		return flow.SYN
	}
	return nextTCP(midstream, flags)
}
