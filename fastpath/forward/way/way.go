// Package way reads from the tables what a decision asks of them: how replies get
// back, and whether a sender is where it says (RPF); what a next hop or a label leads to.
// It looks at one view; what a worker has asked lately, a Recent remembers as long as
// that lasts. It does not choose or translate.
package way

import (
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Back is the way back to the sender of a flow.
type Back struct {
	NH    table.NextHopID // encap, host or tunnel
	Push  table.Label
	Scope table.NextHopID // the next hop of the route
}

// Behind finds the way to a at the far side of the fabric, which must end at peer
// unless that is unset (RPF). Of several ways to a it is the one by peer, or the
// first that is open.
func Behind(t *table.Tables, vrf table.VRFID, a, peer packet.Addr) (Back, reason.Reason) {
	hop, ok := t.Lookup(vrf, a)
	nh := t.NH(hop.NH)
	switch {
	case !ok:
	case IsService(nh):
		return Back{}, reason.NoFlow // a reply of a service whose flow is not here (any more)
	case nh.Type == table.NHComposite:
		for i := range nh.Members {
			if m := &nh.Members[i]; endsAt(t.NH(m.NH), peer) {
				return Back{m.NH, m.Label, hop.NH}, reason.None
			}
		}
	case endsAt(nh, peer):
		return Back{hop.NH, hop.Label, hop.NH}, reason.None
	}
	return Back{}, reason.InvalidSource
}

// endsAt says that nh is the tunnel to peer, or any usable one if peer is unset.
func endsAt(nh *table.NH, peer packet.Addr) bool {
	if nh.Type != table.NHTunnel && nh.Type != table.NHResolve {
		return false
	}
	return packet.AddrFrom(nh.Dip) == peer || peer == packet.Addr{} && nh.Usable
}

// IsService says that a route or label leads to a VIP, rather than by several roads
// to a prefix.
func IsService(nh *table.NH) bool {
	return nh.Type == table.NHService || nh.Type == table.NHComposite && nh.Port != 0
}

// ToUnderlay says that a packet would pass for a tunnel's where it arrives.
func ToUnderlay(t *table.Tables, to *packet.Tuple) bool {
	return to.Proto == packet.ProtoUDP && to.Dport == packet.TunnelPort && t.Underlay(to.Dst)
}

// VRFOf is the VRF of a VIP that has a label: if the next hop does not say, that of
// the backends here.
func VRFOf(t *table.Tables, nh *table.NH) table.VRFID {
	vrf := vrfOf(t, nh)
	for i := 0; vrf == 0 && i < len(nh.Listeners); i++ {
		vrf = vrfOf(t, t.NH(nh.Listeners[i].NH))
	}
	return vrf
}

func vrfOf(t *table.Tables, nh *table.NH) table.VRFID {
	if nh.VRF != 0 {
		return nh.VRF
	}
	for i := range nh.Members {
		if to := t.NH(nh.Members[i].NH); to.Type == table.NHEncap {
			return t.Vif(to.Vif).VRF
		}
	}
	return 0
}
