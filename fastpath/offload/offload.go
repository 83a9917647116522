// Package offload is what the user plane and the kernel's flow cache say to each
// other: flows, next hops, counters, and the slots through which a flow changes
// hands. Pure types: the cache itself is of package steer, and who is admitted to it is
// decided by package forward. It holds no state and does no I/O.
package offload

import (
	"errors"
	"fmt"

	"github.com/vragent/vragent/fastpath/packet"
)

// FromLabel makes a label a From: bit 31. Vif ids are below it.
const FromLabel = 1 << 31

// Limits of the cache.
const (
	// MaxScope bounds the ids of next hops whose generation the cache knows (MAX_SCOPES
	// in cache.h). Flows decided under a higher one stay in the user plane.
	MaxScope = 1 << 17
	// MaxNextHops is how many next hops may be set at one time (MAX_NEXT_HOPS).
	MaxNextHops = 1 << 14
	// MaxPeers is how many tunnel sources may be set (MAX_PEERS).
	MaxPeers = 1 << 14
	// MaxSlots is how many flows may change hands at one time (MAX_SLOTS).
	MaxSlots = 1 << 12
)

// Why the cache refuses a flow or a next hop. The user plane forwards it as before.
var (
	ErrFull        = errors.New("the kernel's flow cache is full")
	ErrNextHop     = errors.New("the kernel's flow cache does not know the next hop")
	ErrUnsupported = errors.New("the kernel cannot forward this flow")
)

// Key is one direction of a conversation as the kernel sees it: at most one user
// plane entry has it.
type Key struct {
	From         uint32 // id of the receiving pod's or host's vif, or FromLabel | label
	packet.Tuple        // TCP or UDP, as received
}

// String prints "vif 7 192.0.2.1:1000 > 192.0.2.2:53 UDP".
func (k Key) String() string {
	if k.From&FromLabel != 0 {
		return fmt.Sprintf("label %d %v", k.From&^FromLabel, k.Tuple)
	}
	return fmt.Sprintf("vif %d %v", k.From, k.Tuple)
}

// Flow is what the kernel is to do with the packets of a Key.
type Flow struct {
	Key
	To      packet.Tuple // after translation; Key.Tuple when nothing is translated
	NH      uint32       // a next hop that was set
	Push    uint32       // label; of tunnels only
	Entropy uint16       // outer UDP source port; of tunnels only
	// The kernel obeys while the generation of Scope is Gen; then packets go up again.
	Scope, Gen uint32
	Index      uint32 // of the user plane's entry, for readoption
	// Handover is the Slot that packets under way are counted in, Turn its turn. None (0):
	// nothing is under way, the kernel begins at once; then only Delete ends it, or
	// whoever begins another connection.
	Handover, Turn uint16
}

// Stats is what the kernel forwarded of a flow, since Put made it. When it did so last, who
// reads them twice knows.
type Stats struct {
	Packets uint64 // as they were on a wire: the segments of a large one, not one
	Bytes   uint64 // of IP packets as received, headers of every segment included
}

// Record is one flow of the cache as it stands. Flow.Handover is 0 once the kernel
// forwards.
type Record struct {
	Flow
	Stats
}

// Kind says how a next hop is reached.
type Kind uint8

const (
	Pod    Kind = iota + 1 // the other end of the veth Ifindex, in another network namespace
	Host                   // out of Ifindex
	Tunnel                 // encapsulated, out of Ifindex
)

// Encap is the encapsulation of a tunnel.
type Encap uint8

const (
	UDP Encap = iota // MPLS over UDP, RFC 7510
	GRE              // MPLS over GRE, RFC 4023
)

// NextHop is where flows leave. Changing one reaches all its flows at once.
type NextHop struct {
	ID       uint32
	Kind     Kind
	Encap    Encap // of a Tunnel
	Ifindex  uint32
	Eth      [14]byte // Ethernet header; its type is set to the packet's
	Src, Dst [4]byte  // of a Tunnel: outer addresses
	MTU      int      // bytes, IP packet as it leaves, outer header included
}
