package plan

import (
	"net/netip"

	"github.com/vragent/vragent/controller/southbound"
)

// networks makes the two networks that every cluster has. Namespaces with
// networks of their own add theirs here.
func (b *builder) networks() {
	c := b.in.Config
	project := c.Cluster + "-default"
	pods := &Network{Name: DefaultPodNetwork(c), Project: project, Subnets: c.PodSubnets}
	services := &Network{Name: c.Cluster + "-default-service-network", Project: project, Subnets: c.ServiceSubnets, Service: true}
	b.model.Networks = []*Network{pods, services}
	for _, n := range b.model.Networks {
		n.UUID = Derive("virtual-network", n.Name)
		b.model.RoutingInstances = append(b.model.RoutingInstances,
			&RoutingInstance{UUID: Derive("routing-instance", n.Name), Network: n, byPrefix: map[netip.Prefix]*Route{}})
	}
	b.add(networkSet(pods.Name), southbound.Type_TYPE_VIRTUAL_NETWORK, pods.Name, &southbound.VirtualNetwork{
		Name:           pods.Name,
		Uuid:           pods.UUID,
		Subnets:        texts(c.PodSubnets),
		ServiceSubnets: texts(c.ServiceSubnets),
		Host:           true,
	})
}

// DefaultPodNetwork is the name of the network that pods are in by default.
func DefaultPodNetwork(c Config) string { return c.Cluster + "-default-pod-network" }

func (b *builder) defaultPodNetwork() *Network { return b.model.Networks[0] }
func (b *builder) serviceNetwork() *Network    { return b.model.Networks[1] }

// networkOf is the network a pod's interface is in.
func (b *builder) networkOf(*Pod) *Network { return b.defaultPodNetwork() }

// networksUsing are the networks whose pods may use a service.
func (b *builder) networksUsing(*Service) []*Network { return []*Network{b.defaultPodNetwork()} }

// networksOn are the networks present on a node: that of its host vif and
// those of its pods.
func (b *builder) networksOn(string) []*Network { return []*Network{b.defaultPodNetwork()} }

// tunnelAddresses finds where the tunnels of each node end: as its agent says,
// or, while it has said nothing, as Kubernetes does. Of two nodes with one
// address, that one keeps it which has it in Kubernetes too, else the first by
// name; nothing is sent to the other.
func (b *builder) tunnelAddresses() {
	b.tunnels = map[string]netip.Addr{}
	owner := map[netip.Addr]string{}
	claim := func(sure bool) {
		for _, n := range b.idx.nodes {
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

func texts[T interface{ String() string }](in []T) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = v.String()
	}
	return out
}
