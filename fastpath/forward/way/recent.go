package way

import (
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Recent remembers where tunnels led, by what many packets have in common: a peer and a
// label, and an address of this node's pods. One worker owns it. Views of the tables
// are numbered, from 1: of other tables nothing is believed.
type Recent struct {
	tunnels [1 << 8]Tunnel
	ends    [1 << 8]end
}

// Tunnel is what a peer and a label mean here.
type Tunnel struct {
	Peer    packet.Addr
	label   uint32
	view    uint32          // 0: nothing
	NH      table.NextHopID // of the label
	VRF     table.VRFID     // what comes out is in it
	Refused reason.Reason   // peer or label is not known
	Dead    reason.Reason   // nothing comes out, whatever it is
	ByRoute bool            // the label says only the VRF
}

// end is where a route of a VRF that a label named leads.
type end struct {
	dst    packet.Addr
	vrf    table.VRFID
	view   uint32 // 0: nothing
	nh     table.NextHopID
	reason reason.Reason
}

// Tunnel says what t knows of who sent outer, and of its label. Valid until the next call.
func (r *Recent) Tunnel(t *table.Tables, view uint32, outer *packet.Tunnel) *Tunnel {
	f := &r.tunnels[place(&outer.Src, outer.Label)]
	if f.view != view || f.label != outer.Label || f.Peer != outer.Src {
		f.learn(t, view, outer)
	}
	return f
}

// place is where what is known of a and n is kept: addresses that differ in the last byte
// have each their own.
func place(a *packet.Addr, n uint32) uint32 { return (a.Last() + n) * 0x9E3779B1 >> 24 }

func (f *Tunnel) learn(t *table.Tables, view uint32, outer *packet.Tunnel) {
	*f = Tunnel{Peer: outer.Src, label: outer.Label, view: view}
	id, ok := t.Label(table.Label(outer.Label))
	switch {
	case !t.Peer(outer.Src):
		f.Refused = reason.UnknownPeer
		return
	case !ok:
		f.Refused = reason.InvalidLabel
		return
	}
	f.NH = id
	switch nh := t.NH(id); nh.Type {
	case table.NHVRFTranslate:
		f.VRF, f.ByRoute = nh.VRF, true
	case table.NHEncap, table.NHHost:
		f.VRF = t.Vif(nh.Vif).VRF
	case table.NHComposite, table.NHService:
		f.VRF = VRFOf(t, nh)
	default:
		f.Dead = reason.InvalidLabel
	}
}

// End finds the next hop here that a packet to dst is for which came by a label that
// leads to vrf; 0: none, and whoever decides on its flow says why.
func (r *Recent) End(t *table.Tables, view uint32, vrf table.VRFID, dst *packet.Addr) (table.NextHopID, reason.Reason) {
	e := &r.ends[place(dst, uint32(vrf))]
	if e.view != view || e.vrf != vrf || e.dst != *dst {
		e.learn(t, view, vrf, dst)
	}
	return e.nh, e.reason
}

func (e *end) learn(t *table.Tables, view uint32, vrf table.VRFID, dst *packet.Addr) {
	*e = end{dst: *dst, vrf: vrf, view: view}
	hop, ok := t.Lookup(vrf, *dst)
	if !ok {
		return // no route
	}
	switch t.NH(hop.NH).Type {
	case table.NHTunnel, table.NHResolve:
		e.reason = reason.PacketLoop
	case table.NHEncap, table.NHHost, table.NHComposite, table.NHService:
		e.nh = hop.NH
	}
}
