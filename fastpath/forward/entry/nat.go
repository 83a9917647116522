// Package entry is what can be said of a flow entry by itself: what it makes of a
// packet, how its connection stands, how long it may be idle, which backend it is
// pinned to. It owns nothing: the worker owns the entries it is given. It does not
// look at tables, nor at other entries.
package entry

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
)

// Letters compares a tuple before and after translation.
func Letters(from, to *packet.Tuple) flow.NAT {
	var n flow.NAT
	if from.Src != to.Src {
		n |= flow.NATSource
	}
	if from.Sport != to.Sport {
		n |= flow.NATSport
	}
	if from.Dst != to.Dst {
		n |= flow.NATDest
	}
	if from.Dport != to.Dport {
		n |= flow.NATDport
	}
	return n
}

// Translate sets what the packets of e become, and the letters that say so.
func Translate(e *flow.Record, to *packet.Tuple) {
	e.NatSrc, e.NatDst, e.NatSport, e.NatDport = to.Src, to.Dst, to.Sport, to.Dport
	e.Action = flow.ActionForward
	from := e.Key().Tuple
	if e.NAT = Letters(&from, to); e.NAT != 0 {
		e.Action = flow.ActionNAT
	}
}

// NextPort translates the source port to the next candidate of the dynamic range
// (RFC 6335): an odd stride visits every port once.
func NextPort(e *flow.Record) {
	to := e.Translated()
	if e.NAT&flow.NATSport == 0 {
		to.Sport = uint16(to.Hash())
	}
	to.Sport = 0xC000 | (to.Sport+7919)&0x3fff
	Translate(e, &to)
}

// Reversed is the tuple of the packets that answer those of e.
func Reversed(e *flow.Record) packet.Tuple { return e.Key().Tuple.Reverse() }
