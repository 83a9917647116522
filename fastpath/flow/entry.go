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

// Values of Entry.Used.
const (
	slotEmpty uint8 = 0
	slotUsed  uint8 = 1
)

// Entry is what every packet of one direction needs: a cache line, no pointers. It
// stays where it is in the Table, which knows the rest: Key, Translated, Cold. It has
// more fields than a struct should: it is the layout of shared memory.
type Entry struct {
	// Key. Written by Insert alone.
	ends         uint64 // IPv4: both addresses; IPv6: a hash of those that follow in the cell
	KeyNH        uint32
	Sport, Dport uint16
	Proto        uint8
	Used         uint8 // slotEmpty, slotUsed

	// Decision. Written by the worker.
	Action Action
	reach  uint8 // of the home that this cell is, whoever is in it; see Table
	NAT    NAT
	Flags  Flags
	TCP    TCPState

	// After translation, equal to the key's when nothing is translated.
	natEnds            uint64 // IPv4 only
	natSport, natDport uint16
	NH                 uint32 // next hop that packets leave by
	LabelECMP          uint32 // label to push and member chosen; see PackLabelECMP
	LastSeen           uint32 // ticks
	View               uint32 // the worker's number of the tables under which the decision was last found to hold; 0: none
	packets            uint32 // the lower half; see Table.Packets
	Bytes              uint64
}

// wide are the addresses of an IPv6 entry, in the line behind it.
type wide struct{ src, dst, natSrc, natDst packet.Addr }

// Cold is what only a change needs: of the tables, of a connection's state, of the
// pair.
type Cold struct {
	Reverse uint32 // Index of the other direction's entry, or NoReverse
	Scope   uint32 // next hop under whose generation the flow was decided
	Gen     uint32 // that generation
	VRF     uint32 // routing instance of the source
	Holder  uint32 // next hop for which the pair counts: that of the forward entry's key
	packets uint16 // bits 32 to 47
	Reason  uint8  // of ActionDrop; package forward names them
	Life    uint8  // of the slot: another one in each conversation that has it
}

// Label returns the label to push, 0: none.
func (e *Entry) Label() table.Label { return table.Label(e.LabelECMP >> memberBits) }

const (
	memberBits = 12
	// noMember is the member position of a flow that did not choose one.
	noMember = 1<<memberBits - 1
)

// PackLabelECMP makes a LabelECMP of a label and a member position (-1: none).
func PackLabelECMP(label table.Label, member int) uint32 {
	if member < 0 || member >= noMember {
		member = noMember
	}
	return uint32(label)<<memberBits | uint32(member)
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
	FlagForward   Flags = 1 << iota // the direction the first packet took
	FlagSplit                       // the reverse entry is in another worker's table
	FlagHairpin                     // a pod reaches itself through a VIP
	FlagPending                     // the reverse entry is on its way to its owner
	FlagBulk                        // to be given to the kernel with its next packet
	FlagOffloaded                   // given to the kernel, or ordered to be
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
