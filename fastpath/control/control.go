// Package control is the contract between the fast path and those who drive
// it: the agent, which programs tables, and the CLI, which reads. Messages are
// JSON frames (package wire) on a Unix socket; the fast path is the server.
// Nothing here keeps state.
package control

import (
	"net/netip"
	"time"

	"github.com/vragent/vragent/fastpath/table"
)

// Version of the protocol. Peers with another major version are refused.
const Version = 1

// SocketName is the socket's file name in the run directory.
const SocketName = "fastpath.sock"

// Request is one call; exactly one field is set. Every request gets exactly one
// Reply, except Flows, which is answered by a stream of Replies whose last has
// Done set.
type Request struct {
	// Hello opens the agent's session and, the first time, the data plane.
	Hello *Hello `json:"hello,omitempty"`
	// Begin opens a replay: what is not upserted before InSync is swept.
	Begin  *Begin       `json:"begin,omitempty"`
	Delta  *table.Delta `json:"delta,omitempty"` // answered when published and, for vifs, attached
	InSync *InSync      `json:"inSync,omitempty"`

	// Reads, for everybody.
	Status    *Empty      `json:"status,omitempty"`
	Tables    *Empty      `json:"tables,omitempty"`
	Vifs      *Empty      `json:"vifs,omitempty"`
	Flows     *FlowQuery  `json:"flows,omitempty"`
	DropStats *Empty      `json:"dropStats,omitempty"`
	Trace     *TraceQuery `json:"trace,omitempty"`
}

// Empty carries nothing.
type Empty struct{}

// Hello is the agent's first message.
type Hello struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	// Punt link: workers attach to queue i of PuntInner; steering redirects
	// to PuntOuter. Both exist and have Workers queues.
	PuntOuter string `json:"puntOuter"` // punt0
	PuntInner string `json:"puntInner"` // punt1
}

// Begin opens a replay under a new epoch.
type Begin struct {
	Epoch uint64 `json:"epoch"`
}

// InSync closes the replay of the epoch.
type InSync struct {
	Epoch uint64 `json:"epoch"`
}

// Reply answers a Request. Error is a sentence; empty means success.
type Reply struct {
	Error string `json:"error,omitempty"`

	Hello     *HelloReply   `json:"hello,omitempty"`
	Status    *Status       `json:"status,omitempty"`
	Tables    *table.State  `json:"tables,omitempty"`
	Vifs      []VifStats    `json:"vifs,omitempty"`
	Flows     []Flow        `json:"flows,omitempty"`
	DropStats []DropCounter `json:"dropStats,omitempty"`
	Trace     *Trace        `json:"trace,omitempty"`
	Done      bool          `json:"done,omitempty"`
}

// HelloReply tells the agent what it adopted.
type HelloReply struct {
	Version int    `json:"version"`
	PID     int    `json:"pid"`
	Workers int    `json:"workers"`
	Epoch   uint64 `json:"epoch"` // of the last completed replay, 0: none
	// AdoptedFlows are the entries that a predecessor left and this process took over.
	AdoptedFlows int `json:"adoptedFlows"`
}

// States of a fast path.
const (
	StateWaiting = "waiting-for-agent" // no agent has said hello
	StateSyncing = "waiting-for-tables"
	StateRunning = "running"
)

// Status is the health of the fast path.
type Status struct {
	PID     int            `json:"pid"`
	Version string         `json:"version"` // of the program
	Node    string         `json:"node"`
	Started time.Time      `json:"started"`
	State   string         `json:"state"` // StateWaiting …
	Epoch   uint64         `json:"epoch"`
	Poll    string         `json:"poll"` // busy, adaptive
	Offload OffloadStatus  `json:"offload"`
	Workers []WorkerStatus `json:"workers"`
	Limits  []string       `json:"limits,omitempty"` // what this kernel cannot do, sentences
}

// OffloadStatus says what the kernel forwards for us. All counters are since the
// fast path's start.
type OffloadStatus struct {
	Mode     string `json:"mode"`     // off, auto, force
	Entries  int    `json:"entries"`  // flows in the kernel, each direction one
	Size     int    `json:"size"`     // at most; 0: this kernel keeps none
	Packets  uint64 `json:"packets"`  // forwarded by the kernel
	Bytes    uint64 `json:"bytes"`    // of them, IP headers included
	Put      uint64 `json:"put"`      // entries written
	Deleted  uint64 `json:"deleted"`  // entries removed
	Adopted  uint64 `json:"adopted"`  // entries a predecessor left and this process took over
	Refused  uint64 `json:"refused"`  // entries for which there was no room, or which the kernel did not take
	Vanished uint64 `json:"vanished"` // entries that were not in the kernel any more when looked for
	Lost     uint64 `json:"lost"`     // orders of workers that found the ring full; they come again
}

