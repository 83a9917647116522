// Package show writes what the processes of a node say in the words and columns
// a Contrail operator knows: the output of vif, nh, rt, mpls, vrf, flow and
// dropstats. It owns no state: every function takes what was read and a writer.
// It is not for asking: it opens no socket and knows no flag.
package show

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/vragent/vragent/fastpath/table"
)

// Tables is a table.State indexed for people's questions: by id, and by who
// refers to whom.
type Tables struct {
	State *table.State

	vifs  map[table.VifID]table.Vif
	vrfs  map[table.VRFID]table.VRF
	nhs   map[table.NextHopID]table.NextHop
	refs  map[table.NextHopID]int  // objects that name the next hop
	inet6 map[table.NextHopID]bool // only IPv6 routes lead here
}

// NewTables indexes s and sorts its lists by id, so that output is stable.
func NewTables(s *table.State) *Tables {
	t := &Tables{
		State: s,
		vifs:  map[table.VifID]table.Vif{},
		vrfs:  map[table.VRFID]table.VRF{},
		nhs:   map[table.NextHopID]table.NextHop{},
		refs:  map[table.NextHopID]int{},
		inet6: map[table.NextHopID]bool{},
	}
	sortState(s)
	for _, v := range s.Vifs {
		t.vifs[v.ID] = v
		t.refs[v.NH]++
	}
	for _, v := range s.VRFs {
		t.vrfs[v.ID] = v
	}
	for _, l := range s.Labels {
		t.refs[l.NH]++
	}
	for _, nh := range s.NextHops {
		t.nhs[nh.ID] = nh
		for _, sub := range below(nh) {
			t.refs[sub]++
		}
	}
	t.countRoutes()
	return t
}

// countRoutes adds the routes to the references and finds the family of each
// next hop that routes lead to.
func (t *Tables) countRoutes() {
	inet := map[table.NextHopID]bool{}
	for _, r := range t.State.Routes {
		t.refs[r.NH]++
		if r.Prefix.Addr().Is4() {
			inet[r.NH] = true
		} else {
			t.inet6[r.NH] = true
		}
	}
	for _, nh := range t.State.NextHops {
		if nh.Type != table.NHService || !t.inet6[nh.ID] {
			continue
		}
		for _, sub := range below(nh) {
			t.inet6[sub] = true
		}
	}
	for id := range inet {
		delete(t.inet6, id)
	}
}

