package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Protocol numbers a service may use (IANA).
const (
	TCP  = 6
	UDP  = 17
	SCTP = 132
)

// ProtocolName is the field's word for a protocol number of a service.
func ProtocolName(p uint8) string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "?"
}

// Cluster is what Kubernetes says, reduced to what a plan depends on.
type Cluster struct {
	Namespaces []Namespace
	Nodes      []Node
	Pods       []Pod
	Services   []Service
	Slices     []EndpointSlice
}

// Meta names an object.
type Meta struct {
	Namespace string // empty for Namespaces and Nodes
	Name      string
	UID       string
	Created   time.Time
}

// Ref is namespace/name.
func (m Meta) Ref() string {
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}

// Namespace is a v1 Namespace.
type Namespace struct {
	Meta
}

// Node is a v1 Node.
type Node struct {
	Meta
	Address netip.Addr // first IPv4 InternalIP; the zero Addr: none
}

// Pod is a v1 Pod.
type Pod struct {
	Meta
	Node        string // empty: not scheduled
	HostNetwork bool
	Finished    bool // phase Succeeded or Failed
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

	// Ways in from outside that are not served yet; a plan only says so
	NodePorts    bool // type NodePort
	LoadBalancer bool // type LoadBalancer
	ExternalIPs  bool
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name     string
	Protocol uint8
	Port     uint16
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
}

// PodRef points at a pod; UID may be empty.
type PodRef struct {
	Namespace string
	Name      string
	UID       string
}

type podKey struct{ namespace, name string }

// indexed is a Cluster without order and repetition.
type indexed struct {
	nodes    []Node
	pods     []Pod
	services []Service
	slices   map[podKey][]EndpointSlice // by the service's namespace and name
	podOf    map[podKey]*Pod
	nodeOf   map[string]*Node
}

func index(c *Cluster) *indexed {
	x := &indexed{
		nodes:    unique(c.Nodes, func(n *Node) *Meta { return &n.Meta }),
		pods:     unique(c.Pods, func(p *Pod) *Meta { return &p.Meta }),
		services: unique(c.Services, func(s *Service) *Meta { return &s.Meta }),
		slices:   map[podKey][]EndpointSlice{},
		podOf:    map[podKey]*Pod{},
		nodeOf:   map[string]*Node{},
	}
	for _, s := range unique(c.Slices, func(s *EndpointSlice) *Meta { return &s.Meta }) {
		k := podKey{s.Namespace, s.Service}
		x.slices[k] = append(x.slices[k], s)
	}
	for i := range x.pods {
		x.podOf[podKey{x.pods[i].Namespace, x.pods[i].Name}] = &x.pods[i]
	}
	for i := range x.nodes {
		x.nodeOf[x.nodes[i].Name] = &x.nodes[i]
	}
	return x
}

// unique sorts by namespace and name; of several with the same name the
// younger one stays (a pod that was deleted and made again).
func unique[T any](in []T, meta func(*T) *Meta) []T {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b T) int {
		ma, mb := meta(&a), meta(&b)
		return cmp.Or(
			cmp.Compare(ma.Namespace, mb.Namespace),
			cmp.Compare(ma.Name, mb.Name),
			mb.Created.Compare(ma.Created),
			cmp.Compare(ma.UID, mb.UID),
		)
	})
	return slices.CompactFunc(out, func(a, b T) bool {
		ma, mb := meta(&a), meta(&b)
		return ma.Namespace == mb.Namespace && ma.Name == mb.Name
	})
}