// WorkerStatus is one worker's counters. All counters are since its start.
type WorkerStatus struct {
	Worker      int    `json:"worker"`
	Core        int    `json:"core"` // -1: not pinned
	RxPackets   uint64 `json:"rxPackets"`
	RxBytes     uint64 `json:"rxBytes"`
	TxPackets   uint64 `json:"txPackets"`
	TxBytes     uint64 `json:"txBytes"`
	Drops       uint64 `json:"drops"`
	Handoffs    uint64 `json:"handoffs"` // frames handed to their owner
	Splits      uint64 `json:"splits"`   // NAT pairs whose reverse entry another worker owns
	Loops       uint64 `json:"loops"`
	Sleeps      uint64 `json:"sleeps"`
	Flows       int    `json:"flows"`       // entries in use
	FlowSize    int    `json:"flowSize"`    // entries at most
	FreeFrames  int    `json:"freeFrames"`  // packet buffers
	LastAliveMS int64  `json:"lastAliveMS"` // milliseconds since the loop last turned
}

// VifStats is a vif with its counters.
type VifStats struct {
	table.Vif
	RxPackets uint64 `json:"rxPackets"` // from the interface
	RxBytes   uint64 `json:"rxBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxBytes   uint64 `json:"txBytes"`
	Drops     uint64 `json:"drops"` // packets received from it that were dropped
	Flows     int    `json:"flows"` // forward entries it owns
	// Attached says that steering serves the device: it exists, and its frames
	// come to the workers.
	Attached bool `json:"attached"`
}

// FlowQuery selects flows. Zero values match everything.
type FlowQuery struct {
	Index *uint32        `json:"index,omitempty"` // one entry
	A     netip.AddrPort `json:"a,omitzero"`      // one end, before or after NAT; unspecified address or port 0: any
	B     netip.AddrPort `json:"b,omitzero"`      // the other end
	Proto uint8          `json:"proto,omitempty"`
	VRF   table.VRFID    `json:"vrf,omitempty"`
	Limit int            `json:"limit,omitempty"` // 0: all
}

// Flow is one entry of a flow table: one direction of a conversation.
type Flow struct {
	Index   uint32          `json:"index"`
	Reverse uint32          `json:"reverse"` // NoIndex: none
	Forward bool            `json:"forward"` // the direction the first packet took
	KeyNH   table.NextHopID `json:"keyNH"`
	Src     netip.AddrPort  `json:"src"`
	Dst     netip.AddrPort  `json:"dst"`
	Proto   uint8           `json:"proto"`
	VRF     table.VRFID     `json:"vrf"`
	Action  string          `json:"action"` // F, N, D
	NAT     string          `json:"nat,omitempty"`
	Reason  string          `json:"reason,omitempty"` // of D
	// TCP is the state in Contrail's letters: SSrEEr; r is the reverse direction.
	TCP     string          `json:"tcp,omitempty"`
	NewSrc  netip.AddrPort  `json:"newSrc,omitzero"` // after NAT
	NewDst  netip.AddrPort  `json:"newDst,omitzero"`
	NH      table.NextHopID `json:"nh"`
	Label   table.Label     `json:"label,omitempty"`
	ECMP    int             `json:"ecmp"` // chosen member, -1: none
	RPF     table.NextHopID `json:"rpf"`
	Gen     uint32          `json:"gen"`
	Packets uint64          `json:"packets"`
	Bytes   uint64          `json:"bytes"`
	IdleMS  int64           `json:"idleMS"`
	Sport   uint16          `json:"sport,omitempty"` // outer UDP source port
	// Offloaded: the kernel forwards what it can of this flow; the counters are of both.
	Offloaded bool `json:"offloaded,omitempty"`
}

// NoIndex is the reverse index of an entry that has none.
const NoIndex = ^uint32(0)

// DropCounter is one named drop reason.
type DropCounter struct {
	Name     string   `json:"name"`     // e.g. invalid-source
	Sentence string   `json:"sentence"` // what it means, for people
	Count    uint64   `json:"count"`
	PerCore  []uint64 `json:"perCore"`
}

// TraceQuery describes a synthetic packet.
type TraceQuery struct {
	Vif   table.VifID    `json:"vif"`
	Src   netip.AddrPort `json:"src,omitzero"` // zero address: the vif's own
	Dst   netip.AddrPort `json:"dst"`
	Proto uint8          `json:"proto"`
	Flags string         `json:"flags,omitempty"` // TCP: S (default), A, F, R
	Size  int            `json:"size,omitempty"`  // bytes, IP packet
	TTL   uint8          `json:"ttl,omitempty"`
	DF    bool           `json:"df,omitempty"`
	// From the fabric: the label the packet carries; Vif is then the fabric vif.
	Label table.Label `json:"label,omitempty"`
	Peer  netip.Addr  `json:"peer,omitzero"` // outer source
}

// Trace is what would happen to the packet.
type Trace struct {
	Steps   []TraceStep `json:"steps"`
	Verdict string      `json:"verdict"` // delivered, forwarded, punted, dropped
	Reason  string      `json:"reason,omitempty"`
}

// TraceStep is one stage's decision.
type TraceStep struct {
	Stage string `json:"stage"` // parse, classify, flow, route, next hop, nat, rewrite, emit
	Text  string `json:"text"`
}
