package plan

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan/cluster"
	"github.com/vragent/vragent/controller/plan/portmaps"
)

// Model is the cluster in Contrail's objects, for people and for the REST API.
// Lists are sorted; a Model is immutable once Build has returned it.
type Model struct {
	Cluster          string
	Projects         []*Project
	Networks         []*Network
	Interfaces       []*Interface
	Pools            []*Pool
	LoadBalancers    []*LoadBalancer
	RoutingInstances []*RoutingInstance
	Problems         []Problem
	Notices          []Problem // nothing is wrong, and yet not all is as one might expect
}

// Problem is something the operator should know; it never stops the rest.
type Problem struct {
	Object   string // Service demo/web
	Sentence string
}

// Interface is a virtual-machine-interface: a pod's place in a network.
type Interface struct {
	UUID    string
	Name    string // <pod>__<uuid>
	Project *Project
	Pod     *Pod
	Network *Network // never nil in a Model
	Refusal string   // why it gets no network

	// As the agent reports it; zero while the pod is not attached
	Attached bool
	Stale    bool // the agent's stream is lost
	AttachedVMI

	desired portmaps.Maps // listeners of VIPs → target ports
	maps    *portmaps.VMI // what became of them
}

// RoutingInstance is a VRF as the control node's page shows it.
type RoutingInstance struct {
	UUID    string
	Network *Network
	Routes  []*Route // its own

	byPrefix map[netip.Prefix]*Route
	imports  []importedInstance
	vips     []Imported // that its pods may use, of services whose home is elsewhere
}

type importedInstance struct {
	*RoutingInstance
	replyOnly bool
}

// Imported is a route of another network that is valid here too.
type Imported struct {
	*Route
	From      *Network
	ReplyOnly bool
}

// Imported are the routes that a network's imports bring, in no order.
func (r *RoutingInstance) Imported() iter.Seq[Imported] {
	return func(yield func(Imported) bool) {
		for _, i := range r.imports {
			for _, route := range i.Routes {
				if route.Kind != "floating-ip" && !yield(Imported{route, i.Network, i.replyOnly}) {
					return
				}
			}
		}
		for _, v := range r.vips {
			if !yield(v) {
				return
			}
		}
	}
}

// FQName is Contrail's: the network's path and its last name again.
func (r *RoutingInstance) FQName() []string {
	path := r.Network.FQName()
	return append(path, path[len(path)-1])
}

// Table is the name of one family's table.
func (r *RoutingInstance) Table(v6 bool) string {
	family := "inet.0"
	if v6 {
		family = "inet6.0"
	}
	return strings.Join(r.FQName(), ":") + "." + family
}

// Route is a prefix with one path per node that leads to it.
type Route struct {
	Prefix netip.Prefix
	Kind   string // block, host, floating-ip
	Object string // of a floating IP: its load balancer
	Paths  []RoutePath
}

// RoutePath is the way to a route over one node.
type RoutePath struct {
	Node           string
	NextHop        netip.Addr // the node's tunnel address
	Label          uint32
	Encapsulations []string
	Members        []*Interface
	Stale          bool
}

// Derive makes the UUID of an object from the names of what it is derived from.
func Derive(names ...string) string { return cluster.Derive(names...) }

// finish sorts what the stages appended.
func (m *Model) finish() {
	order := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Sentence, b.Sentence))
	}
	slices.SortFunc(m.Notices, order)
	m.Notices = slices.Compact(m.Notices)
	slices.SortFunc(m.Projects, func(a, b *Project) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Problems, order)
	m.Problems = slices.Compact(m.Problems)
	for _, r := range m.RoutingInstances {
		slices.SortFunc(r.Routes, func(a, b *Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	}
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
