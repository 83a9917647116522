package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// networksOn are the networks present on a node: that of its host vif and
// those of its pods.
func (b *builder) networksOn(node string) []*Network {
	out := slices.Collect(maps.Keys(b.present[node]))
	slices.SortFunc(out, func(x, y *Network) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// tunnelAddresses finds where the tunnels of each node end: as its agent says,
// or, while it has said nothing, as Kubernetes does. Of two nodes with one
// address, that one keeps it which has it in Kubernetes too, else the first by
// name; nothing is sent to the other.
func (b *builder) tunnelAddresses() {
	b.tunnels = map[string]netip.Addr{}
	owner := map[netip.Addr]string{}
	claim := func(sure bool) {
		for _, n := range b.idx.Nodes {
			a := n.Address
			if r := b.in.Reports[n.Name]; r != nil && r.Tunnel.IsValid() {
				a = r.Tunnel
			}
			if !a.IsValid() || sure != (a == n.Address) {
				continue
			}
			if first, taken := owner[a]; taken {
				b.problem("Node "+n.Name, "tunnel address "+a.String()+" is already that of node "+first)
				continue
			}
			owner[a], b.tunnels[n.Name] = n.Name, a
		}
	}
	claim(true)
	claim(false)
}

// tunnel is where the tunnels of a node end; the zero Addr: nowhere.
func (b *builder) tunnel(node string) netip.Addr { return b.tunnels[node] }
