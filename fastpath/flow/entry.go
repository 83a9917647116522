// Package flow remembers conversations: one Table of entries, one entry per
// direction. One worker owns one Table and alone writes to it; its memory may
// outlive the process. It does not decide policy, follow TCP or read the clock.
package flow

import (
	"strings"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Key identifies one direction of a conversation.
type Key struct {
	// KeyNH is the next hop of the receiving vif, or of the label for packets
	// from the fabric.
	KeyNH uint32
	packet.Tuple
}

// NoReverse is the Reverse of an entry that has none.
const NoReverse = ^uint32(0)

// Values of Entry.Used. 2 is a tombstone in other layouts; this one has none.
const (
	slotEmpty uint8 = 0
	slotUsed  uint8 = 1
)

// Entry is one direction of a conversation: 128 bytes, two cache lines, no
// pointers. The first line decides what happens to a packet, the second holds
// the rewrite. It has more fields than a struct should: it is the layout of
// shared memory.
type Entry struct {
	// Key. Written by Insert alone.
	Src, Dst     packet.Addr
	KeyNH        uint32
	Sport, Dport uint16
	Proto        uint8
	Used         uint8 // slotEmpty, slotUsed

	// Decision. Written by the worker.
	Action    Action
	Reason    uint8 // of ActionDrop; package forward names them
	NAT       NAT
	Flags     Flags
	TCP       TCPState
	Reverse   uint32 // Index of the other direction's entry, or NoReverse
	NH        uint32 // next hop that packets leave by
	LabelECMP uint32 // label to push and member chosen; see PackLabelECMP
	LastSeen  uint32 // ticks

	// The complete tuple after translation, equal to the key's when nothing is translated.
	NatSrc, NatDst     packet.Addr
	NatSport, NatDport uint16
	Scope              uint32 // next hop under whose generation the flow was decided
	Gen                uint32 // that generation
	VRF                uint32 // routing instance of the source
	Packets, Bytes     uint64
}

// Key returns the entry's key.
func (e *Entry) Key() Key {
	return Key{e.KeyNH, packet.Tuple{Src: e.Src, Dst: e.Dst, Sport: e.Sport, Dport: e.Dport, Proto: e.Proto}}
}

// Translated returns the packet's tuple after translation.
func (e *Entry) Translated() packet.Tuple {
	return packet.Tuple{Src: e.NatSrc, Dst: e.NatDst, Sport: e.NatSport, Dport: e.NatDport, Proto: e.Proto}
}

// noMember is the member position of a flow that did not choose one.
const noMember = 0xfff

// PackLabelECMP makes a LabelECMP of a label and a member position (-1: none).
func PackLabelECMP(label table.Label, member int) uint32 {
	if member < 0 || member >= noMember {
		member = noMember
	}
	return uint32(label)<<12 | uint32(member)
}

// Label returns the label to push, 0: none.
func (e *Entry) Label() table.Label { return table.Label(e.LabelECMP >> 12) }

// Member returns the position of the chosen ECMP member, -1: none.
func (e *Entry) Member() int {
	if m := int(e.LabelECMP & noMember); m != noMember {
		return m
	}
	return -1
}

// Action says what happens to the packets of a flow.
type Action uint8

// The zero Action is that of an entry nobody decided yet.
const (
	ActionNone Action = iota
	ActionForward
	ActionNAT
	ActionDrop
)

// String returns Contrail's letter.
func (a Action) String() string {
	switch a {
	case ActionForward:
		return "F"
	case ActionNAT:
		return "N"
	case ActionDrop:
		return "D"
	}
	return "U"
}

// NAT says which parts of the tuple are translated.
type NAT uint8

// In the order in which Contrail prints them.
const (
	NATSource NAT = 1 << iota
	NATSport
	NATDest
	NATDport
)

// String returns Contrail's letters: "DPd" is destination and destination port.
func (n NAT) String() string { return letters(uint(n), "S", "Ps", "D", "Pd") }

// Flags are facts about an entry.
type Flags uint8

const (
	FlagForward Flags = 1 << iota // the direction the first packet took
	FlagSplit                     // the reverse entry is in another worker's table
	FlagHairpin                   // a pod reaches itself through a VIP
	FlagLocal                     // delivered on this node
	FlagPending                   // the reverse entry is on its way to its owner
)

// TCPState says what both directions of a connection have shown. Both entries
// of a pair hold the same events, each from its own point of view: r is the
// other direction.
type TCPState uint16

// In the order in which Contrail prints them.
const (
	SYN TCPState = 1 << iota
	SYNr
	EST
	ESTr
	FIN
	FINr
	RST
	HALF // one direction is closed
	DEAD // both are, or it was reset: only waits to be removed
)

// String returns Contrail's letters: "SSrEEr" is a connection established both ways.
func (s TCPState) String() string {
	return letters(uint(s), "S", "Sr", "E", "Er", "F", "Fr", "R", "C", "D")
}

// letters joins the names of the bits set in v, lowest first.
func letters(v uint, names ...string) string {
	var b strings.Builder
	for i, name := range names {
		if v&(1<<i) != 0 {
			b.WriteString(name)
		}
	}
	return b.String()
}

// Reverse returns the state from the other direction's point of view.
func (s TCPState) Reverse() TCPState {
	const near, far = SYN | EST | FIN, SYNr | ESTr | FINr
	return s&^(near|far) | s&near<<1 | s&far>>1
}

// Established reports whether the handshake was completed both ways and the
// connection is not over.
func (s TCPState) Established() bool { return s&(EST|ESTr) == EST|ESTr && !s.Over() }

// Over reports whether nothing more is expected of the connection.
func (s TCPState) Over() bool { return s&(DEAD|RST) != 0 || s&(FIN|FINr) == FIN|FINr }
