package table

import (
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
)

// checkVif refuses a vif whose VRF or next hop is not what it says.
func (e *edit) checkVif(v *Vif) error {
	if v.VRF != 0 && e.tables.VRF(v.VRF) == nil {
		return fmt.Errorf("VRF %d is unknown", v.VRF)
	}
	if v.NH == 0 {
		return nil
	}
	n := e.tables.nhs.get(uint32(v.NH))
	want := NHEncap
	if v.Kind == VifHost {
		want = NHHost
	}
	switch {
	case n == nil:
		return fmt.Errorf("next hop %d is unknown", v.NH)
	case v.Kind == VifFabric:
		return nil
	case n.Type != want:
		return fmt.Errorf("%s does not deliver to it, want type %s", n.name(), want)
	case n.Vif != v.ID:
		return fmt.Errorf("%s delivers to vif %d", n.name(), n.Vif)
	}
	return nil
}

// checkVifUsers refuses two vifs on one interface, and a vif that is no longer
// of the kind its next hops need. During a replay, what was not replayed yet
// gives way.
func (e *edit) checkVifUsers(v *Vif) (err error) {
	if e.tables.Vif(v.ID) == nil {
		return nil // removed again
	}
	e.tables.Vifs(func(other *VifEntry) {
		if other.Ifindex == v.Ifindex && other.ID != v.ID && !e.staleVif(other.ID) {
			err = fmt.Errorf("ifindex %d belongs to %s", v.Ifindex, other.name())
		}
	})
	for _, id := range e.index.vifNHs.get(uint32(v.ID)) {
		if n := e.tables.NH(id); err == nil && !e.staleNH(id) {
			if err = e.checkNHVif(n); err != nil {
				err = fmt.Errorf("%s: %w", n.name(), err)
			}
		}
	}
	return err
}

// checkNH refuses a next hop, which has been put, that refers to what is not there or
// cannot serve it.
func (e *edit) checkNH(n *NextHop) error { return e.checkTargets(e.tables.NH(n.ID)) }

func (e *edit) checkTargets(n *NH) error {
	switch n.Type {
	case NHEncap, NHHost, NHTunnel, NHResolve:
		return e.checkNHVif(n)
	case NHVRFTranslate:
		if e.tables.VRF(n.VRF) == nil {
			return fmt.Errorf("VRF %d is unknown", n.VRF)
		}
	case NHComposite:
		for i := range n.Members {
			if err := e.checkMember(n, i); err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
		}
	case NHService:
		for _, l := range n.Listeners {
			for _, id := range []NextHopID{l.NH, l.OutsideNH} {
				if err := e.checkListens(id); err != nil && (id != 0 || id == l.NH) {
					return fmt.Errorf("listener %d/%s: %w", l.Port, packet.ProtoName(l.Proto), err)
				}
			}
		}
	}
	return nil
}

// checkListens refuses a listener's next hop that is not there or does not choose.
func (e *edit) checkListens(id NextHopID) error {
	to := e.tables.nhs.get(uint32(id))
	if to == nil {
		return fmt.Errorf("next hop %d is unknown", id)
	}
	if to.Type != NHComposite {
		return fmt.Errorf("%s is not a composite", to.name())
	}
	return nil
}

func (e *edit) checkNHVif(n *NH) error {
	v := e.tables.Vif(n.Vif)
	switch {
	case n.Vif == 0 && n.Type == NHResolve:
		return nil
	case v == nil:
		return fmt.Errorf("vif %d is unknown", n.Vif)
	case n.Type == NHEncap && v.Kind != VifVirtual:
		return fmt.Errorf("%s is of kind %s, want virtual", v.name(), v.Kind)
	case n.Type == NHHost && v.Kind != VifHost:
		return fmt.Errorf("%s is of kind %s, want host", v.name(), v.Kind)
	case needsLabel(n.Type) && v.Kind != VifFabric:
		return fmt.Errorf("%s is of kind %s, want fabric", v.name(), v.Kind)
	}
	return nil
}

func (e *edit) checkMember(n *NH, i int) error {
	m := &n.Members[i]
	if m.NH == 0 {
		return nil
	}
	to := e.tables.nhs.get(uint32(m.NH))
	addr, port, translated := n.DNAT(i)
	switch {
	case to == nil:
		return fmt.Errorf("next hop %d is unknown", m.NH)
	case !mayBeMember(to.Type):
		return fmt.Errorf("%s cannot be a member, only encap, tunnel, resolve and host can", to.name())
	case needsLabel(to.Type) && m.Label == 0:
		return fmt.Errorf("%s needs the label of the backend", to.name())
	case translated && to.Type != NHHost:
		return fmt.Errorf("translation to %v leaves by the host, not by %s", netip.AddrPortFrom(addr.Netip(), port), to.name())
	}
	return nil
}