func sortState(s *table.State) {
	sort.Slice(s.Vifs, func(i, j int) bool { return s.Vifs[i].ID < s.Vifs[j].ID })
	sort.Slice(s.VRFs, func(i, j int) bool { return s.VRFs[i].ID < s.VRFs[j].ID })
	sort.Slice(s.NextHops, func(i, j int) bool { return s.NextHops[i].ID < s.NextHops[j].ID })
	sort.Slice(s.Labels, func(i, j int) bool { return s.Labels[i].Label < s.Labels[j].Label })
	slices.SortFunc(s.Routes, func(a, b table.Route) int {
		if a.VRF != b.VRF {
			return int(a.VRF) - int(b.VRF)
		}
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
}

// below lists the next hops that nh leads to.
func below(nh table.NextHop) []table.NextHopID {
	var ids []table.NextHopID
	for _, m := range nh.Members {
		if m.NH != 0 {
			ids = append(ids, m.NH)
		}
	}
	for _, l := range nh.Listeners {
		ids = append(ids, l.NH)
		if l.OutsideNH != 0 {
			ids = append(ids, l.OutsideNH)
		}
	}
	return ids
}

// NH returns a next hop by id. Id 0 is the discard next hop, which exists
// without being programmed.
func (t *Tables) NH(id table.NextHopID) (table.NextHop, bool) {
	nh, ok := t.nhs[id]
	if !ok && id == 0 {
		return table.NextHop{Type: table.NHDiscard}, true
	}
	return nh, ok
}

// VRF finds a VRF by number or by name.
func (t *Tables) VRF(s string) (table.VRF, bool) {
	for _, v := range t.State.VRFs {
		if v.Name == s || fmt.Sprint(v.ID) == s {
			return v, true
		}
	}
	return table.VRF{}, false
}

// vrfName is the name of a VRF, or its number when it has none.
func (t *Tables) vrfName(id table.VRFID) string {
	if v, ok := t.vrfs[id]; ok && v.Name != "" {
		return v.Name
	}
	return fmt.Sprintf("vrf %d", id)
}

// vifText names a vif: "vif0/8 tapeth0-304431 (default/web1)".
func (t *Tables) vifText(id table.VifID) string {
	v, ok := t.vifs[id]
	if !ok {
		return fmt.Sprintf("vif0/%d (unknown)", id)
	}
	if v.Owner == "" {
		return fmt.Sprintf("vif0/%d %s", id, v.Name)
	}
	return fmt.Sprintf("vif0/%d %s (%s)", id, v.Name, v.Owner)
}

// Describe says in one line what a next hop does.
func (t *Tables) Describe(id table.NextHopID) string {
	nh, ok := t.NH(id)
	if !ok {
		return "unknown (drop)"
	}
	switch nh.Type {
	case table.NHEncap:
		return "Encap " + t.vifText(nh.Vif)
	case table.NHTunnel:
		return fmt.Sprintf("Tunnel MPLSoUDP %v -> %v", nh.Sip, nh.Dip)
	case table.NHComposite:
		return t.compositeText(nh)
	case table.NHService:
		return fmt.Sprintf("service, listeners: %d", len(nh.Listeners))
	case table.NHVRFTranslate:
		return fmt.Sprintf("Vrf_Translate to vrf %d (%s)", nh.VRF, t.vrfName(nh.VRF))
	case table.NHHost:
		return "Host " + t.vifText(nh.Vif)
	case table.NHResolve:
		return fmt.Sprintf("Resolve, the underlay neighbour towards %v is not known yet", nh.Dip)
	case table.NHDiscard:
		return "Drop"
	}
	return string(nh.Type)
}

func (t *Tables) compositeText(nh table.NextHop) string {
	s := fmt.Sprintf("ECMP Composite, sub nh count: %d", len(below(nh)))
	if nh.Port != 0 {
		s += fmt.Sprintf(" (%s/%d)", ProtoName(nh.Proto), nh.Port)
	}
	if nh.Affinity != 0 {
		s += fmt.Sprintf(", clients stay for %d s", nh.Affinity)
	}
	if len(below(nh)) == 0 {
		s += ", refuses: no backend"
	}
	return s
}

// memberText says where one position of a composite leads: "51(37) Tunnel …".
func (t *Tables) memberText(m table.Member) string {
	if m.NH == 0 {
		return "-1 (hole)"
	}
	s := fmt.Sprintf("%-10s %s", subNH(m), t.Describe(m.NH))
	if m.DNAT.IsValid() {
		s += " DNAT " + m.DNAT.String()
	}
	if m.Name != "" && !strings.Contains(s, "("+m.Name+")") {
		s += " (" + m.Name + ")"
	}
	if m.Draining {
		s += " draining"
	}
	return s
}

// subNH is Contrail's form of a member: next hop and label to push, -1 when deleted.
func subNH(m table.Member) string {
	switch {
	case m.NH == 0:
		return "-1"
	case m.Label == 0:
		return fmt.Sprint(m.NH)
	}
	return fmt.Sprintf("%d(%d)", m.NH, m.Label)
}

// ProtoName is the name of an IP protocol, or its number.
func ProtoName(p uint8) string {
	switch p {
	case 1:
		return "ICMP"
	case 6:
		return "TCP"
	case 17:
		return "UDP"
	case 58:
		return "ICMPv6"
	case 132:
		return "SCTP"
	}
	return fmt.Sprint(p)
}

// family is Contrail's number for the family of a prefix: inet4 or inet6.
func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "inet4"
	}
	return "inet6"
}
