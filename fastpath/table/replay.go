package table

import (
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table/lpm"
)

// replay remembers what was upserted since Begin.
type replay struct {
	epoch    uint64
	vifs     map[VifID]struct{}
	vrfs     map[VRFID]struct{}
	nhs      map[NextHopID]struct{}
	labels   map[Label]struct{}
	portMaps map[PortMapKey]struct{}
	peers    map[packet.Addr]struct{}
	routes   map[VRFID]*lpm.Table
}

func newReplay(epoch uint64) *replay {
	return &replay{
		epoch: epoch,
		vifs:  map[VifID]struct{}{}, vrfs: map[VRFID]struct{}{}, nhs: map[NextHopID]struct{}{0: {}},
		labels: map[Label]struct{}{}, portMaps: map[PortMapKey]struct{}{}, peers: map[packet.Addr]struct{}{},
		routes: map[VRFID]*lpm.Table{},
	}
}

// mark notes that everything in s is wanted. What a delta removes again is not
// there to be swept.
func (r *replay) mark(s *State) {
	for i := range s.Vifs {
		r.vifs[s.Vifs[i].ID] = struct{}{}
	}
	for i := range s.VRFs {
		r.vrfs[s.VRFs[i].ID] = struct{}{}
	}
	for i := range s.NextHops {
		r.nhs[s.NextHops[i].ID] = struct{}{}
	}
	for _, l := range s.Labels {
		r.labels[l.Label] = struct{}{}
	}
	for _, m := range s.PortMaps {
		r.portMaps[normalKey(m.Key())] = struct{}{}
	}
	for _, p := range s.Peers {
		r.peers[packet.AddrFrom(p)] = struct{}{}
	}
	for _, route := range s.Routes {
		seen := r.routes[route.VRF]
		if seen == nil {
			seen = new(lpm.Table)
			r.routes[route.VRF] = seen
		}
		seen.Insert(route.Prefix, 0)
	}
}

// normalKey makes both forms of an IPv4 address one key.
func normalKey(k PortMapKey) PortMapKey {
	k.VIP = k.VIP.Unmap()
	return k
}

// hasRoute reports whether a route was upserted since Begin.
func (r *replay) hasRoute(vrf VRFID, p netip.Prefix) bool {
	seen := r.routes[vrf]
	if seen == nil {
		return false
	}
	_, ok := seen.Get(p)
	return ok
}

// stale names everything in t that was not upserted since Begin.
func (r *replay) stale(t *Tables) Removal {
	s := t.objects()
	return Removal{
		Vifs:     missing(s.Vifs, r.vifs, func(v Vif) VifID { return v.ID }),
		VRFs:     missing(s.VRFs, r.vrfs, func(v VRF) VRFID { return v.ID }),
		NextHops: missing(s.NextHops, r.nhs, func(n NextHop) NextHopID { return n.ID }),
		Labels:   missing(s.Labels, r.labels, func(l LabelEntry) Label { return l.Label }),
		PortMaps: missing(s.PortMaps, r.portMaps, PortMap.Key),
		Peers:    r.stalePeers(s.Peers),
		Routes:   r.staleRoutes(t),
	}
}

func missing[T any, K comparable](have []T, wanted map[K]struct{}, key func(T) K) (gone []K) {
	for _, h := range have {
		if _, ok := wanted[key(h)]; !ok {
			gone = append(gone, key(h))
		}
	}
	return gone
}

func (r *replay) stalePeers(have []netip.Addr) (gone []netip.Addr) {
	for _, p := range have {
		if _, ok := r.peers[packet.AddrFrom(p)]; !ok {
			gone = append(gone, p)
		}
	}
	return gone
}

func (r *replay) staleRoutes(t *Tables) (gone []RouteKey) {
	t.eachRoute(func(route Route) bool {
		if !r.hasRoute(route.VRF, route.Prefix) {
			gone = append(gone, route.Key())
		}
		return true
	})
	return gone
}
