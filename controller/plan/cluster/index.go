package cluster

import (
	"cmp"
	"slices"
)

// Key names an object of a namespace.
type Key struct{ Namespace, Name string }

// Index is a Cluster without order and repetition.
type Index struct {
	Nodes    []Node
	Pods     []Pod
	Services []Service
	Slices   map[Key][]EndpointSlice // by the service's namespace and name
	PodOf    map[Key]*Pod
	NodeOf   map[string]*Node

	Namespaces      []Namespace
	NamespaceOf     map[string]*Namespace
	VirtualNetworks []VirtualNetwork
}

// NewIndex finds its way through a Cluster.
func NewIndex(c *Cluster) *Index {
	x := &Index{
		Nodes:    Unique(c.Nodes, func(n *Node) *Meta { return &n.Meta }),
		Pods:     Unique(c.Pods, func(p *Pod) *Meta { return &p.Meta }),
		Services: Unique(c.Services, func(s *Service) *Meta { return &s.Meta }),
		Slices:   map[Key][]EndpointSlice{},
		PodOf:    map[Key]*Pod{},
		NodeOf:   map[string]*Node{},

		Namespaces:      Unique(c.Namespaces, func(n *Namespace) *Meta { return &n.Meta }),
		VirtualNetworks: Unique(c.VirtualNetworks, func(v *VirtualNetwork) *Meta { return &v.Meta }),
		NamespaceOf:     map[string]*Namespace{},
	}
	for i := range x.Namespaces {
		x.NamespaceOf[x.Namespaces[i].Name] = &x.Namespaces[i]
	}
	for _, s := range Unique(c.Slices, func(s *EndpointSlice) *Meta { return &s.Meta }) {
		k := Key{s.Namespace, s.Service}
		x.Slices[k] = append(x.Slices[k], s)
	}
	for i := range x.Pods {
		x.PodOf[Key{x.Pods[i].Namespace, x.Pods[i].Name}] = &x.Pods[i]
	}
	for i := range x.Nodes {
		x.NodeOf[x.Nodes[i].Name] = &x.Nodes[i]
	}
	return x
}

// Unique sorts by namespace and name; of several with the same name the
// younger one stays (a pod that was deleted and made again).
func Unique[T any](in []T, meta func(*T) *Meta) []T {
	order := make([]*T, len(in))
	for i := range in {
		order[i] = &in[i]
	}
	slices.SortStableFunc(order, func(a, b *T) int {
		ma, mb := meta(a), meta(b)
		return cmp.Or(
			cmp.Compare(ma.Namespace, mb.Namespace),
			cmp.Compare(ma.Name, mb.Name),
			mb.Created.Compare(ma.Created),
			cmp.Compare(ma.UID, mb.UID),
		)
	})
	out := make([]T, 0, len(in))
	for i, x := range order {
		if i == 0 || meta(x).Namespace != meta(order[i-1]).Namespace || meta(x).Name != meta(order[i-1]).Name {
			out = append(out, *x)
		}
	}
	return out
}
