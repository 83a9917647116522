// Package cluster names what Kubernetes says, reduced to what a plan depends on.
// It owns nothing: who reads the cluster makes the values, who plans reads them.
// It decides nothing and knows no wire format.
package cluster

import (
	"net/netip"
	"time"
)

// Cluster is what Kubernetes says, reduced to what a plan depends on.
type Cluster struct {
	Namespaces      []Namespace
	Nodes           []Node
	Pods            []Pod
	Services        []Service
	Slices          []EndpointSlice
	VirtualNetworks []VirtualNetwork
	Pools           []FloatingIPPool
	Unserved        []Unserved
}

// Meta names an object.
type Meta struct {
	Namespace string // empty for Namespaces and Nodes
	Name      string
	UID       string
	Created   time.Time
	Faults    []string // what could not be understood, as sentences: a broken annotation
}

// Ref is namespace/name.
func (m Meta) Ref() string {
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}

// FQName is Contrail's fully qualified name, as annotations give it in JSON. The
// parts that are not given are empty.
type FQName struct {
	Domain  string `json:"domain"`
	Project string `json:"project"` // <cluster>-<namespace>, or the namespace alone
	Network string `json:"network"` // of a floating IP pool: the network it is a child of
	Name    string `json:"name"`
}

// Namespace is a v1 Namespace.
type Namespace struct {
	Meta
	Isolated     bool    // opencontrail.org/isolation: "true"
	OpenServices bool    // opencontrail.org/isolation.service: "false"
	Network      *FQName // opencontrail.org/network
	Pool         *FQName // opencontrail.org/fip-pool
}

// Node is a v1 Node.
type Node struct {
	Meta
	Address netip.Addr   // first IPv4 InternalIP; the zero Addr: none
	Others  []netip.Addr // its further internal and external addresses
	Zone    string       // topology.kubernetes.io/zone
}

// Pod is a v1 Pod.
type Pod struct {
	Meta
	Node        string // empty: not scheduled
	HostNetwork bool
	Finished    bool         // phase Succeeded or Failed
	Network     *FQName      // opencontrail.org/network
	Addresses   []netip.Addr // vragent.io/addresses: asked for, at most one per family
	IPs         []netip.Addr // status.podIPs
	IO          string       // vragent.io/io: veth, tap; empty: the node's default
}

// Service is a v1 Service.
type Service struct {
	Meta
	External        bool         // type ExternalName
	Headless        bool         // clusterIP None
	Foreign         bool         // label service.kubernetes.io/service-proxy-name: somebody else's
	VIPs            []netip.Addr // clusterIPs
	Ports           []ServicePort
	PublishNotReady bool
	AffinitySeconds uint32 // sessionAffinity ClientIP; 0: None
	InternalLocal   bool   // internalTrafficPolicy Local
	Outside         Outside
}

// Outside is how a Service is reached from outside the cluster.
type Outside struct {
	IPs          []netip.Addr // spec.externalIPs
	Local        bool         // externalTrafficPolicy Local
	HealthPort   uint16       // healthCheckNodePort; 0: none
	LoadBalancer bool         // type LoadBalancer, of our class or of none
	OtherClass   bool         // type LoadBalancer, of another class: its addresses are not ours to give
	Wanted       netip.Addr   // spec.loadBalancerIP; the zero Addr: any
	Pool         *FQName      // opencontrail.org/fip-pool
	Ingress      []netip.Addr // status.loadBalancer.ingress
	SourceRanges bool         // loadBalancerSourceRanges is set; not enforced yet
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name     string
	Protocol uint8
	Port     uint16
	NodePort uint16 // 0: none
}

// VirtualNetwork is a vragent.io VirtualNetwork.
type VirtualNetwork struct {
	Meta
	Subnets      []netip.Prefix
	RouteTargets []string
	External     bool // leads out of the cluster: its addresses are given to services and pods, not leased to nodes
	SNAT         bool // pods reach what is outside of the cluster, with their node's address
}

// FloatingIPPool is a vragent.io FloatingIPPool: addresses of an external
// virtual network of the same namespace.
type FloatingIPPool struct {
	Meta
	Network string
	Subnets []netip.Prefix // of the network's; empty: all of them
}

// Unserved is an object that is read and not served yet: a NetworkPolicy, an
// Ingress. A plan only says so.
type Unserved struct {
	Meta
	Kind string
}

// EndpointSlice is a discovery.k8s.io/v1 EndpointSlice of addressType IPv4 or IPv6.
type EndpointSlice struct {
	Meta
	Service   string // label kubernetes.io/service-name
	V6        bool
	Ports     []EndpointPort
	Endpoints []Endpoint
}

// EndpointPort is a port by name; Port 0 means that the slice names none.
type EndpointPort struct {
	Name     string
	Protocol uint8
	Port     uint16
}

// Endpoint is one backend. Conditions are nil where the slice says nothing.
type Endpoint struct {
	Address     netip.Addr
	Ready       *bool
	Serving     *bool
	Terminating *bool
	Pod         *PodRef // targetRef of kind Pod
	Node        string
	HintZones   []string // hints.forZones
	HintNodes   []string // hints.forNodes
}

// PodRef points at a pod; UID may be empty.
type PodRef struct {
	Namespace string
	Name      string
	UID       string
}
