package table

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/table/portmap"
)

// State returns everything in t as the agent would say it, sorted by id,
// prefix and key. Next hop 0 goes without saying.
func (t *Tables) State() State {
	s := t.objects()
	for i := range s.NextHops {
		n := &s.NextHops[i]
		n.Members = t.NH(n.ID).List()
	}
	t.eachRoute(func(r Route) bool {
		s.Routes = append(s.Routes, r)
		return true
	})
	return s
}

// objects is State without the routes and the members of composites.
func (t *Tables) objects() (s State) {
	t.vifs.all(func(_ uint32, v *VifEntry) {
		if v == nil {
			return
		}
		s.Vifs = append(s.Vifs, v.Vif)
		ports := v.ports.All()
		for i := range ports {
			s.PortMaps = append(s.PortMaps, portMapOf(v.ID, &ports[i]))
		}
	})
	t.vrfs.all(func(_ uint32, v *VRFEntry) {
		if v != nil {
			s.VRFs = append(s.VRFs, v.VRF)
		}
	})
	t.nhs.all(func(id uint32, n *NH) {
		if n != nil && id != 0 {
			s.NextHops = append(s.NextHops, n.nextHop())
		}
	})
	t.labels.all(func(l uint32, n NextHopID) {
		if n != 0 {
			s.Labels = append(s.Labels, LabelEntry{Label(l), n - 1})
		}
	})
	for _, p := range t.peers.list() {
		s.Peers = append(s.Peers, p.Netip())
	}
	slices.SortFunc(s.Peers, netip.Addr.Compare)
	return s
}

// eachRoute visits the routes of all VRFs, sorted, until visit returns false.
func (t *Tables) eachRoute(visit func(Route) bool) {
	more := true
	t.vrfs.all(func(_ uint32, v *VRFEntry) {
		if v == nil || !more {
			return
		}
		for prefix, to := range v.routes.All() {
			if more = visit(hopOf(to, prefix.Bits()).route(v.ID, prefix)); !more {
				return
			}
		}
	})
}

func (h Hop) route(vrf VRFID, p netip.Prefix) Route {
	return Route{VRF: vrf, Prefix: p, NH: h.NH, Label: h.Label, ReplyOnly: h.Has(ReplyOnly), Translate: h.Has(Translate)}
}

// hop is what the table keeps of r.
func (r *Route) hop() Hop {
	h := Hop{NH: r.NH, Label: r.Label, Bits: uint8(r.Prefix.Bits())}
	if r.ReplyOnly {
		h.Flags |= ReplyOnly
	}
	if r.Translate {
		h.Flags |= Translate
	}
	return h
}

// Vifs calls visit for every vif, in the order of their ids.
func (t *Tables) Vifs(visit func(*VifEntry)) {
	t.vifs.all(func(_ uint32, v *VifEntry) {
		if v != nil {
			visit(v)
		}
	})
}

func portMapOf(vif VifID, p *portmap.Entry) PortMap {
	return PortMap{Vif: vif, VIP: p.VIP.Netip(), Proto: p.Proto, Port: p.Port, Fixed: p.Fixed.Netip(), Target: p.Target}
}

// sortedKeys returns the keys of m in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
