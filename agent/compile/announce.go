package compile

import (
	"net/netip"

	"github.com/vragent/vragent/fastpath/table"
)

// Announcement is what the controller is told: what leads to this node, and
// what its pods are.
type Announcement struct {
	VMIs   map[string]VMIStatus // by uuid
	Routes map[LocalRouteKey]LocalRoute
	Blocks map[BlockKey]int // addresses in use
	Host   []netip.Addr
}

// VMIStatus is a pod's interface that packets can reach.
type VMIStatus struct {
	Addrs        []netip.Addr
	ClusterAddrs []netip.Addr
	MAC          table.MAC
	Label        table.Label
	Tap          string
	PortMaps     []PortMap // in the fast path
}

// LocalRouteKey names a route to this node.
type LocalRouteKey struct {
	Network string
	Prefix  netip.Prefix
}

// LocalRoute leads to this node.
type LocalRoute struct {
	Label table.Label
	VMIs  []string // members, for a VIP
}

// BlockKey names a block.
type BlockKey struct {
	Network string
	Prefix  netip.Prefix
}

func newAnnouncement() Announcement {
	return Announcement{
		VMIs: map[string]VMIStatus{}, Routes: map[LocalRouteKey]LocalRoute{}, Blocks: map[BlockKey]int{},
	}
}

// vrf announces the blocks of a network, which the network's label leads to.
func (a *Announcement) vrf(network string, label table.Label, blocks []Block) {
	for _, b := range blocks {
		if b.Network != network {
			continue
		}
		a.Blocks[BlockKey{network, b.Prefix}] = b.Used
		if label != 0 {
			a.Routes[LocalRouteKey{network, b.Prefix}] = LocalRoute{Label: label}
		}
	}
}

func (a *Announcement) pod(p *Pod, label table.Label) {
	if p.Version == "" {
		return // the controller no longer knows it
	}
	a.VMIs[p.VMI] = VMIStatus{
		Addrs: p.Addrs, ClusterAddrs: p.ClusterAddrs, MAC: p.MAC, Label: label, Tap: p.Tap, PortMaps: p.PortMaps,
	}
}

func (a *Announcement) vip(network string, vip netip.Addr, label table.Label, vmis []string) {
	if label != 0 {
		a.Routes[LocalRouteKey{network, netip.PrefixFrom(vip, vip.BitLen())}] = LocalRoute{Label: label, VMIs: vmis}
	}
}
