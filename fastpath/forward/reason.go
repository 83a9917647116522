package forward

// Reason says why a packet did not go on. Every packet leaves the fast path by
// exactly one door; Reason 0 is not a door.
type Reason uint8

const (
	none Reason = iota

	// From the wire.
	DropInvalidFrame
	DropInvalidProtocol
	DropInvalidPacket
	DropChecksum
	DropTooManyChunks
	DropUnknownVif

	// From the fabric.
	DropInvalidTunnel
	DropUnknownPeer
	DropInvalidLabel
	DropPacketLoop

	// Who sent it.
	DropInvalidSource
	DropInvalidARP
	DropInvalidND
	DropMulticast
	DropTunnelFromPod

	// Where it goes.
	DropNoRoute
	DropNoListener
	DropNoBackend
	DropNoPortMap
	DropBackendRemoved
	DropUnresolved
	DropTTLExpired
	DropTooBig

	// Its flow.
	DropNoFlow
	DropICMPNoFlow
	DropNoHead
	DropFlowTableFull
	DropVifFlowLimit
	DropNATPorts

	// Our own limits.
	DropRingFull
	DropTxFull
	DropNoBuffer

	reasonCount
)

// ReasonText is a Reason for people.
type ReasonText struct {
	Name     string
	Sentence string
}

var reasons = [reasonCount]ReasonText{
	none:                {"none", "A packet left without a verdict; this is a bug."},
	DropInvalidFrame:    {"invalid-frame", "The Ethernet frame is too short to hold a packet."},
	DropInvalidProtocol: {"invalid-protocol", "The frame is neither IPv4, IPv6 nor ARP."},
	DropInvalidPacket:   {"invalid-packet", "The IP or transport header contradicts itself or the length of the packet."},
	DropChecksum:        {"checksum-error", "The IPv4 header checksum is wrong."},
	DropTooManyChunks:   {"too-many-chunks", "The packet is larger than the fast path can carry."},
	DropUnknownVif:      {"unknown-vif", "The frame came from an interface that is not in the tables."},
	DropInvalidTunnel:   {"invalid-tunnel", "The tunnel packet's outer headers or label stack cannot be read."},
	DropUnknownPeer:     {"unknown-peer", "The tunnel packet came from an address the controller did not name."},
	DropInvalidLabel:    {"invalid-label", "No next hop has this label."},
	DropPacketLoop:      {"packet-loop", "A packet from the fabric would go back to the fabric."},
	DropInvalidSource:   {"invalid-source", "The source address does not belong to the interface or peer that sent the packet (RPF)."},
	DropInvalidARP:      {"invalid-arp", "The ARP packet is malformed, spoofed, or asks for the sender's own address."},
	DropInvalidND:       {"invalid-nd", "The neighbour discovery packet is malformed, spoofed, or none we answer."},
	DropMulticast:       {"multicast", "Multicast and broadcast are not forwarded."},
	DropTunnelFromPod:   {"tunnel-from-pod", "A pod tried to send a tunnel packet to the underlay."},
	DropNoRoute:         {"no-route", "The VRF has no route to the destination, or a discard route."},
	DropNoListener:      {"no-listener", "The service has no such port; the sender was told."},
	DropNoBackend:       {"no-backend", "The service has no backend that takes new connections; the sender was told."},
	DropNoPortMap:       {"no-port-map", "The interface has no floating IP port map for this destination; the sender was told."},
	DropBackendRemoved:  {"backend-removed", "The flow's backend is no longer a member of its service; the sender was told."},
	DropUnresolved:      {"unresolved", "The underlay neighbour of the tunnel is not known yet."},
	DropTTLExpired:      {"ttl-expired", "The packet's time to live ran out here; the sender was told."},
	DropTooBig:          {"too-big", "The packet is larger than the path and must not be fragmented; the sender was told."},
	DropNoFlow:          {"no-flow", "A reply has no flow entry; it must wait for the forward direction to rebuild it."},
	DropICMPNoFlow:      {"icmp-no-flow", "An ICMP error embeds a packet of no known flow."},
	DropNoHead:          {"fragment-no-head", "A fragment came without the first one, which names the ports."},
	DropFlowTableFull:   {"flow-table-full", "The flow table is full and no entry near this one may be evicted."},
	DropVifFlowLimit:    {"vif-flow-limit", "The interface holds as many flows as one interface may."},
	DropNATPorts:        {"nat-port-exhausted", "No free source port keeps this flow apart from another to the same backend."},
	DropRingFull:        {"handoff-ring-full", "The worker that owns the flow did not keep up."},
	DropTxFull:          {"tx-ring-full", "The kernel did not take the packets fast enough."},
	DropNoBuffer:        {"no-buffer", "No free packet buffer for a fragment or an answer."},
}

// Reasons lists every reason; the index is the Reason.
func Reasons() []ReasonText { return reasons[:] }

// String returns the name operators see.
func (r Reason) String() string { return reasons[r].Name }
