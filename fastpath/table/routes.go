package table

import "net/netip"

// A change to a shared trie copies its way down, some hundred times the cost of
// a change in place; a copy of the whole trie costs a fraction of a change in
// place for each route. Copying pays when a delta changes one route in copyAt.
const copyAt = 256

// routeEdit decides how the routes of each VRF are changed.
type routeEdit struct {
	changes map[VRFID]int
	copied  map[VRFID]struct{} // VRFs whose trie is this edit's own
}

func newRouteEdit(d *Delta) routeEdit {
	r := routeEdit{map[VRFID]int{}, map[VRFID]struct{}{}}
	for i := range d.Upsert.Routes {
		r.changes[d.Upsert.Routes[i].VRF]++
	}
	for i := range d.Remove.Routes {
		r.changes[d.Remove.Routes[i].VRF]++
	}
	return r
}

// inPlace reports whether v's trie may be changed, and makes it so if that pays.
func (r *routeEdit) inPlace(v *VRFEntry) bool {
	if has(r.copied, v.ID) {
		return true
	}
	if r.changes[v.ID]*copyAt < v.routes.Size() {
		return false
	}
	v.routes = v.routes.Clone()
	r.copied[v.ID] = struct{}{}
	return true
}

func (r *routeEdit) insert(v *VRFEntry, p netip.Prefix, hop Hop) {
	if r.inPlace(v) {
		v.routes.Insert(p, hop)
	} else {
		v.routes = v.routes.InsertPersist(p, hop)
	}
}

func (r *routeEdit) remove(v *VRFEntry, p netip.Prefix) {
	if r.inPlace(v) {
		v.routes.Delete(p)
	} else {
		v.routes = v.routes.DeletePersist(p)
	}
}

func (e *edit) putRoute(r *Route) error {
	if err := e.checkRoute(r); err != nil {
		return err
	}
	v := e.tables.VRF(r.VRF)
	hop := r.hop()
	old, ok := v.routes.Get(r.Prefix)
	if ok && old == hop {
		return nil
	}
	if ok {
		e.index.countNH(e.stamp, old.NH, -1)
	} else {
		old, _ = v.routes.LookupPrefix(r.Prefix) // the covering route; none: next hop 0
	}
	e.routed[old.NH] = struct{}{}
	e.index.countNH(e.stamp, r.NH, +1)
	e.routes.insert(e.ownVRF(r.VRF), r.Prefix, hop)
	return nil
}

func (e *edit) removeRoute(k RouteKey) {
	v := e.tables.VRF(k.VRF)
	if v == nil {
		return
	}
	old, ok := v.routes.Get(k.Prefix)
	if !ok {
		return
	}
	e.index.countNH(e.stamp, old.NH, -1)
	e.routed[old.NH] = struct{}{}
	e.routes.remove(e.ownVRF(k.VRF), k.Prefix)
}
