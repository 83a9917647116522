package table

import (
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/lpm"
	"github.com/vragent/vragent/fastpath/table/portmap"
)

// Largest ids. Tables are indexed by id, so ids must be allocated densely.
const (
	MaxID    = 1 << 22 // vif, VRF, next hop
	MinLabel = 16
	MaxLabel = 1<<20 - 1
	// MaxMembers is what a flow entry's 12-bit member position can name.
	MaxMembers = 4095
	// MaxAffinity is the longest ClientIP affinity, in seconds: a day, as in Kubernetes.
	MaxAffinity = 86400
)

// Tables is one immutable view of the network. All methods may be called by
// any goroutine; none of those that workers call allocates, locks or uses a
// Go map.
type Tables struct {
	vifs   array[*VifEntry]
	vrfs   array[*VRFEntry]
	nhs    array[*NH]
	labels array[NextHopID] // next hop + 1; 0: no such label
	peers  peerSet
}

// VifEntry is a Vif as workers read it.
type VifEntry struct {
	Vif
	Pod, Fabric bool          // Vif.Kind, which is a text
	Sources     []packet.Addr // Vif.Addrs
	cluster     []clusterAddr // of Vif.ClusterAddrs, and the own address each stands for
	ports       portmap.List
}

// clusterAddr is a pod's address outside of its VRF, and its own of that family.
type clusterAddr struct{ outside, own packet.Addr }

// VRFEntry is a VRF as workers read it.
type VRFEntry struct {
	VRF
	Router4, Router6 packet.Addr // never unset
	routes           *lpm.Table
}

// Hop is where a route leads; its VRF keeps it as an lpm.Value.
type Hop struct {
	NH    NextHopID
	Label Label
	Bits  uint8 // length of the route's prefix
	Flags HopFlags
}

// HopFlags are what a Route says beside where it leads.
type HopFlags uint8

const (
	ReplyOnly HopFlags = 1 << iota
	Translate
)

// Has reports whether the route says f.
func (h Hop) Has(f HopFlags) bool { return h.Flags&f != 0 }

var (
	router4 = packet.AddrFrom(netip.AddrFrom4([4]byte{169, 254, 1, 1}))
	router6 = packet.AddrFrom(netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1}))
)

// absent stands for every next hop that does not exist. No flow was ever
// decided under generation 0, so flows of a removed next hop are decided anew.
var absent = &NH{head: head{Type: NHDiscard}, Fits: maxMTU}

// Vif returns the vif, nil if there is none.
func (t *Tables) Vif(id VifID) *VifEntry { return t.vifs.get(uint32(id)) }

// VRF returns the VRF, nil if there is none.
func (t *Tables) VRF(id VRFID) *VRFEntry { return t.vrfs.get(uint32(id)) }

// NH returns the next hop; one that does not exist discards. Never nil.
func (t *Tables) NH(id NextHopID) *NH {
	if n := t.nhs.get(uint32(id)); n != nil {
		return n
	}
	return absent
}

// Label returns where packets with label l go.
func (t *Tables) Label(l Label) (NextHopID, bool) {
	n := t.labels.get(uint32(l))
	return n - 1, n != 0
}

// Peer reports whether tunnel packets from a are accepted.
func (t *Tables) Peer(a packet.Addr) bool { return t.peers.has(a) }

// Lookup returns the longest match for a among the routes of vrf.
func (t *Tables) Lookup(vrf VRFID, a packet.Addr) (Hop, bool) {
	v := t.vrfs.get(uint32(vrf))
	if v == nil {
		return Hop{}, false
	}
	to, length, ok := v.routes.Lookup(&a)
	return hopOf(to, length), ok
}

// PortMap returns the address and port that (vip, proto, port) stands for on vif.
func (t *Tables) PortMap(vif VifID, vip packet.Addr, proto uint8, port uint16) (fixed packet.Addr, target uint16, ok bool) {
	if v := t.Vif(vif); v != nil {
		if p := v.ports.Find(&vip, proto, port); p != nil {
			return p.Fixed, p.Target, true
		}
	}
	return packet.Addr{}, 0, false
}

// HasVIP reports whether vif has a port map for any port of vip.
func (t *Tables) HasVIP(vif VifID, vip packet.Addr) bool {
	v := t.Vif(vif)
	return v != nil && v.ports.Has(vip)
}

// Target reports whether some floating IP of the vif is translated to (proto, port).
func (t *Tables) Target(vif VifID, proto uint8, port uint16) bool {
	v := t.Vif(vif)
	return v != nil && v.ports.Leads(proto, port)
}

// Owns reports whether a is one of the addresses the vif may send from.
func (v *VifEntry) Owns(a packet.Addr) bool {
	for i := range v.Sources {
		if v.Sources[i] == a {
			return true
		}
	}
	return false
}

// Sends is Owns for the packet path: an address passed by value is copied to and fro.
func (v *VifEntry) Sends(a *packet.Addr) bool {
	for i := range v.Sources {
		if v.Sources[i] == *a {
			return true
		}
	}
	return false
}

// Outside returns the cluster address that stands for the vif's own address a
// outside of its VRF: the one of a's family.
func (v *VifEntry) Outside(a packet.Addr) (packet.Addr, bool) {
	for i := range v.cluster {
		if c := &v.cluster[i]; c.own.Is4() == a.Is4() {
			return c.outside, true
		}
	}
	return packet.Addr{}, false
}

// Inside returns the vif's own address that cluster address a stands for.
func (v *VifEntry) Inside(a packet.Addr) (packet.Addr, bool) {
	for i := range v.cluster {
		if c := &v.cluster[i]; c.outside == a {
			return c.own, true
		}
	}
	return packet.Addr{}, false
}
