package plan

import (
	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/controller/southbound"
)

type message = proto.Message

// Key names a resource.
type Key struct {
	Type southbound.Type
	Name string
}

// Resource is encoded once and shared by every stream.
type Resource struct {
	Key
	Wire   *southbound.Resource
	NotFor string // the node that must not have it: its own tunnel, its own block
}

// Set is a group of resources that nodes hold together. It is immutable once
// Build has returned it.
type Set map[Key]*Resource

// Intents is what every node is to hold: sets by name, and the sets of a node.
// A node that is absent from Nodes keeps what it has.
type Intents struct {
	Sets  map[string]Set
	Nodes map[string][]string
	// Stale: what others know of the cluster may be newer. What they have told a
	// node, and nobody here, stays there.
	Stale bool
}

// Names of sets.
const peersSet = "peers"

func networkSet(name string) string { return "network/" + name }
func routeSet(name string) string   { return "routes/" + name }
func nodeSet(name string) string    { return "node/" + name }

func encode(t southbound.Type, name string, body message) *Resource {
	return &Resource{Key: Key{t, name}, Wire: southbound.NewResource(t, name, body)}
}

// nodeResources tells every node its peers, its blocks and what it must know of itself.
func (b *builder) nodeResources() {
	for node, a := range b.tunnels {
		r := b.add(peersSet, southbound.Type_TYPE_NODE, node, &southbound.Node{Name: node, TunnelAddress: a.String()})
		r.NotFor = node
	}
	for _, n := range b.idx.Nodes {
		if n.Zone != "" {
			b.add(nodeSet(n.Name), southbound.Type_TYPE_NODE_CONFIG, n.Name, &southbound.NodeConfig{Zone: n.Zone})
		}
	}
	b.blockResources()
}

// subscriptions gives each node of the cluster the sets it needs: its peers,
// the networks that are present on it, the routes of those that these import,
// and its own.
func (b *builder) subscriptions() map[string][]string {
	out := make(map[string][]string, len(b.idx.Nodes))
	for _, n := range b.idx.Nodes {
		out[n.Name] = append(b.setsFor(b.networksOn(n.Name)), nodeSet(n.Name))
	}
	return out
}

func (b *builder) setsFor(networks []*Network) []string {
	sets := []string{peersSet}
	for _, n := range networks {
		sets = append(sets, networkSet(n.Name))
	}
	routes := map[*Network]bool{}
	want := func(n *Network) {
		if !routes[n] {
			routes[n] = true
			sets = append(sets, routeSet(n.Name))
		}
	}
	for _, n := range networks {
		want(n)
		for _, i := range n.Imports {
			want(i.Network)
		}
	}
	return sets
}
