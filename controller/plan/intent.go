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
}

// Names of sets.
const peersSet = "peers"

func networkSet(name string) string { return "network/" + name }
func nodeSet(name string) string    { return "node/" + name }

func encode(t southbound.Type, name string, body message) *Resource {
	return &Resource{Key: Key{t, name}, Wire: southbound.NewResource(t, name, body)}
}

// nodeResources tells every node its peers and its blocks.
func (b *builder) nodeResources() {
	for node, a := range b.tunnels {
		r := b.add(peersSet, southbound.Type_TYPE_NODE, node, &southbound.Node{Name: node, TunnelAddress: a.String()})
		r.NotFor = node
	}
	for _, l := range b.in.Leases {
		b.add(nodeSet(l.Node), southbound.Type_TYPE_BLOCK, l.Network+"/"+l.Prefix.String(),
			&southbound.Block{VirtualNetwork: l.Network, Prefix: l.Prefix.String()})
	}
}

// subscriptions gives each node of the cluster the sets it needs: its peers,
// the networks that are present on it, and its own.
func (b *builder) subscriptions() map[string][]string {
	out := make(map[string][]string, len(b.idx.nodes))
	for _, n := range b.idx.nodes {
		sets := []string{peersSet}
		for _, vn := range b.networksOn(n.Name) {
			sets = append(sets, networkSet(vn.Name))
		}
		out[n.Name] = append(sets, nodeSet(n.Name))
	}
	return out
}
