package plan

import (
	"iter"
	"net/netip"
)

// LoadBalancer is a Service; its provider is native. Over REST it is parent of
// its listeners, a listener of its pool, a pool of its members.
type LoadBalancer struct {
	UUID      string
	Name      string // <namespace>-<service>
	Service   *Service
	Home      *Network      // of its backends
	Networks  []*Network    // whose pods may use it
	VIPs      []*FloatingIP // of the cluster, at most one per family; the first is the vip_address
	Externals []*FloatingIP // externalIPs, and what status.loadBalancer says
	Listeners []*Listener
	Errors    []string // why it is not, or not wholly, in service

	own *Network // of the pods of its namespace
}

// Addresses are all floating IPs.
func (lb *LoadBalancer) Addresses() iter.Seq[*FloatingIP] {
	return func(yield func(*FloatingIP) bool) {
		for _, list := range [...][]*FloatingIP{lb.VIPs, lb.Externals} {
			for _, f := range list {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// FloatingIP is a VIP, attached to the VMIs of its members.
type FloatingIP struct {
	UUID       string
	Name       string
	Address    netip.Addr
	Network    *Network
	Pool       *Pool // its parent; nil: a clusterIP, or an externalIP that somebody has chosen
	External   bool
	Pending    string // why agents do not have it yet; empty: announced
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
	NodePort uint16 // 0: none that is ours
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
	HintZones []string // whose clients should prefer it
	HintNodes []string
	Pending   string // why agents do not have it yet; empty: announced
}
