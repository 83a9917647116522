package plan

import "github.com/vragent/vragent/controller/plan/cluster"

// What Kubernetes says.
type (
	Cluster        = cluster.Cluster
	Meta           = cluster.Meta
	FQName         = cluster.FQName
	Namespace      = cluster.Namespace
	Node           = cluster.Node
	Pod            = cluster.Pod
	Service        = cluster.Service
	Outside        = cluster.Outside
	ServicePort    = cluster.ServicePort
	VirtualNetwork = cluster.VirtualNetwork
	FloatingIPPool = cluster.FloatingIPPool
	Unserved       = cluster.Unserved
	EndpointSlice  = cluster.EndpointSlice
	EndpointPort   = cluster.EndpointPort
	Endpoint       = cluster.Endpoint
	PodRef         = cluster.PodRef
)

// What agents say.
type (
	Report      = cluster.Report
	AttachedVMI = cluster.AttachedVMI
	RouteKey    = cluster.RouteKey
	LocalRoute  = cluster.LocalRoute
	BlockKey    = cluster.BlockKey
	PortMapKey  = cluster.PortMapKey
)

type podKey = cluster.Key

// Protocol numbers a service may use (IANA).
const (
	TCP  = cluster.TCP
	UDP  = cluster.UDP
	SCTP = cluster.SCTP
)

// ProtocolName is the field's word for a protocol number of a service.
func ProtocolName(p uint8) string { return cluster.ProtocolName(p) }

// Labels below are reserved by RFC 3032 section 2.1; a label has 20 bits.
const (
	minLabel = 16
	maxLabel = 1<<20 - 1
)

func validLabel(l uint32) bool { return l >= minLabel && l <= maxLabel }
