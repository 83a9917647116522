// Package reason lists why a packet does not go on: one constant, name and
// sentence each. It owns nothing; the workers count. It does not decide.
package reason

import "github.com/vragent/vragent/fastpath/packet"

// Reason says why a packet did not go on. Every packet leaves the fast path by
// exactly one door; None is not a door.
type Reason uint8

const (
	None Reason = iota

	// From the wire.
	InvalidFrame
	InvalidProtocol
	InvalidPacket
	Checksum
	TooManyChunks
	UnknownVif

	// From the fabric.
	InvalidTunnel
	UnknownPeer
	InvalidLabel
	PacketLoop

	// Who sent it.
	InvalidSource
	InvalidARP
	InvalidND
	Multicast
	TunnelFromPod

	// Where it goes.
	NoRoute
	Isolated
	NoClusterAddr
	NoListener
	NoBackend
	NoPortMap
	BackendRemoved
	Unresolved
	TTLExpired
	TooBig

	// Its flow.
	NoFlow
	ICMPNoFlow
	NoHead
	SCTPFragment
	FlowTableFull
	VifFlowLimit
	NATPorts
	HandOver

	// Our own limits.
	RingFull
	TxFull
	NoBuffer

	// Count is one more than the last reason.
	Count
)

// Text is a Reason for people.
type Text struct {
	Name     string
	Sentence string
}

var texts = [Count]Text{
	None:            {"none", "A packet left without a verdict; this is a bug."},
	InvalidFrame:    {"invalid-frame", "The Ethernet frame is too short to hold a packet."},
	InvalidProtocol: {"invalid-protocol", "The frame is neither IPv4, IPv6 nor ARP."},
	InvalidPacket:   {"invalid-packet", "The IP or transport header contradicts itself or the length of the packet."},
	Checksum:        {"checksum-error", "The IPv4 header checksum is wrong."},
	TooManyChunks:   {"too-many-chunks", "The packet is larger than the fast path can carry."},
	UnknownVif:      {"unknown-vif", "The frame came from an interface that is not in the tables."},
	InvalidTunnel:   {"invalid-tunnel", "The tunnel packet's outer headers or label stack cannot be read."},
	UnknownPeer:     {"unknown-peer", "The tunnel packet came from an address the controller did not name."},
	InvalidLabel:    {"invalid-label", "No next hop has this label."},
	PacketLoop:      {"packet-loop", "The packet would go back to where it came from: to the fabric, or to the host."},
	InvalidSource:   {"invalid-source", "The source address does not belong to the interface or peer that sent the packet (RPF)."},
	InvalidARP:      {"invalid-arp", "The ARP packet is malformed, spoofed, or asks for the sender's own address."},
	InvalidND:       {"invalid-nd", "The neighbour discovery packet is malformed, spoofed, or none we answer."},
	Multicast:       {"multicast", "Multicast and broadcast are not forwarded."},
	TunnelFromPod:   {"tunnel-from-pod", "A pod tried to send a tunnel packet to the underlay."},
	NoRoute:         {"no-route", "The VRF has no route to the destination, or a discard route."},
	Isolated:        {"isolated", "The network of the destination is isolated: pods of this one may only answer; the sender was told."},
	NoClusterAddr:   {"no-cluster-address", "The route leaves the pod's network, and the pod has no cluster address of this family to leave with; the sender was told."},
	NoListener:      {"no-listener", "The service has no such port; the sender was told."},
	NoBackend:       {"no-backend", "The service has no backend that takes new connections; the sender was told."},
	NoPortMap:       {"no-port-map", "The interface has no floating IP port map for this destination; the sender was told."},
	BackendRemoved:  {"backend-removed", "The flow's backend is no longer a member of its service; the sender was told."},
	Unresolved:      {"unresolved", "The underlay neighbour of the tunnel is not known yet."},
	TTLExpired:      {"ttl-expired", "The packet's time to live ran out here; the sender was told."},
	TooBig:          {"too-big", "The packet is larger than the path and must not be fragmented; the sender was told."},
	NoFlow:          {"no-flow", "A reply has no flow entry; it must wait for the forward direction to rebuild it."},
	ICMPNoFlow:      {"icmp-no-flow", "An ICMP error embeds a packet of no known flow."},
	NoHead:          {"fragment-no-head", "A fragment came without the first one, which names the ports."},
	SCTPFragment:    {"sctp-fragment", "The ports of a fragmented SCTP packet cannot be translated: its checksum covers what is not here."},
	FlowTableFull:   {"flow-table-full", "The flow table is full: no entry near this one may be evicted, or its sender has asked for that in vain too often just now."},
	VifFlowLimit:    {"vif-flow-limit", "The interface holds as many flows as one interface may."},
	NATPorts:        {"nat-port-exhausted", "No free source port keeps this flow apart from another to the same backend."},
	HandOver:        {"offload-hand-over", "The kernel had taken over a flow that never rests; what the workers still held of it would have arrived too late."},
	RingFull:        {"handoff-ring-full", "The worker that owns the flow did not keep up."},
	TxFull:          {"tx-ring-full", "The kernel did not take the packets fast enough."},
	NoBuffer:        {"no-buffer", "No free packet buffer for a fragment or an answer."},
}

// All lists every reason; the index is the Reason.
func All() []Text { return texts[:] }

// String returns the name operators see.
func (r Reason) String() string { return texts[r].Name }

// Of translates what package packet found wrong.
func Of(f packet.Fault) Reason {
	switch f {
	case packet.FaultNone:
		return None
	case packet.FaultChecksum:
		return Checksum
	case packet.FaultSource:
		return InvalidSource
	default:
		return InvalidPacket
	}
}
