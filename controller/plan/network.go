package plan

import (
	"net/netip"

	"github.com/vragent/vragent/controller/plan/networks"
	"github.com/vragent/vragent/controller/southbound"
)

// Virtual networks, as the model has them.
type (
	Project = networks.Project
	Network = networks.Network
	Kind    = networks.Kind
	Import  = networks.Import
)

// Domain is the first element of every fully qualified name.
const Domain = networks.Domain

// What a network is for.
const (
	DefaultPods = networks.DefaultPods
	Isolated    = networks.Isolated
	Custom      = networks.Custom
	Services    = networks.Services
	External    = networks.External
)

// DefaultPodNetwork is the name of the network that pods are in by default.
func DefaultPodNetwork(c Config) string { return c.networks().Pods("default") }

func (c Config) networks() networks.Config {
	return networks.Config{Cluster: c.Cluster, PodSubnets: c.PodSubnets, ServiceSubnets: c.ServiceSubnets}
}

// networks makes all networks, each with its routing instance.
func (b *builder) networks() {
	b.nets = networks.New(networks.Input{
		Config: b.in.Config.networks(), Namespaces: b.idx.Namespaces, VirtualNetworks: b.idx.VirtualNetworks,
		Leases: b.leases, Outside: b.in.Memory.outside,
	})
	b.memory.outside = b.nets.Outside()
	for _, p := range b.nets.Problems {
		b.problem(p.Object, p.Sentence)
	}
	b.model.Networks = b.nets.All
	b.instances = make(map[string]*RoutingInstance, len(b.nets.All))
	for _, n := range b.nets.All {
		r := &RoutingInstance{UUID: Derive("routing-instance", n.Name), Network: n, byPrefix: map[netip.Prefix]*Route{}}
		b.instances[n.Name] = r
		b.model.RoutingInstances = append(b.model.RoutingInstances, r)
	}
}

func (b *builder) hostNetwork() *Network { return b.nets.Host() }

func (b *builder) networkOf(p *Pod) (*Network, string) { return b.nets.Of(p) }

func (b *builder) networkOfNamespace(name string) (*Network, string) { return b.nets.OfNamespace(name) }

// networkResources sends each network with pods to the nodes it is present on.
func (b *builder) networkResources() {
	serving := map[*Network]bool{}
	for _, lb := range b.model.LoadBalancers {
		if len(lb.Networks) > 1 {
			serving[lb.Home] = true
		}
	}
	b.nets.Import(serving)
	for _, n := range b.nets.All {
		if n.HasPods() {
			b.networkResource(n)
		}
	}
}

func (b *builder) networkResource(n *Network) {
	body := &southbound.VirtualNetwork{
		Name:           n.Name,
		Uuid:           n.UUID,
		Subnets:        texts(n.Subnets),
		ServiceSubnets: texts(b.in.Config.ServiceSubnets),
		Host:           n.Kind == DefaultPods,
		Translated:     n.Translated(),
		FqName:         n.FQName(),
		NoOutside:      n.NoOutside,
	}
	for _, i := range n.Imports {
		body.Imports = append(body.Imports, &southbound.Import{VirtualNetwork: i.Network.Name, ReplyOnly: i.ReplyOnly})
	}
	b.add(networkSet(n.Name), southbound.Type_TYPE_VIRTUAL_NETWORK, n.Name, body)
}

func texts[T interface{ String() string }](in []T) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = v.String()
	}
	return out
}
