package table

import "github.com/vragent/vragent/fastpath/table/lpm"

// A Hop as the value of a prefix: next hop, label and flags; Bits is the prefix's.
const (
	labelBits = 20
	flagBits  = 8

	_ = uint64(lpm.MaxValue - (MaxID<<(labelBits+flagBits) | MaxLabel<<flagBits | (1<<flagBits - 1))) // it fits, or this does not compile
)

func (h Hop) value() lpm.Value {
	return lpm.Value(h.NH)<<(labelBits+flagBits) | lpm.Value(h.Label)<<flagBits | lpm.Value(h.Flags)
}

func hopOf(v lpm.Value, length int) Hop {
	return Hop{NH: NextHopID(v >> (labelBits + flagBits)), Label: Label(v >> flagBits & (1<<labelBits - 1)),
		Bits: uint8(length), Flags: HopFlags(v & (1<<flagBits - 1))}
}

// ownRoutes returns a VRF whose routes this edit may change.
func (e *edit) ownRoutes(id VRFID) *VRFEntry {
	v := e.ownVRF(id)
	if !has(e.routes, id) {
		v.routes = v.routes.Clone()
		e.routes[id] = struct{}{}
	}
	return v
}

func (e *edit) putRoute(r *Route) error {
	if err := e.checkRoute(r); err != nil {
		return err
	}
	was, length, ok := e.tables.VRF(r.VRF).routes.Covering(r.Prefix)
	hop := r.hop()
	old := hopOf(was, length) // the route as it is or the one that covers it; none: next hop 0
	if ok && old == hop {
		return nil
	}
	if ok && old.Bits == hop.Bits {
		e.index.countNH(e.stamp, old.NH, -1)
	}
	e.routed[old.NH] = struct{}{}
	e.index.countNH(e.stamp, r.NH, +1)
	e.ownRoutes(r.VRF).routes.Insert(r.Prefix, hop.value())
	return nil
}

func (e *edit) removeRoute(k RouteKey) {
	v := e.tables.VRF(k.VRF)
	if v == nil {
		return
	}
	p := k.Prefix.Masked()
	was, ok := v.routes.Get(p)
	if !ok {
		return
	}
	old := hopOf(was, p.Bits())
	e.index.countNH(e.stamp, old.NH, -1)
	e.routed[old.NH] = struct{}{}
	e.ownRoutes(k.VRF).routes.Delete(p)
}
