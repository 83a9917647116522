package table

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/packet"
)

// What objects are called in errors.

func (v *Vif) name() string        { return fmt.Sprintf("vif %d (%s)", v.ID, v.Name) }
func (v *VRF) name() string        { return fmt.Sprintf("VRF %d (%s)", v.ID, v.Name) }
func (n *NextHop) name() string    { h := n.head(); return h.name() }
func (h *head) name() string       { return fmt.Sprintf("next hop %d (%s)", h.ID, h.Type) }
func (r *Route) name() string      { return fmt.Sprintf("route %v in VRF %d", r.Prefix, r.VRF) }
func (l *LabelEntry) name() string { return fmt.Sprintf("label %d", l.Label) }
func (m *PortMap) name() string {
	return fmt.Sprintf("port map %v port %d/%s on vif %d", m.VIP, m.Port, packet.ProtoName(m.Proto), m.Vif)
}

// unique refuses a state that says two things of one object or interface.
func (s *State) unique() error {
	on := make(map[int]*Vif, len(s.Vifs))
	for i := range s.Vifs {
		v := &s.Vifs[i]
		if other := on[v.Ifindex]; other != nil && other.ID != v.ID {
			return fmt.Errorf("%s: ifindex %d belongs to %s", v.name(), v.Ifindex, other.name())
		}
		on[v.Ifindex] = v
	}
	for _, err := range []error{
		once(s.VRFs, func(v *VRF) VRFID { return v.ID }),
		once(s.Vifs, func(v *Vif) VifID { return v.ID }),
		once(s.NextHops, func(n *NextHop) NextHopID { return n.ID }),
		once(s.Labels, func(l *LabelEntry) Label { return l.Label }),
		once(s.PortMaps, func(m *PortMap) PortMapKey { return normalKey(m.Key()) }),
		once(s.Routes, func(r *Route) RouteKey { return r.Key() }),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func once[T any, P object[T], K comparable](list []T, key func(*T) K) error {
	if len(list) < 2 {
		return nil
	}
	seen := make(map[K]struct{}, len(list))
	for i := range list {
		k := key(&list[i])
		if has(seen, k) {
			return fmt.Errorf("%s appears twice", P(&list[i]).name())
		}
		seen[k] = struct{}{}
	}
	return nil
}
