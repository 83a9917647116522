package compile

import (
	"reflect"

	"github.com/vragent/vragent/fastpath/table"
)

// Diff is the change that turns old into now. Both must name each object once.
// Within a Delta references may lead forwards, and upserts come before removals,
// so that nothing ever leads to what is not there.
func Diff(old, now *table.State) table.Delta {
	var d table.Delta
	u, r := &d.Upsert, &d.Remove
	u.Vifs, r.Vifs = changes(old.Vifs, now.Vifs, func(v *table.Vif) table.VifID { return v.ID }, deepEqual)
	u.VRFs, r.VRFs = changes(old.VRFs, now.VRFs, func(v *table.VRF) table.VRFID { return v.ID }, equal)
	u.NextHops, r.NextHops = changes(old.NextHops, now.NextHops, func(n *table.NextHop) table.NextHopID { return n.ID }, deepEqual)
	u.Routes, r.Routes = changes(old.Routes, now.Routes, func(x *table.Route) table.RouteKey { return x.Key() }, equal)
	u.Labels, r.Labels = changes(old.Labels, now.Labels, func(l *table.LabelEntry) table.Label { return l.Label }, equal)
	u.PortMaps, r.PortMaps = changes(old.PortMaps, now.PortMaps, func(m *table.PortMap) table.PortMapKey { return m.Key() }, equal)
	u.Peers, r.Peers = changes(old.Peers, now.Peers, dereference, equal)
	return d
}

// IsEmpty reports whether a delta changes nothing.
func IsEmpty(d *table.Delta) bool { return reflect.DeepEqual(d, &table.Delta{}) }

// changes compares two lists by key.
func changes[T any, K comparable](old, now []T, key func(*T) K, same func(a, b *T) bool) (upsert []T, remove []K) {
	before := make(map[K]*T, len(old))
	for i := range old {
		before[key(&old[i])] = &old[i]
	}
	for i := range now {
		k := key(&now[i])
		if was := before[k]; was == nil || !same(was, &now[i]) {
			upsert = append(upsert, now[i])
		}
		delete(before, k)
	}
	for i := range old {
		if k := key(&old[i]); before[k] != nil {
			remove = append(remove, k)
		}
	}
	return upsert, remove
}

func equal[T comparable](a, b *T) bool { return *a == *b }

func deepEqual[T any](a, b *T) bool { return reflect.DeepEqual(a, b) }

func dereference[T any](v *T) T { return *v }

// Replay cuts a whole state into deltas of about limit objects, each of which
// refers only to itself and to earlier ones.
func Replay(s *table.State, limit int) []table.Delta {
	first := table.State{VRFs: s.VRFs, Vifs: s.Vifs, Peers: s.Peers}
	var composites, services []table.NextHop
	for i := range s.NextHops {
		switch n := s.NextHops[i]; n.Type {
		case table.NHComposite:
			composites = append(composites, n)
		case table.NHService:
			services = append(services, n)
		default:
			first.NextHops = append(first.NextHops, n)
		}
	}
	out := []table.Delta{{Upsert: first}}
	weight := func(n *table.NextHop) int { return 1 + len(n.Members) + len(n.Listeners) }
	for _, list := range [][]table.NextHop{composites, services} {
		out = cut(out, list, limit, weight, func(s *table.State, l []table.NextHop) { s.NextHops = l })
	}
	out = cut(out, s.Labels, limit, one, func(s *table.State, l []table.LabelEntry) { s.Labels = l })
	out = cut(out, s.PortMaps, limit, one, func(s *table.State, l []table.PortMap) { s.PortMaps = l })
	return cut(out, s.Routes, limit, one, func(s *table.State, l []table.Route) { s.Routes = l })
}

func one[T any](*T) int { return 1 }

// cut appends deltas that hold list in pieces of about limit.
func cut[T any](out []table.Delta, list []T, limit int, weight func(*T) int, put func(*table.State, []T)) []table.Delta {
	for len(list) > 0 {
		n, sum := 0, 0
		for n < len(list) && (n == 0 || sum < limit) {
			sum += weight(&list[n])
			n++
		}
		var s table.State
		put(&s, list[:n])
		out = append(out, table.Delta{Upsert: s})
		list = list[n:]
	}
	return out
}
