package flow

import "github.com/vragent/vragent/fastpath/packet"

// rank says how dispensable an entry is.
type rank uint8

const (
	rankDead      rank = iota // connection over, packets refused or nothing decided
	rankEmbryonic             // TCP without a complete handshake
	rankStateless             // not TCP
	rankKeep                  // TCP that was established; an empty cell
)

func (e *Entry) rank() rank {
	switch {
	case e.Used == slotEmpty:
		return rankKeep
	case e.Action == ActionNone || e.Action == ActionDrop:
		return rankDead
	case e.Proto != packet.ProtoTCP:
		return rankStateless
	case e.TCP.Over():
		return rankDead
	case e.TCP&(EST|ESTr) != EST|ESTr:
		return rankEmbryonic
	}
	return rankKeep
}

// Begun says that an entry is of no TCP connection whose handshake is not complete.
func (e *Entry) Begun() bool { return e.Proto != packet.ProtoTCP || e.TCP&(EST|ESTr) == EST|ESTr }