func (e *edit) checkLabel(l *LabelEntry) error {
	if !validLabel(l.Label) {
		return fmt.Errorf("labels are %d to %d", MinLabel, MaxLabel)
	}
	n := e.tables.nhs.get(uint32(l.NH))
	switch {
	case n == nil:
		return fmt.Errorf("next hop %d is unknown", l.NH)
	case needsLabel(n.Type):
		return fmt.Errorf("%s would send what came from the fabric back to it", n.name())
	}
	return nil
}

func (e *edit) checkRoute(r *Route) error {
	if err := r.check(); err != nil {
		return err
	}
	if e.tables.VRF(r.VRF) == nil {
		return fmt.Errorf("VRF %d is unknown", r.VRF)
	}
	return e.checkRouteNH(r)
}

func (e *edit) checkRouteNH(r *Route) error {
	n := e.tables.nhs.get(uint32(r.NH))
	if n == nil {
		return fmt.Errorf("next hop %d is unknown", r.NH)
	}
	if needsLabel(n.Type) && r.Label == 0 {
		return fmt.Errorf("%s needs a label", n.name())
	}
	return nil
}

func checkPeer(p netip.Addr) error {
	if !p.Unmap().Is4() {
		return fmt.Errorf("tunnels run over IPv4")
	}
	return checkUnicast("address", p)
}

// needsLabel reports whether next hops of type t push one.
func needsLabel(t NHType) bool { return t == NHTunnel || t == NHResolve }

// checkRetyped checks those who refer to a next hop that became something else.
// It is rare enough to look through everything once. During a replay, what was
// not replayed yet may be wrong: it goes with InSync.
func (e *edit) checkRetyped() error {
	retyped := map[NextHopID]struct{}{}
	for id, old := range e.was {
		n := e.tables.nhs.get(uint32(id))
		if old == nil || n == nil || needsLabel(old.Type) && needsLabel(n.Type) {
			continue
		}
		if old.Type != n.Type || old.Vif != n.Vif {
			retyped[id] = struct{}{}
		}
	}
	if len(retyped) == 0 {
		return nil
	}
	for _, id := range sortedKeys(retyped) {
		for _, user := range e.index.users.get(uint32(id)) {
			if n := e.tables.NH(user); !e.staleNH(user) {
				if err := e.checkTargets(n); err != nil {
					return fmt.Errorf("%s: %w", n.name(), err)
				}
			}
		}
	}
	return e.checkLeadingTo(retyped)
}

// checkLeadingTo checks the vifs, labels and routes that lead to one of nhs.
func (e *edit) checkLeadingTo(nhs map[NextHopID]struct{}) (err error) {
	e.tables.Vifs(func(v *VifEntry) {
		if _, ok := nhs[v.NH]; ok && err == nil && !e.staleVif(v.ID) {
			err = each([]Vif{v.Vif}, e.checkVif)
		}
	})
	e.tables.labels.all(func(l uint32, n NextHopID) {
		if _, ok := nhs[n-1]; ok && n != 0 && err == nil && !e.staleLabel(Label(l)) {
			err = each([]LabelEntry{{Label(l), n - 1}}, e.checkLabel)
		}
	})
	if err != nil {
		return err
	}
	e.tables.eachRoute(func(r Route) bool {
		if _, ok := nhs[r.NH]; ok && (e.replay == nil || e.replay.hasRoute(r.VRF, r.Prefix)) {
			err = each([]Route{r}, e.checkRouteNH)
		}
		return err == nil
	})
	return err
}

// Stale objects are those that an open replay has not upserted yet.

func (e *edit) staleVif(id VifID) bool    { return e.replay != nil && !has(e.replay.vifs, id) }
func (e *edit) staleNH(id NextHopID) bool { return e.replay != nil && !has(e.replay.nhs, id) }
func (e *edit) staleLabel(l Label) bool   { return e.replay != nil && !has(e.replay.labels, l) }

func has[K comparable, V any](set map[K]V, k K) bool {
	_, ok := set[k]
	return ok
}
