// Package compile turns what a node knows (networks, services, pods, neighbours)
// into the tables of its fast path, and compares two sets of tables. Everything
// is a function of its arguments; the caller owns the IDs and Positions that
// keep results stable from one call to the next. It does not talk to anyone and
// decides no addresses.
package compile

import (
	"net/netip"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// Input is everything the tables are made of. Order means nothing.
type Input struct {
	Node      string
	Fabric    Fabric
	Host      *Host // nil: the host's interface does not exist yet
	NodePorts bool  // this node serves them, without kube-proxy

	// From the controller.
	Zone          string
	Networks      []*Network
	Blocks        []Block
	Peers         []netip.Addr // tunnel addresses of the other nodes
	Routes        []*Route
	LoadBalancers []*LoadBalancer

	// From here.
	Pods     []Pod
	Underlay map[netip.Addr]Neighbour // by tunnel address
}

// Fabric is the interface that carries tunnels.
type Fabric struct {
	Name    string
	Ifindex int
	MAC     table.MAC
	MTU     int        // bytes
	Address netip.Addr // of our tunnels
}

// Host is the pair that joins the node itself to a network.
type Host struct {
	Tap     string // the fast path's end
	Ifindex int    // of Tap
	MAC     table.MAC
	MTU     int
	Addrs   []netip.Addr // may be empty: no block yet
}

// Neighbour says how the underlay reaches a tunnel address.
type Neighbour struct {
	SrcMAC, DstMAC table.MAC // DstMAC zero: not resolved
	MTU            int       // bytes, outer packet
}

// Network is a virtual network: a VRF.
type Network struct {
	Name           string
	Subnets        []netip.Prefix // all pods of the network
	ServiceSubnets []netip.Prefix
	Host           bool // the host's interface belongs to it
	Imports        []Import
	Translated     bool // its pods leave it with their cluster addresses
	NoOutside      bool // its pods reach nothing outside of the cluster
}

// Import makes the routes of another network valid in this one: for all, or
// only for replies and the host.
type Import struct {
	Network   string
	ReplyOnly bool
}

// Block is a lease of addresses of this node.
type Block struct {
	Network string
	Prefix  netip.Prefix
	Used    int
}

// Route leads to other nodes.
type Route struct {
	Network string
	Prefix  netip.Prefix
	Paths   []Path
}

// Path is one way to a Route's prefix.
type Path struct {
	Node   string
	Tunnel netip.Addr
	Label  table.Label
}

// Pod is an attachment and the VMI it carries.
type Pod struct {
	Key     record.AttachmentKey
	VMI     string // uuid
	Name    string // namespace/pod
	Network string
	Tap     string
	Ifindex int // of Tap; 0: not there (yet), which keeps its numbers and nothing else
	MAC     table.MAC
	MTU     int
	Device  table.Tap // zero: a veth

	Addrs []netip.Addr
	// ClusterAddrs are of the host's network, one of each family at most: the
	// pod is known by them outside of its own, which is a translated one.
	ClusterAddrs []netip.Addr
	// Hidden: its host cannot reach Addrs, which are another's too.
	Hidden bool
	// Current is false for an older sandbox of a pod that has a newer one.
	Current bool

	Version  string // of the VMI resource PortMaps are from; empty: orphan
	PortMaps []PortMap
}

// PortMap is one line of a floating IP's port map.
type PortMap struct {
	VIP    netip.Addr
	Proto  uint8
	Port   uint16
	Target uint16
}

// LoadBalancer is a service.
type LoadBalancer struct {
	UUID               string
	Namespace, Service string
	Networks           []string // whose pods may use it, sorted
	Home               string   // network of its backends
	Listeners          []Listener
	Affinity           uint32 // seconds a client keeps its backend; 0: none

	VIPs          []netip.Addr // cluster IPs
	InternalLocal bool         // they lead to backends on this node only
	ExternalVIPs  []netip.Addr
	ExternalLocal bool   // so do ExternalVIPs and node ports, for clients outside of the cluster
	HealthPort    uint16 // 0: none
}

// Listener is a (protocol, port) of a load balancer.
type Listener struct {
	Proto    uint8
	Port     uint16
	Members  []Member
	NodePort uint16 // 0: none
}

// Member is one backend. Without a VMI it is reached through the host.
type Member struct {
	UUID     string
	Name     string // namespace/pod
	VMI      string
	Node     string
	Tunnel   netip.Addr
	Label    table.Label
	Address  netip.Addr
	Port     uint16
	Draining bool
	// Hints name the zones and nodes whose clients are meant for it.
	HintZones, HintNodes []string
}
