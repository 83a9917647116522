// Package table holds what the fast path knows of the network: vifs, VRFs,
// routes, next hops, labels and port maps. One Builder owns the state and
// publishes immutable snapshots (Tables) that workers read without locks.
// It does not receive packets, resolve names or talk to anyone.
package table

import (
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/fastpath/table/ecmp"
)

// Ids are chosen by the agent, kept in its ledger and stable across restarts
// of every process. Zero is never a valid id, except NextHopID 0 (discard).
type (
	VifID     uint32
	VRFID     uint32
	NextHopID = ecmp.NextHopID
	Label     = ecmp.Label
)

// MAC is an Ethernet address. Its text form is "02:00:5e:00:00:01".
type MAC [6]byte

// RouterMAC is the address the fast path answers ARP and ND with, and the
// source of every frame it delivers to a pod (Contrail's, from the VRRP range).
var RouterMAC = MAC{0x00, 0x00, 0x5e, 0x00, 0x01, 0x00}

// VifKind says what stands behind an interface of the fast path.
type VifKind string

const (
	VifFabric  VifKind = "fabric"  // the NIC that carries tunnels
	VifHost    VifKind = "host"    // the node itself
	VifVirtual VifKind = "virtual" // a pod
)

// Tap names a multi-queue tap whose queues the workers open; zero: it is a veth.
type Tap struct {
	Netns string `json:"netns"` // path
	Name  string `json:"name"`  // there: eth0
}

// Vif is an interface of the fast path.
type Vif struct {
	ID      VifID   `json:"id"`
	Kind    VifKind `json:"kind"`
	Name    string  `json:"name"`    // device in the node's namespace: eth0, tap…
	Ifindex int     `json:"ifindex"` // of Name
	VRF     VRFID   `json:"vrf"`
	// NH is the encap (virtual), host (host) next hop that delivers to this vif, and the key
	// next hop of every flow received from it.
	NH NextHopID `json:"nh"`
	// MAC is the destination of delivered frames: the pod's own address, the
	// host interface's; for the fabric vif it is the NIC's own address.
	MAC MAC `json:"mac"`
	// Addrs are the only sources a pod may use (RPF, ARP and ND included); a host may all.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// ClusterAddrs are what a pod's own addresses become outside of its VRF, one of each family
	// at most: one-to-one NAT, both ways. A pod whose network may overlap others has them.
	ClusterAddrs []netip.Addr `json:"clusterAddrs,omitempty"`
	MTU          int          `json:"mtu"`          // bytes, IP header included
	Tap          Tap          `json:"tap,omitzero"` // a pod's own device; Name only stands for it then
	Owner        string       `json:"owner,omitempty"`
	VMI          string       `json:"vmi,omitempty"` // uuid
}

// VRF is a routing instance: one per virtual network.
type VRF struct {
	ID   VRFID  `json:"id"`
	Name string `json:"name"`
	// Router addresses are the source of ICMP errors the fast path sends to
	// pods of this VRF: the node's own address in it. Unset: 169.254.1.1, fe80::1.
	Router4 netip.Addr `json:"router4,omitzero"`
	Router6 netip.Addr `json:"router6,omitzero"`
}

// Route leads a prefix of a VRF to a next hop.
type Route struct {
	VRF    VRFID        `json:"vrf"`
	Prefix netip.Prefix `json:"prefix"`
	NH     NextHopID    `json:"nh"`
	Label  Label        `json:"label,omitempty"` // pushed when NH is a tunnel
	// ReplyOnly routes are valid for replies, RPF and what the host sends, and
	// refused to new flows of pods (one-way isolation).
	ReplyOnly bool `json:"replyOnly,omitempty"`
	// Translate: who leaves by this route does so with its cluster address.
	Translate bool `json:"translate,omitempty"`
}

// NHType is the verb of a next hop.
type NHType string

const (
	NHDiscard      NHType = "discard"
	NHEncap        NHType = "encap"         // deliver to Vif with L2 rewrite
	NHTunnel       NHType = "tunnel"        // MPLS over UDP to Dip
	NHComposite    NHType = "composite"     // ECMP over Members
	NHService      NHType = "service"       // (protocol, port) to composite
	NHVRFTranslate NHType = "vrf-translate" // look up again in VRF
	NHHost         NHType = "host"          // punt to the host vif
	NHResolve      NHType = "resolve"       // the underlay neighbour is not known yet
)

