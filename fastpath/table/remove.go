package table

import (
	"errors"
	"fmt"

	"github.com/vragent/vragent/fastpath/packet"
)

// remove takes away what r names, referrers before what they refer to, and then
// checks that nothing which stays refers to what went. What is not there is no
// error: it is as wanted.
func (e *edit) remove(r *Removal) error {
	for _, k := range r.Routes {
		e.removeRoute(k)
	}
	for _, l := range r.Labels {
		e.removeLabel(l)
	}
	for _, k := range r.PortMaps {
		e.removePortMap(k)
	}
	for _, id := range r.Vifs {
		if err := e.removeVif(id); err != nil {
			return err
		}
	}
	for _, id := range r.NextHops {
		if id == 0 {
			return errors.New("remove next hop 0: it is reserved for discarding")
		}
		e.removeNH(id)
	}
	for _, id := range r.VRFs {
		if err := e.removeVRF(id); err != nil {
			return err
		}
	}
	return e.checkRemoved(r)
}

func (e *edit) removeLabel(l Label) {
	if old, ok := e.tables.Label(l); ok {
		e.index.countNH(e.stamp, old, -1)
		e.tables.labels.set(e.stamp, uint32(l), 0)
		e.changed = true
	}
}

func (e *edit) removePortMap(k PortMapKey) {
	v := e.tables.Vif(k.Vif)
	if v == nil || !v.ports.Knows(packet.AddrFrom(k.VIP), k.Proto, k.Port) {
		return
	}
	e.ownVif(k.Vif).ports.Remove(packet.AddrFrom(k.VIP), k.Proto, k.Port)
	e.remapped[k.Vif] = struct{}{}
}

func (e *edit) removeNH(id NextHopID) {
	old := e.tables.nhs.get(uint32(id))
	if old == nil {
		return
	}
	e.index.relinkNH(e.stamp, old, nil)
	if !has(e.was, id) {
		e.was[id] = old
	}
	delete(e.nhs, id)
	e.tables.nhs.set(e.stamp, uint32(id), nil)
	e.changed = true
}

func (e *edit) removeVif(id VifID) error {
	v := e.tables.Vif(id)
	if v == nil {
		return nil
	}
	if ports := v.ports.All(); len(ports) > 0 {
		m := portMapOf(id, &ports[0])
		return fmt.Errorf("remove vif %d: %s still belongs to it", id, m.name())
	}
	e.index.unlinkVif(e.stamp, &v.Vif)
	e.setVif(id, nil)
	return nil
}

func (e *edit) removeVRF(id VRFID) error {
	v := e.tables.VRF(id)
	if v == nil {
		return nil
	}
	for prefix := range v.routes.All() {
		return fmt.Errorf("remove VRF %d: route %v still belongs to it", id, prefix)
	}
	e.setVRF(id, nil)
	return nil
}

// checkRemoved refuses removals that leave something pointing nowhere.
func (e *edit) checkRemoved(r *Removal) error {
	for _, id := range r.NextHops {
		if by := e.referrer(id); by != "" {
			return fmt.Errorf("remove next hop %d: %s still leads to it", id, by)
		}
	}
	for _, id := range r.Vifs {
		if ids := e.index.vifNHs.get(uint32(id)); len(ids) > 0 {
			return fmt.Errorf("remove vif %d: %s still delivers to it", id, e.tables.NH(ids[0]).name())
		}
	}
	for _, id := range r.VRFs {
		if by := e.vrfReferrer(id); by != "" {
			return fmt.Errorf("remove VRF %d: %s still belongs to it", id, by)
		}
	}
	return nil
}

// referrer names something that leads to next hop id, "" if nothing does. It
// searches only when it will find.
func (e *edit) referrer(id NextHopID) (by string) {
	if users := e.index.users.get(uint32(id)); len(users) > 0 {
		return e.tables.NH(users[0]).name()
	}
	if e.index.nhRefs.get(uint32(id)) == 0 {
		return ""
	}
	e.tables.Vifs(func(v *VifEntry) {
		if v.NH == id {
			by = v.name()
		}
	})
	e.tables.labels.all(func(l uint32, n NextHopID) {
		if n == id+1 {
			by = (&LabelEntry{Label: Label(l)}).name()
		}
	})
	if by == "" {
		e.tables.eachRoute(func(r Route) bool {
			if r.NH == id {
				by = r.name()
			}
			return by == ""
		})
	}
	return by
}

// vrfReferrer is referrer for VRFs.
func (e *edit) vrfReferrer(id VRFID) (by string) {
	if e.index.vrfRefs.get(uint32(id)) == 0 {
		return ""
	}
	e.tables.Vifs(func(v *VifEntry) {
		if v.VRF == id {
			by = v.name()
		}
	})
	e.tables.nhs.all(func(_ uint32, n *NH) {
		if n != nil && n.Type == NHVRFTranslate && n.VRF == id {
			by = n.name()
		}
	})
	return by
}
