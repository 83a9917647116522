package table

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/lpm"
	"github.com/vragent/vragent/fastpath/table/portmap"
)

// edit is the next version of the tables while it is being made. It shares what
// it does not change with the version before; to give it up is to forget it.
type edit struct {
	// Set once by Builder.edit.
	stamp  uint64
	replay *replay // open replay, or nil

	// The next version.
	tables  Tables
	index   index
	changed bool

	owned

	// What happened, for derive.
	was      map[NextHopID]*NH      // changed and removed next hops as they were; nil: new
	routed   map[NextHopID]struct{} // next hops whose flows a changed route may lead elsewhere
	remapped map[VifID]struct{}     // vifs with other port maps
	bump     map[NextHopID]struct{} // next hops whose generation moves
}

// owned holds what no published version shares: an edit may change it.
type owned struct {
	nhs    map[NextHopID]*NH
	vifs   map[VifID]*VifEntry // nil: removed
	vrfs   map[VRFID]*VRFEntry // nil: removed
	routes map[VRFID]struct{}  // VRFs that do not share their routes
}

// apply makes the upserts of d in the order in which things refer to each
// other, then its removals, and checks every reference that may have broken.
func (e *edit) apply(d *Delta) error {
	u, r := &d.Upsert, &d.Remove
	for _, step := range []func() error{
		func() error { return u.unique() },
		func() error { return each(u.VRFs, e.putVRF) },
		func() error { return each(u.Vifs, e.putVif) },
		func() error { return each(u.NextHops, e.putNH) },
		func() error { return each(u.Vifs, e.checkVif) },
		func() error { return each(u.NextHops, e.checkNH) },
		func() error { return each(u.Labels, e.putLabel) },
		func() error { return each(u.PortMaps, e.putPortMap) },
		func() error { return each(u.Routes, e.putRoute) },
		func() error { return e.putPeers(u.Peers, r.Peers) },
		func() error { return e.remove(r) },
		func() error { return each(u.Vifs, e.checkVifUsers) },
		func() error { return e.checkRetyped() },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// object is a pointer to something of a State that can say which one it is.
type object[T any] interface {
	*T
	name() string
}

// each calls do for every object and names the one it refuses.
func each[T any, P object[T]](list []T, do func(*T) error) error {
	for i := range list {
		if err := do(&list[i]); err != nil {
			return fmt.Errorf("%s: %w", P(&list[i]).name(), err)
		}
	}
	return nil
}

func (e *edit) putVRF(v *VRF) error {
	if err := v.check(); err != nil {
		return err
	}
	n := VRF{ID: v.ID, Name: v.Name, Router4: v.Router4.Unmap(), Router6: v.Router6}
	entry := &VRFEntry{VRF: n, Router4: router4, Router6: router6}
	if n.Router4.IsValid() {
		entry.Router4 = packet.AddrFrom(n.Router4)
	}
	if n.Router6.IsValid() {
		entry.Router6 = packet.AddrFrom(n.Router6)
	}
	if old := e.tables.VRF(v.ID); old == nil {
		entry.routes = new(lpm.Table)
	} else if old.VRF == n {
		return nil
	} else {
		entry.routes = old.routes
	}
	e.setVRF(v.ID, entry)
	return nil
}

func (e *edit) putVif(v *Vif) error {
	if err := v.check(); err != nil {
		return err
	}
	entry := newVif(v)
	old := e.tables.Vif(v.ID)
	if old != nil {
		if equalVif(&old.Vif, &entry.Vif) {
			return nil
		}
		entry.ports = old.ports.Clone()
		e.index.unlinkVif(e.stamp, &old.Vif)
		if v.NH != 0 && (old.VRF != v.VRF || !sameAddrs(&old.Vif, &entry.Vif)) {
			e.bump[v.NH] = struct{}{}
		}
	}
	e.index.linkVif(e.stamp, &entry.Vif)
	e.setVif(v.ID, entry)
	return nil
}

// newVif copies v and resolves its addresses for workers.
func newVif(v *Vif) *VifEntry {
	entry := &VifEntry{Vif: *v, Pod: v.Kind == VifVirtual, Fabric: v.Kind == VifFabric}
	entry.Kind = constant(v.Kind, VifFabric, VifHost, VifVirtual)
	entry.Addrs, entry.ClusterAddrs = nil, nil
	for _, a := range v.Addrs {
		entry.Addrs = append(entry.Addrs, a.Unmap())
		entry.Sources = append(entry.Sources, packet.AddrFrom(a))
	}
	for _, a := range v.ClusterAddrs {
		entry.ClusterAddrs = append(entry.ClusterAddrs, a.Unmap())
		own, _ := v.ofFamily(a)
		entry.cluster = append(entry.cluster, clusterAddr{outside: packet.AddrFrom(a), own: packet.AddrFrom(own)})
	}
	return entry
}

func sameAddrs(a, b *Vif) bool {
	return slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.ClusterAddrs, b.ClusterAddrs)
}

func equalVif(x, y *Vif) bool {
	return sameAddrs(x, y) && x.ID == y.ID && x.Kind == y.Kind && x.Name == y.Name &&
		x.Ifindex == y.Ifindex && x.VRF == y.VRF && x.NH == y.NH && x.MAC == y.MAC && x.MTU == y.MTU &&
		x.Tap == y.Tap && x.Owner == y.Owner && x.VMI == y.VMI
}

func (e *edit) putNH(n *NextHop) error {
	if err := n.check(); err != nil {
		return err
	}
	if n.ID == 0 {
		return nil // always there
	}
	old := e.tables.nhs.get(uint32(n.ID))
	if old != nil && equalNH(old, n) {
		return nil
	}
	entry := newNH(n)
	if old != nil {
		entry.Gen = old.Gen
	}
	e.index.relinkNH(e.stamp, old, entry)
	e.was[n.ID], e.nhs[n.ID] = old, entry
	e.tables.nhs.set(e.stamp, uint32(n.ID), entry)
	e.changed = true
	return nil
}

func (e *edit) putLabel(l *LabelEntry) error {
	if err := e.checkLabel(l); err != nil {
		return err
	}
	old, ok := e.tables.Label(l.Label)
	if ok && old == l.NH {
		return nil
	}
	if ok {
		e.index.countNH(e.stamp, old, -1)
	}
	e.index.countNH(e.stamp, l.NH, +1)
	e.tables.labels.set(e.stamp, uint32(l.Label), l.NH+1)
	e.changed = true
	return nil
}

func (e *edit) putPortMap(m *PortMap) error {
	if err := m.check(); err != nil {
		return err
	}
	v := e.tables.Vif(m.Vif)
	if v == nil {
		return errors.New("the vif is unknown")
	}
	p := portmap.Entry{VIP: packet.AddrFrom(m.VIP), Fixed: packet.AddrFrom(m.Fixed), Proto: m.Proto, Port: m.Port, Target: m.Target}
	if v.ports.Holds(&p) {
		return nil
	}
	e.ownVif(m.Vif).ports.Put(&p)
	e.remapped[m.Vif] = struct{}{}
	return nil
}

func (e *edit) putPeers(upsert, remove []netip.Addr) error {
	if len(upsert)+len(remove) == 0 {
		return nil
	}
	peers := e.tables.peers
	wanted := make(map[packet.Addr]struct{}, peers.count+len(upsert))
	for _, p := range peers.list() {
		wanted[p] = struct{}{}
	}
	differs := false
	for _, p := range upsert {
		if err := checkPeer(p); err != nil {
			return fmt.Errorf("peer %v: %w", p, err)
		}
		if a := packet.AddrFrom(p); !peers.has(a) {
			wanted[a], differs = struct{}{}, true
		}
	}
	for _, p := range remove {
		a := packet.AddrFrom(p)
		if _, ok := wanted[a]; ok {
			delete(wanted, a)
			differs = true
		}
	}
	if differs {
		e.tables.peers = newPeerSet(wanted)
		e.changed = true
	}
	return nil
}

// setVif makes v the vif of id; nil removes it.
func (e *edit) setVif(id VifID, v *VifEntry) {
	e.vifs[id] = v
	e.tables.vifs.set(e.stamp, uint32(id), v)
	e.changed = true
}

// setVRF is setVif for VRFs.
func (e *edit) setVRF(id VRFID, v *VRFEntry) {
	e.vrfs[id] = v
	e.tables.vrfs.set(e.stamp, uint32(id), v)
	e.changed = true
}

// ownVif returns a vif that this edit may change.
func (e *edit) ownVif(id VifID) *VifEntry {
	if v := e.vifs[id]; v != nil {
		return v
	}
	v := *e.tables.Vif(id)
	v.ports = v.ports.Clone()
	e.setVif(id, &v)
	return &v
}

// ownVRF returns a VRF that this edit may change. Its routes are still shared.
func (e *edit) ownVRF(id VRFID) *VRFEntry {
	if v := e.vrfs[id]; v != nil {
		return v
	}
	v := *e.tables.VRF(id)
	e.setVRF(id, &v)
	return &v
}
