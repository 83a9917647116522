package cluster

import (
	"maps"
	"net/netip"
	"slices"
)

// Report is what one agent says of its node. A Report is immutable; the next
// word of the agent makes a new one.
type Report struct {
	Node    string
	Tunnel  netip.Addr // where the node's tunnels end
	Stale   bool       // the stream is lost; nothing is withdrawn yet
	Synced  bool       // everything was said again since the stream began
	VMIs    map[string]AttachedVMI
	Routes  map[RouteKey]LocalRoute
	Blocks  map[BlockKey]uint32 // addresses in use
	Host    []netip.Addr        // the host vif's own
	Version string              // of the agent program
}

// AttachedVMI is a VMI that the agent has attached.
type AttachedVMI struct {
	Addresses []netip.Addr
	// ClusterAddresses are those it has in the network of the hosts, if its own
	// network is translated.
	ClusterAddresses []netip.Addr
	MAC              string
	Label            uint32
	Tap              string
	PortMaps         map[PortMapKey]uint16 // in the fast path: the port that each leads to
}

// PortMapKey is where a port map begins.
type PortMapKey struct {
	VIP      netip.Addr
	Protocol uint8
	Port     uint16
}

// RouteKey names a route of a node.
type RouteKey struct {
	VRF    string
	Prefix netip.Prefix
}

// LocalRoute leads to the node.
type LocalRoute struct {
	Label          uint32
	Encapsulations []string
	VMIs           []string
}

// BlockKey names a block of a network.
type BlockKey struct {
	Network string
	Prefix  netip.Prefix
}

// Clone is a Report whose maps may be written to.
func (r *Report) Clone() *Report {
	c := *r
	c.VMIs = cloned(r.VMIs)
	c.Routes = cloned(r.Routes)
	c.Blocks = cloned(r.Blocks)
	return &c
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}

// Uses tells whether the agent says that an address of a block is in use.
func (r *Report) Uses(network string, block netip.Prefix) bool {
	if r.Blocks[BlockKey{network, block}] > 0 || slices.ContainsFunc(r.Host, block.Contains) {
		return true
	}
	for _, v := range r.VMIs {
		if slices.ContainsFunc(v.Addresses, block.Contains) || slices.ContainsFunc(v.ClusterAddresses, block.Contains) {
			return true
		}
	}
	return false
}
