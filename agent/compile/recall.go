package compile

import (
	"slices"
	"strconv"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// RecallIDs finds in tables the numbers of things whose natural keys can be told
// from them. All others are taken too, by nobody: they rest after the first
// compilation, since flows and other nodes may still use them. pods are the
// attachments of taps, by name.
func RecallIDs(s *table.State, pods map[string]record.Mark) []record.ID {
	r := &recollection{seen: map[record.IDKey]bool{}, taken: map[record.IDKey]bool{}}
	nhKeys, vrfs := map[table.NextHopID]string{}, map[table.VRFID]string{}
	labels := map[table.NextHopID]string{}
	for i := range s.VRFs {
		vrfs[s.VRFs[i].ID] = s.VRFs[i].Name
		r.add(record.SpaceVRF, vrfKey(s.VRFs[i].Name), uint32(s.VRFs[i].ID))
	}
	for i := range s.Vifs {
		v := &s.Vifs[i]
		key := ""
		switch v.Kind {
		case table.VifFabric:
			key = "fabric"
		case table.VifHost:
			key = "host"
			nhKeys[v.NH] = "host"
		case table.VifVirtual:
			if m, ok := pods[v.Name]; ok {
				key = vifKey(m.AttachmentKey)
				nhKeys[v.NH], labels[v.NH] = encapKey(m.AttachmentKey), vmiKey(v.VMI)
			}
		}
		r.add(record.SpaceVif, key, uint32(v.ID))
	}
	for i := range s.NextHops {
		n := &s.NextHops[i]
		switch n.Type {
		case table.NHVRFTranslate:
			nhKeys[n.ID], labels[n.ID] = vrfKey(vrfs[n.VRF]), vrfKey(vrfs[n.VRF])
		case table.NHTunnel, table.NHResolve:
			nhKeys[n.ID] = tunnelKey(n.Dip)
		}
		r.add(record.SpaceNH, nhKeys[n.ID], uint32(n.ID))
	}
	for _, l := range s.Labels {
		r.add(record.SpaceLabel, labels[l.NH], uint32(l.Label))
	}
	return r.ids
}

// MarkedIDs are the numbers a pod's mark tells.
func MarkedIDs(m *record.Mark) []record.ID {
	var out []record.ID
	for _, id := range []record.ID{
		{IDKey: record.IDKey{Space: record.SpaceVif, Key: vifKey(m.AttachmentKey)}, Number: m.Vif},
		{IDKey: record.IDKey{Space: record.SpaceNH, Key: encapKey(m.AttachmentKey)}, Number: m.NH},
		{IDKey: record.IDKey{Space: record.SpaceLabel, Key: vmiKey(m.VMI)}, Number: m.Label},
	} {
		if id.Number != 0 {
			out = append(out, id)
		}
	}
	return out
}

// recollection gathers numbers, each of a space once, each key once.
type recollection struct {
	ids         []record.ID
	seen, taken map[record.IDKey]bool // keys; numbers written as keys
}

// add notes a number; with no key, or one that has a number, it is nobody's.
func (r *recollection) add(space, key string, number uint32) {
	text := strconv.FormatUint(uint64(number), 10)
	at := record.IDKey{Space: space, Key: text}
	k := record.IDKey{Space: space, Key: key}
	if key == "" || r.seen[k] {
		k.Key = "nobody/" + text
	}
	if r.taken[at] || number == 0 {
		return
	}
	r.taken[at], r.seen[k] = true, true
	r.ids = append(r.ids, record.ID{IDKey: k, Number: number})
}

// Clone returns the same numbers, to compile something that is not programmed:
// what a compilation does not ask for loses its number.
func (x *IDs) Clone() *IDs {
	c := &IDs{spaces: map[string]*space{}, changed: map[record.IDKey]uint32{}, round: x.round, now: x.now}
	for name, s := range x.spaces {
		copied := &space{last: s.last, next: s.next, byKey: map[string]*number{}, rest: slices.Clone(s.rest), rested: slices.Clone(s.rested)}
		for key, k := range s.byKey {
			n := *k
			copied.byKey[key] = &n
		}
		c.spaces[name] = copied
	}
	return c
}
