package plan

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// Model is the cluster in Contrail's objects, for people and for the REST API.
// Lists are sorted; a Model is immutable once Build has returned it.
type Model struct {
	Cluster          string
	Networks         []*Network
	Interfaces       []*Interface
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

// Network is a virtual-network.
type Network struct {
	UUID    string
	Name    string
	Project string
	Subnets []netip.Prefix
	Service bool // holds VIPs, no pods
}

// FQName is Contrail's path of names.
func (n *Network) FQName() []string { return []string{Domain, n.Project, n.Name} }

// Domain is the first element of every fully qualified name.
const Domain = "default-domain"

// Interface is a virtual-machine-interface: a pod's place in a network.
type Interface struct {
	UUID    string
	Name    string // <pod>__<uuid>
	Pod     *Pod
	Network *Network

	// As the agent reports it; zero while the pod is not attached
	Attached bool
	Stale    bool // the agent's stream is lost
	AttachedVMI

	desired map[portMapKey]target // listeners of VIPs → target ports
	acked   map[portMapKey]target // those known to be in the fast path
}

// LoadBalancer is a Service.
type LoadBalancer struct {
	UUID      string
	Name      string // <namespace>-<service>
	Service   *Service
	Networks  []*Network // whose pods may use it
	VIPs      []*FloatingIP
	Listeners []*Listener
	Errors    []string // why it is not, or not wholly, in service
}

// FloatingIP is a VIP, attached to the VMIs of its members.
type FloatingIP struct {
	UUID       string
	Name       string
	Address    netip.Addr
	Network    *Network
	Interfaces []*Interface
	Maps       []PortMapping
}

// PortMapping is one line of a floating IP's port map.
type PortMapping struct {
	Protocol uint8
	Port     uint16 // of the VIP
	Target   uint16 // of the pod
}

// Listener is a port of a service with its only pool.
type Listener struct {
	UUID     string
	Name     string // <lb>-<proto>-<port>
	Protocol uint8
	Port     uint16
	PoolUUID string
	Members  []*Member
}

// Member is a backend of a listener.
type Member struct {
	UUID      string
	Name      string     // namespace/pod, or address:port
	Interface *Interface // nil: not a VMI
	Node      string
	Address   netip.Addr // zero while a VMI has no address of the family
	Port      uint16
	V6        bool
	Draining  bool
	Pending   string // why agents do not have it yet; empty: announced
}

// RoutingInstance is a VRF as the control node's page shows it.
type RoutingInstance struct {
	UUID    string
	Network *Network
	Routes  []*Route

	byPrefix map[netip.Prefix]*Route
}

// Table is the name of one family's table.
func (r *RoutingInstance) Table(v6 bool) string {
	family := "inet.0"
	if v6 {
		family = "inet6.0"
	}
	return strings.Join(append(r.Network.FQName(), r.Network.Name), ":") + "." + family
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

// Derive makes the UUID (RFC 9562 version 5) of an object from the names of
// what it is derived from: the same names give the same UUID, always.
func Derive(names ...string) string {
	h := sha1.New()
	h.Write([]byte("vragent\x00"))
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// finish sorts what the stages appended.
func (m *Model) finish() {
	order := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Sentence, b.Sentence))
	}
	slices.SortFunc(m.Notices, order)
	slices.SortFunc(m.Problems, order)
	m.Problems = slices.Compact(m.Problems)
	for _, r := range m.RoutingInstances {
		slices.SortFunc(r.Routes, func(a, b *Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	}
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
