package table

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/ecmp"
)

// Out says how packets leave by a next hop: in one byte, where Type is a text.
type Out uint8

const (
	OutNowhere Out = iota // it discards, or leads to others
	OutVif                // encap, host: in a frame to the vif To
	OutTunnel             // tunnel, resolve: wrapped, by the fabric vif To
)

// NH is a next hop as workers read it, resolved down to header bytes.
type NH struct {
	// What packets of flows that are known read.
	To   *VifEntry // nil: nothing leaves
	Fits int       // bytes: the largest IP packet that can leave by it
	// Gen changes whenever something changes that a flow decided under this
	// next hop may depend on; see Builder. 0 only for one that does not exist.
	Gen uint32
	Out Out
	// Usable: a packet sent here can leave. False for a tunnel whose neighbour
	// is not known and for a composite no member of which takes new flows.
	Usable     bool
	Src4, Dst4 [4]byte // tunnel: outer addresses
	// Eth is the frame header of encap, host and tunnel. Its EtherType is IPv4's.
	Eth [14]byte

	head
	ecmp.Composite
	Listeners []Listener // service
}

// head is a NextHop without its lists.
type head struct {
	ID             NextHopID
	Type           NHType
	Vif            VifID
	VRF            VRFID
	Sip, Dip       netip.Addr
	SrcMAC, DstMAC MAC
	MTU            int // bytes, outer IP packet
	Proto          uint8
	Port           uint16
	Affinity       uint32 // seconds
}

// Listener returns what serves (proto, port). A composite that is the whole of a
// VIP is its own listener, for its Proto and Port alone.
func (n *NH) Listener(proto uint8, port uint16) (Listener, bool) {
	switch n.Type {
	case NHComposite:
		return Listener{Proto: proto, Port: port, NH: n.ID}, n.Port == 0 || n.Port == port && n.Proto == proto
	case NHService:
		for i := range n.Listeners {
			if l := &n.Listeners[i]; l.Port == port && l.Proto == proto {
				return *l, true
			}
		}
	}
	return Listener{}, false
}

// newNH copies n, so that nothing the caller keeps can change it.
func newNH(n *NextHop) *NH {
	h := n.head()
	h.Type = constant(h.Type, NHDiscard, NHEncap, NHTunnel, NHComposite, NHService, NHVRFTranslate, NHHost, NHResolve)
	return &NH{head: h, Composite: ecmp.New(n.Members), Listeners: append([]Listener(nil), n.Listeners...)}
}

// constant returns the one of known that text equals, rather than a copy that was decoded
// for each object.
func constant[T ~string](text T, known ...T) T {
	if i := slices.Index(known, text); i >= 0 {
		return known[i]
	}
	return text
}

// equalNH reports whether a is what newNH would make of b.
func equalNH(a *NH, b *NextHop) bool {
	return a.head == b.head() && a.Composite.Equal(b.Members) && slices.Equal(a.Listeners, b.Listeners)
}

// head writes IPv4 addresses one way.
func (n *NextHop) head() head {
	return head{
		ID: n.ID, Type: n.Type, Vif: n.Vif, VRF: n.VRF, Sip: n.Sip.Unmap(), Dip: n.Dip.Unmap(), SrcMAC: n.SrcMAC, DstMAC: n.DstMAC, MTU: n.MTU,
		Proto: n.Proto, Port: n.Port, Affinity: n.Affinity,
	}
}

// nextHop is n as it was put in, without the members.
func (n *NH) nextHop() NextHop {
	return NextHop{
		ID: n.ID, Type: n.Type, Vif: n.Vif, VRF: n.VRF, Sip: n.Sip, Dip: n.Dip, SrcMAC: n.SrcMAC, DstMAC: n.DstMAC, MTU: n.MTU,
		Proto: n.Proto, Port: n.Port, Affinity: n.Affinity, Listeners: n.Listeners,
	}
}

// resolve derives from the other tables what workers read of n.
func (n *NH) resolve(t *Tables) {
	n.Usable = n.Type != NHDiscard
	n.Out, n.To, n.Fits = OutNowhere, nil, maxMTU
	switch n.Type {
	case NHEncap, NHHost:
		if v := t.Vif(n.Vif); v != nil {
			n.Out, n.To, n.Fits = OutVif, v, v.MTU
			n.Eth = ethernet(v.MAC, RouterMAC)
		}
	case NHTunnel, NHResolve:
		n.Out, n.To = OutTunnel, t.Vif(n.Vif)
		if n.Type == NHTunnel {
			n.Fits = n.MTU - packet.TunnelLen
		}
		n.Usable = n.Type == NHTunnel && n.DstMAC != MAC{}
		n.Src4, n.Dst4 = packet.AddrFrom(n.Sip).As4(), packet.AddrFrom(n.Dip).As4()
		n.Eth = ethernet(n.DstMAC, n.SrcMAC)
	case NHComposite:
		n.Open(func(id NextHopID) bool { to := t.NH(id); return to.Usable && mayBeMember(to.Type) })
		n.Usable = n.Takers() > 0
	case NHService:
		n.Usable = slices.ContainsFunc(n.Listeners, func(l Listener) bool { return t.NH(l.NH).Usable || t.NH(l.OutsideNH).Usable })
	}
}

// mayBeMember reports whether next hops of type t send packets somewhere
// themselves, rather than choose.
func mayBeMember(t NHType) bool {
	return t == NHEncap || t == NHTunnel || t == NHResolve || t == NHHost
}

func ethernet(dst, src MAC) (h [14]byte) {
	copy(h[0:], dst[:])
	copy(h[6:], src[:])
	h[12], h[13] = 0x08, 0x00
	return h
}