// NextHop says what to do with a packet. Flat data: which fields mean
// something depends on Type.
type NextHop struct {
	ID   NextHopID `json:"id"`
	Type NHType    `json:"type"`

	Vif VifID `json:"vif,omitempty"` // encap, host: the interface; tunnel: the fabric vif
	VRF VRFID `json:"vrf,omitempty"` // vrf-translate: look up here; others: where it belongs (for people)

	// tunnel, resolve. A tunnel without DstMAC is treated as resolve.
	Sip    netip.Addr `json:"sip,omitzero"`
	Dip    netip.Addr `json:"dip,omitzero"`
	SrcMAC MAC        `json:"srcMAC,omitzero"`
	DstMAC MAC        `json:"dstMAC,omitzero"`
	MTU    int        `json:"mtu,omitempty"` // bytes, outer IP packet: the fabric's MTU

	// composite. Positions are stable; a hole has NH 0. When Port is not 0 the
	// composite is the whole of a single-listener VIP and takes only (Proto, Port).
	Members []Member `json:"members,omitempty"`
	Proto   uint8    `json:"proto,omitempty"`
	Port    uint16   `json:"port,omitempty"`
	// Affinity: flows of one client address go to one member, until no new one
	// has begun for so many seconds. 0: none.
	Affinity uint32 `json:"affinity,omitempty"`

	// service.
	Listeners []Listener `json:"listeners,omitempty"`
}

// Member is one position of an ECMP composite, MemberEntry the same as workers read it.
type (
	Member      = ecmp.Member
	MemberEntry = ecmp.MemberEntry
)

// Listener is a (protocol, port) of a service next hop.
type Listener struct {
	Proto uint8     `json:"proto"` // IANA protocol number
	Port  uint16    `json:"port"`
	NH    NextHopID `json:"nh"` // a composite
	// HostOnly listeners are there for what comes from the host vif alone (node ports).
	HostOnly bool `json:"hostOnly,omitempty"`
	// OutsideNH, when set, takes what comes from the host vif with a source that
	// is not the host's own: clients outside the cluster (external traffic policy).
	OutsideNH NextHopID `json:"outsideNH,omitempty"`
}

// LabelEntry leads a label received from the fabric to a next hop:
// vrf-translate (VRF label), encap (VMI label), composite or service.
type LabelEntry struct {
	Label Label     `json:"label"`
	NH    NextHopID `json:"nh"`
}

// PortMap is one line of a floating IP's port map on a vif: what arrives for
// VIP:Port is for Fixed:Target (DNAT + DPAT), and back.
type PortMap struct {
	Vif    VifID      `json:"vif"`
	VIP    netip.Addr `json:"vip"`
	Proto  uint8      `json:"proto"`
	Port   uint16     `json:"port"`
	Fixed  netip.Addr `json:"fixed"`
	Target uint16     `json:"target"`
}

// PortMapKey identifies a PortMap.
type PortMapKey struct {
	Vif   VifID      `json:"vif"`
	VIP   netip.Addr `json:"vip"`
	Proto uint8      `json:"proto"`
	Port  uint16     `json:"port"`
}

// Key returns the identity of m.
func (m PortMap) Key() PortMapKey { return PortMapKey{m.Vif, m.VIP, m.Proto, m.Port} }

// RouteKey identifies a Route.
type RouteKey struct {
	VRF    VRFID        `json:"vrf"`
	Prefix netip.Prefix `json:"prefix"`
}

// Key returns the identity of r.
func (r Route) Key() RouteKey { return RouteKey{r.VRF, r.Prefix} }

// State is a whole set of tables: what the agent's compile produces and what
// the fast path can print back. Order means nothing.
type State struct {
	Vifs     []Vif        `json:"vifs,omitempty"`
	VRFs     []VRF        `json:"vrfs,omitempty"`
	NextHops []NextHop    `json:"nextHops,omitempty"`
	Routes   []Route      `json:"routes,omitempty"`
	Labels   []LabelEntry `json:"labels,omitempty"`
	PortMaps []PortMap    `json:"portMaps,omitempty"`
	// Peers are the only outer sources tunnel packets are accepted from.
	Peers []netip.Addr `json:"peers,omitempty"`
}

// Removal names objects to take away.
type Removal struct {
	Vifs     []VifID      `json:"vifs,omitempty"`
	VRFs     []VRFID      `json:"vrfs,omitempty"`
	NextHops []NextHopID  `json:"nextHops,omitempty"`
	Routes   []RouteKey   `json:"routes,omitempty"`
	Labels   []Label      `json:"labels,omitempty"`
	PortMaps []PortMapKey `json:"portMaps,omitempty"`
	Peers    []netip.Addr `json:"peers,omitempty"`
}

// Delta is one change: upserts, then removals.
type Delta struct {
	Upsert State   `json:"upsert,omitzero"`
	Remove Removal `json:"remove,omitzero"`
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) error {
	var v MAC
	n, err := fmt.Sscanf(string(b), "%02x:%02x:%02x:%02x:%02x:%02x", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5])
	if err != nil || n != 6 || len(b) != 17 {
		return fmt.Errorf("MAC %q: want six hex bytes separated by colons", b)
	}
	*m = v
	return nil
}
