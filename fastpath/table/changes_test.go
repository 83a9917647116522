package table

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// What changes are found between two versions, for every kind of change.
func TestChanges(t *testing.T) {
	b := NewBuilder()
	apply := func(d Delta) {
		t.Helper()
		if err := b.Apply(&d); err != nil {
			t.Fatal(err)
		}
	}
	old := b.Tables()
	diff := func() string {
		var out []string
		is := b.Tables()
		is.NHChanges(old, func(id NextHopID, was, is *NH) {
			what := "changed"
			if was == nil {
				what = "new"
			} else if is == nil {
				what = "gone"
			} else if was.Gen != is.Gen {
				what = "moved"
			}
			out = append(out, fmt.Sprintf("nh %d %s", id, what))
		})
		is.VifChanges(old, func(id VifID, was, is *VifEntry) {
			out = append(out, fmt.Sprintf("vif %d %v %v", id, was != nil, is != nil))
		})
		is.LabelChanges(old, func(l Label) { out = append(out, fmt.Sprintf("label %d", l)) })
		if !is.SamePeers(old) {
			out = append(out, fmt.Sprintf("peers %d", len(is.Peers())))
		}
		old = is
		return strings.Join(out, ", ")
	}
	want := func(w string) {
		t.Helper()
		if got := diff(); got != w {
			t.Errorf("got %q, want %q", got, w)
		}
	}
	pod := Vif{ID: 700, Kind: VifVirtual, Name: "tap7", Ifindex: 7, VRF: 1, NH: 700, MAC: MAC{2, 1}, MTU: 1400, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
	deliver := NextHop{ID: 700, Type: NHEncap, Vif: 700}
	apply(Delta{Upsert: State{VRFs: []VRF{{ID: 1, Name: "a"}}, Vifs: []Vif{pod}, NextHops: []NextHop{deliver, {ID: 3, Type: NHVRFTranslate, VRF: 1}}}})
	want("nh 3 new, nh 700 new, vif 700 false true")
	apply(Delta{Upsert: State{Labels: []LabelEntry{{Label: 20, NH: 700}}, Peers: []netip.Addr{netip.MustParseAddr("198.51.100.2")}}})
	want("peers 1")
	apply(Delta{Upsert: State{Vifs: []Vif{pod}, Labels: []LabelEntry{{Label: 20, NH: 700}}, Peers: []netip.Addr{netip.MustParseAddr("198.51.100.2")}}})
	want("")
	apply(Delta{Upsert: State{Labels: []LabelEntry{{Label: 20, NH: 3}}}})
	want("label 20")
	pod.MAC = MAC{2, 2}
	apply(Delta{Upsert: State{Vifs: []Vif{pod}}})
	want("nh 700 changed, vif 700 true true")
	pod.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.8")}
	apply(Delta{Upsert: State{Vifs: []Vif{pod}}})
	want("nh 700 moved, vif 700 true true")
	apply(Delta{Remove: Removal{Vifs: []VifID{700}, NextHops: []NextHopID{700}, Labels: []Label{20}, Peers: []netip.Addr{netip.MustParseAddr("198.51.100.2")}}})
	want("nh 700 gone, vif 700 true false, label 20, peers 0")
}
