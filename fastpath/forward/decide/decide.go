// Package decide settles what the first packet of a flow settles for all that
// follow: route, service, member, translation and the way back. It owns nothing: it
// reads one view of the tables and what is remembered of clients, and writes only
// its answer, so that a trace decides as a packet does. It does not find, make or
// change flow entries.
package decide

import (
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// View is what decisions depend on beside the packet.
type View struct {
	*table.Tables
	Clients *affinity.Table
	Now     uint64 // ns, CLOCK_MONOTONIC
}

// Packet is what a decision reads of a packet: who sent it, in which VRF it is, and
// its headers.
type Packet struct {
	Vif    *table.VifEntry // received from
	Fabric bool
	VRF    table.VRFID
	KeyNH  table.NextHopID
	Label  table.NextHopID // next hop of the label; 0 from a vif
	Peer   packet.Addr     // outer source
	Info   packet.Info
}

// Midstream says that p belongs to a connection that began before, whose flow may be
// forgotten. Only TCP tells.
func (p *Packet) Midstream() bool {
	return p.Info.Tuple.Proto == packet.ProtoTCP && p.Info.TCPFlags&(packet.SYN|packet.ACK) != packet.SYN
}

// FromPod says that a pod of this node sent p.
func (p *Packet) FromPod() bool { return p.Vif.Kind == table.VifVirtual }

// Decision is what becomes of a flow.
type Decision struct {
	// Reason is not none when the packet is refused.
	Reason reason.Reason

	// Forward direction: where it goes and as what.
	To    packet.Tuple    // after NAT
	NH    table.NextHopID // encap, host or tunnel
	Push  table.Label
	Scope table.NextHopID // decided under: the next hop of the route or label
	// ECMP is the chosen member's position in Composite, -1: none was chosen.
	ECMP      int
	Composite table.NextHopID

	// Affinity: what to remember when the flow is made.
	Client uint64 // tag of client and composite, 0: nothing
	Key    uint64 // of the member

	// Reverse direction: what a reply is received as, and how it goes back.
	KeyNH   table.NextHopID
	Back    way.Back
	Hairpin bool
}

// maxChain bounds the next hops of one decision: service, composite, end.
const maxChain = 3

// First settles the flow of a packet that has no entry. What is in the middle of a
// connection and may go only as a reply is one: it waits for the other direction to
// make the flow anew.
func (v *View) First(p *Packet, d *Decision) {
	if v.Flow(p, d); d.Reason == reason.Isolated && p.Midstream() {
		d.Reason = reason.NoFlow
	}
}

// Flow settles the flow of p, also one that has an entry.
func (v *View) Flow(p *Packet, d *Decision) {
	*d = Decision{To: p.Info.Tuple, ECMP: -1}
	var hop table.Hop
	hop, d.Reason = v.root(p)
	d.Scope, d.Push = hop.NH, hop.Label
	if d.Reason == reason.None {
		d.To.Src, d.Reason = source(p, hop)
	}
	if d.Reason == reason.None {
		d.Reason = v.follow(p, d, hop.NH)
	}
	if d.Reason == reason.None {
		d.Reason = v.destination(p, d)
	}
	if d.Reason == reason.None {
		d.Reason = v.WayBack(p, d)
	}
}

// root finds what a decision begins with: the next hop of the label, or of the
// route in the VRF, or in the VRF which that leads to. Whether it is for replies
// only, and whether it translates, the sender's own route says. What comes with a
// label has been decided by the sender's node, but for one thing its routes do not
// show: cluster addresses lie in blocks that are open, and are for replies only.
func (v *View) root(p *Packet) (table.Hop, reason.Reason) {
	dst := p.Info.Tuple.Dst
	hop, ok := table.Hop{NH: p.Label}, true
	if !p.Fabric {
		hop, ok = v.lookup(p, dst)
	}
	if hop.Has(table.ReplyOnly) && (p.FromPod() || v.led(p)) {
		return hop, reason.Isolated
	}
	if nh := v.NH(hop.NH); ok && nh.Type == table.NHVRFTranslate {
		flags := hop.Flags
		if hop, ok = v.Lookup(nh.VRF, dst); p.Fabric && hop.Has(table.ReplyOnly) {
			return hop, reason.Isolated
		}
		hop.Flags = flags
	}
	if !ok || dst.IsLinkLocal() {
		return hop, reason.NoRoute
	}
	return hop, reason.None
}

// led says that the host passes on what a pod of the cluster has sent: only what it
// sends itself goes everywhere. To clients outside it has the way.
func (v *View) led(p *Packet) bool {
	if p.Fabric || p.Vif.Kind != table.VifHost || p.Vif.Owns(p.Info.Tuple.Src) {
		return false
	}
	back, ok := v.Lookup(p.VRF, p.Info.Tuple.Src)
	return ok && back.NH != p.Vif.NH
}

// lookup finds the sender's route. A pod reaches itself at its cluster address,
// whatever its VRF knows of that: by the host it would go round.
func (v *View) lookup(p *Packet, dst packet.Addr) (table.Hop, bool) {
	if _, itself := p.Vif.Inside(dst); itself {
		return table.Hop{NH: p.Vif.NH}, true
	}
	return v.Lookup(p.VRF, dst)
}

// source is what the packet's source becomes: who leaves its VRF by a route that
// translates does so with its cluster address.
func source(p *Packet, hop table.Hop) (packet.Addr, reason.Reason) {
	src := p.Info.Tuple.Src
	if !hop.Has(table.Translate) || !p.FromPod() {
		return src, reason.None
	}
	src, ok := p.Vif.Outside(src)
	if !ok {
		return src, reason.NoClusterAddr
	}
	return src, reason.None
}

// follow walks next hops until one that sends.
func (v *View) follow(p *Packet, d *Decision, id table.NextHopID) reason.Reason {
	for range maxChain {
		nh := v.NH(id)
		switch nh.Type {
		case table.NHEncap, table.NHHost:
			d.NH = id
			return reason.None
		case table.NHTunnel, table.NHResolve:
			d.NH = id
			if p.Fabric {
				return reason.PacketLoop
			}
			if !nh.Usable {
				return reason.Unresolved
			}
			return reason.None
		case table.NHService:
			l, ok := listener(p, nh)
			if !ok {
				return reason.NoListener
			}
			if id = l.NH; outside(p, &l) {
				id = l.OutsideNH
			}
		case table.NHComposite:
			m, r := v.choose(p, d, nh)
			if r != reason.None {
				return r
			}
			id, d.Push = m.NH, m.Label
		default:
			return reason.NoRoute
		}
	}
	return reason.PacketLoop
}

// listener finds what serves the destination port for the sender.
func listener(p *Packet, nh *table.NH) (table.Listener, bool) {
	l, ok := nh.Listener(p.Info.Tuple.Proto, p.Info.Tuple.Dport)
	return l, ok && (!l.HostOnly || p.Vif.Kind == table.VifHost)
}

// outside says that a listener has another composite for p, which comes by the host
// from a client outside of the cluster.
func outside(p *Packet, l *table.Listener) bool {
	return l.OutsideNH != 0 && p.Vif.Kind == table.VifHost && !p.Vif.Owns(p.Info.Tuple.Src)
}

// destination translates what is delivered here and still addressed to a floating
// IP (DNAT, DPAT) or to a cluster address: it becomes the pod's own. A pod that
// reaches itself sees what it called itself as the source, or it would answer itself.
func (v *View) destination(p *Packet, d *Decision) reason.Reason {
	nh := v.NH(d.NH)
	to := v.Vif(nh.Vif)
	switch {
	case nh.Type == table.NHHost && p.Vif.Kind != table.VifHost && way.ToUnderlay(v.Tables, &d.To):
		return reason.TunnelFromPod // as a backend that somebody named
	case nh.Type == table.NHHost && to == p.Vif:
		return turnBack(p, d)
	case nh.Type != table.NHEncap:
		return reason.None
	case to == nil:
		return reason.NoRoute
	case to.Owns(d.To.Dst):
		return reason.None
	}
	own, target, ok := v.PortMap(to.ID, d.To.Dst, d.To.Proto, d.To.Dport)
	if !ok {
		own, ok = to.Inside(d.To.Dst)
		target = d.To.Dport
	}
	if !ok {
		return reason.NoPortMap
	}
	if d.To.Src == own {
		d.To.Src, d.Hairpin = d.To.Dst, true
	}
	d.To.Dst, d.To.Dport = own, target
	return reason.None
}

// turnBack is for what the host sends to a backend that is no VMI: it gets that
// back to send it on. The kernel takes nothing from its own address, and replies
// must come back here, so the source becomes the floating IP. What nothing
// translates would go round for ever.
func turnBack(p *Packet, d *Decision) reason.Reason {
	if d.To == p.Info.Tuple {
		return reason.PacketLoop
	}
	d.To.Src, d.Hairpin = p.Info.Tuple.Dst, true
	return reason.None
}

// WayBack settles how replies to what goes to d.NH are received and sent.
func (v *View) WayBack(p *Packet, d *Decision) (why reason.Reason) {
	d.KeyNH = d.NH
	if v.NH(d.NH).Type == table.NHTunnel {
		d.KeyNH = p.KeyNH
	}
	if p.Fabric {
		d.Back, why = way.Behind(v.Tables, p.VRF, p.Info.Tuple.Src, p.Peer)
		return why
	}
	d.Back = way.Back{NH: p.Vif.NH, Scope: p.Vif.NH}
	return v.impostor(p)
}

// impostor finds TCP replies of a backend whose flow is not here: sent on as they
// are, with the pod's own address, they would break the client's connection. Other
// protocols do not tell a reply from a first packet, and a pod may send those from
// the port it serves.
func (v *View) impostor(p *Packet) reason.Reason {
	in := &p.Info.Tuple
	if p.FromPod() && p.Midstream() && v.Target(p.Vif.ID, in.Proto, in.Sport) {
		return reason.NoFlow
	}
	return reason.None
}
