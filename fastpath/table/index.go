package table

import "slices"

// index is who refers to whom: what must not dangle, and whom a change concerns.
// Its versions share pages and backing arrays as those of Tables do; history is
// linear, so a backing array's free tail belongs to the next version.
type index struct {
	nhRefs  array[int]         // how many routes, labels and vifs lead to a next hop
	users   array[[]NextHopID] // composites and services that list a next hop
	vifNHs  array[[]NextHopID] // next hops that name a vif
	vrfRefs array[int]         // how many vifs and vrf-translate next hops name a VRF
}

func (x *index) countNH(edit uint64, id NextHopID, by int) {
	x.nhRefs.set(edit, uint32(id), x.nhRefs.get(uint32(id))+by)
}

func (x *index) countVRF(edit uint64, id VRFID, by int) {
	x.vrfRefs.set(edit, uint32(id), x.vrfRefs.get(uint32(id))+by)
}

func (x *index) linkVif(edit uint64, v *Vif) {
	x.countNH(edit, v.NH, +1)
	x.countVRF(edit, v.VRF, +1)
}

func (x *index) unlinkVif(edit uint64, v *Vif) {
	x.countNH(edit, v.NH, -1)
	x.countVRF(edit, v.VRF, -1)
}

// relinkNH replaces the references that old makes by those of new; either may be nil.
func (x *index) relinkNH(edit uint64, old, new *NH) {
	var was, is []NextHopID
	if old != nil {
		was = old.targets()
	}
	if new != nil {
		is = new.targets()
	}
	if old == nil || new == nil || old.Vif != new.Vif {
		x.linkNHVif(edit, old, -1)
		x.linkNHVif(edit, new, +1)
	}
	if old == nil || new == nil || old.Type != new.Type || old.VRF != new.VRF {
		x.linkNHVRF(edit, old, -1)
		x.linkNHVRF(edit, new, +1)
	}
	for len(was)+len(is) > 0 {
		switch {
		case len(is) == 0 || len(was) > 0 && was[0] < is[0]:
			drop(&x.users, edit, uint32(was[0]), old.ID)
			was = was[1:]
		case len(was) == 0 || is[0] < was[0]:
			add(&x.users, edit, uint32(is[0]), new.ID)
			is = is[1:]
		default:
			was, is = was[1:], is[1:]
		}
	}
}

// linkNHVif makes (+1) or undoes (-1) n's reference to its vif; n may be nil. Of the
// fabric's vif each costs a walk over all tunnels.
func (x *index) linkNHVif(edit uint64, n *NH, by int) {
	switch {
	case n == nil || n.Vif == 0:
	case by > 0:
		add(&x.vifNHs, edit, uint32(n.Vif), n.ID)
	default:
		drop(&x.vifNHs, edit, uint32(n.Vif), n.ID)
	}
}

// linkNHVRF is linkNHVif for the VRF that n looks up in.
func (x *index) linkNHVRF(edit uint64, n *NH, by int) {
	if n != nil && n.Type == NHVRFTranslate {
		x.countVRF(edit, n.VRF, by)
	}
}

func add(a *array[[]NextHopID], edit uint64, at uint32, id NextHopID) {
	a.set(edit, at, append(a.get(at), id))
}

func drop(a *array[[]NextHopID], edit uint64, at uint32, id NextHopID) {
	old := a.get(at)
	ids := make([]NextHopID, 0, len(old))
	for _, other := range old {
		if other != id {
			ids = append(ids, other)
		}
	}
	if len(ids) == 0 {
		ids = nil
	}
	a.set(edit, at, ids)
}

// targets returns the next hops that n lists, sorted, each once.
func (n *NH) targets() []NextHopID {
	ids := make([]NextHopID, 0, len(n.Members)+2*len(n.Listeners))
	for i := range n.Members {
		if n.Members[i].NH != 0 {
			ids = append(ids, n.Members[i].NH)
		}
	}
	for i := range n.Listeners {
		ids = append(ids, n.Listeners[i].NH)
		if outside := n.Listeners[i].OutsideNH; outside != 0 {
			ids = append(ids, outside)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
