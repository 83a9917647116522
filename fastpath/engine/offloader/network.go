package offloader

import (
	"slices"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Begin tells the cache of the network for the first time, and takes over the flows
// that a predecessor left. Workers must be ready to receive: from here on packets of
// flows that were decided under other generations, all of them, come up. But they must
// not turn yet: this once their tables are written to.
func (o *Offloader) Begin(t *table.Tables) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tables = t
	o.adopt(t)
	o.settle()
	o.update(new(table.Tables), t)
	if err := o.Cache.SetPeers(t.Peers()); err != nil {
		o.failed("set peers", err)
	}
}

// Sync tells the cache what changes, before workers see it. What the order is for:
//
//   - Generations move first. From then on the packets of every flow the change may
//     concern come up; they wait in the punt link until workers have decided under
//     the new tables, or are forwarded under the old ones for that moment, as those
//     that came before them were. Orders that workers give meanwhile name the old
//     generation, and the kernel holds them for stale.
//   - Then what flows lead to changes. Nothing refers to a new next hop yet, nor to
//     one that is gone any more, but through a generation that is still its own;
//     then the worker would send by the changed next hop as well.
//   - Then senders of tunnels, and flows from interfaces and labels that are not what
//     they were, are gone; put looks at orders for the like of them that are on their way.
func (o *Offloader) Sync(t *table.Tables) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tables == nil {
		return // Begin says it all
	}
	old := o.tables
	o.tables = t
	o.update(old, t)
	o.expel(old, t)
}

func (o *Offloader) update(old, t *table.Tables) {
	var set []offload.NextHop
	var remove []uint32
	t.NHChanges(old, func(id table.NextHopID, was, is *table.NH) {
		var gen uint32
		if is != nil {
			gen = is.Gen
		}
		if id < offload.MaxScope && (was == nil || was.Gen != gen) {
			o.Cache.SetGeneration(uint32(id), gen)
		}
		if hop, ok := nextHop(t, is); ok {
			set = append(set, hop)
		} else if was != nil && sends(was.Type) {
			remove = append(remove, uint32(id))
		}
	})
	set = moved(set, old, t)
	if len(set) > 0 {
		if err := o.Cache.SetNextHops(set); err != nil {
			o.failed("set next hops", err)
		}
	}
	if len(remove) > 0 {
		if err := o.Cache.RemoveNextHops(remove); err != nil {
			o.failed("remove next hops", err)
		}
	}
	if !t.SamePeers(old) {
		if err := o.Cache.SetPeers(t.Peers()); err != nil {
			o.failed("set peers", err)
		}
	}
}

// moved adds the tunnels whose device changed: that is no change of the next hop.
func moved(set []offload.NextHop, old, t *table.Tables) []offload.NextHop {
	fabric := false
	t.VifChanges(old, func(_ table.VifID, was, is *table.VifEntry) {
		fabric = fabric || was != nil && is != nil && is.Kind == table.VifFabric
	})
	if !fabric {
		return set
	}
	t.NHChanges(new(table.Tables), func(_ table.NextHopID, _, is *table.NH) {
		if hop, ok := nextHop(t, is); ok && hop.Kind == offload.Tunnel {
			set = append(set, hop)
		}
	})
	return set
}

func sends(t table.NHType) bool {
	return t == table.NHEncap || t == table.NHHost || t == table.NHTunnel || t == table.NHResolve
}

// nextHop is what the cache has to know of n. ok is false when nothing leaves by it.
func nextHop(t *table.Tables, n *table.NH) (hop offload.NextHop, ok bool) {
	if n == nil || !n.Usable {
		return hop, false
	}
	v := t.Vif(n.Vif)
	if v == nil || v.Tap != (table.Tap{}) { // a tap is not delivered to by the kernel
		return hop, false
	}
	hop = offload.NextHop{ID: uint32(n.ID), Ifindex: uint32(v.Ifindex), Eth: n.Eth, MTU: v.MTU}
	switch {
	case n.Type == table.NHTunnel:
		hop.Kind, hop.Encap = offload.Tunnel, offload.UDP
		hop.Src, hop.Dst, hop.MTU = n.Src4, n.Dst4, n.MTU
	case n.Type == table.NHHost, n.Type == table.NHEncap && v.Kind == table.VifHost:
		hop.Kind = offload.Host
	case n.Type == table.NHEncap && v.Kind == table.VifVirtual:
		hop.Kind = offload.Pod
	default:
		return hop, false
	}
	return hop, true
}

// path is what a flow is counted under that vif receives.
func path(t *table.Tables, vif uint32, f *offload.Flow) desk.Path {
	nh := t.NH(table.NextHopID(f.NH))
	p := desk.Path{In: vif, Out: uint32(nh.Vif), InBytes: packet.EthernetLen, OutBytes: packet.EthernetLen}
	if f.From&offload.FromLabel != 0 {
		p.InBytes += packet.TunnelLen
	}
	if nh.Type == table.NHTunnel {
		p.OutBytes += packet.TunnelLen
	}
	return p
}

// expel removes the flows that come from interfaces and labels which are gone or lead
// elsewhere: no generation tells of those.
func (o *Offloader) expel(old, t *table.Tables) {
	gone := map[uint32]struct{}{}
	t.VifChanges(old, func(id table.VifID, was, is *table.VifEntry) {
		if was != nil && (is == nil || is.NH != was.NH || is.VRF != was.VRF || is.Kind != was.Kind || !slices.Equal(is.Addrs, was.Addrs)) {
			gone[uint32(id)] = struct{}{}
		}
	})
	t.LabelChanges(old, func(l table.Label) { gone[offload.FromLabel|uint32(l)] = struct{}{} })
	if len(gone) == 0 {
		return
	}
	for _, k := range o.byKey {
		if _, is := gone[k.key.From]; is {
			o.remove(k, true)
		}
	}
}

// holds says that a flow may still come from where it did when its worker ordered it:
// via is what the interface or the label led to then.
func holds(t *table.Tables, f *offload.Flow, via table.NextHopID) bool {
	if f.From&offload.FromLabel != 0 {
		nh, ok := t.Label(table.Label(f.From &^ offload.FromLabel))
		return ok && nh == via
	}
	v := t.Vif(table.VifID(f.From))
	return v != nil && v.NH == via && (v.Kind != table.VifVirtual || v.Owns(f.Src))
}
