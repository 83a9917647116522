package compile

import (
	"testing"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// What tables tell of numbers is what they were made with; what they do not tell
// is nobody's, and rests.
func TestRecallIDs(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	k := record.AttachmentKey{ContainerID: "c", Ifname: "eth0"}
	s := &table.State{
		VRFs: []table.VRF{{ID: 3, Name: "red"}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "fab0"}, {ID: 2, Kind: table.VifHost, NH: 4},
			{ID: 7, Kind: table.VifVirtual, Name: "tap1", NH: 9, VMI: "vmi"}, {ID: 8, Kind: table.VifVirtual, Name: "tap2", NH: 10},
		},
		NextHops: []table.NextHop{
			{ID: 4, Type: table.NHHost}, {ID: 5, Type: table.NHVRFTranslate, VRF: 3}, {ID: 9, Type: table.NHEncap}, {ID: 10, Type: table.NHEncap},
			{ID: 11, Type: table.NHComposite},
		},
		Labels: []table.LabelEntry{{Label: 16, NH: 5}, {Label: 17, NH: 9}, {Label: 99, NH: 11}},
	}
	x := NewIDs(RecallIDs(s, map[string]record.Mark{"tap1": {AttachmentKey: k}}), now)
	for _, c := range []struct {
		space, key string
		want       uint32
	}{
		{record.SpaceVRF, vrfKey("red"), 3}, {record.SpaceNH, vrfKey("red"), 5}, {record.SpaceLabel, vrfKey("red"), 16},
		{record.SpaceVif, "fabric", 1}, {record.SpaceVif, "host", 2}, {record.SpaceNH, "host", 4},
	} {
		if got := x.Lookup(c.space, c.key); got != c.want {
			t.Errorf("%s of %s is %d, expected %d", c.space, c.key, got, c.want)
		}
	}
	if got := x.PodKnown(k, "vmi"); got != (PodIDs{Vif: 7, NH: 9, Label: 17}) {
		t.Errorf("the pod's are %+v", got)
	}
	if got := x.Clone().Pod(k, "vmi"); got.NH != 9 {
		t.Errorf("the clone's are %+v", got)
	}
	// A clone that forgets everything leaves the original as it is.
	c := x.Clone()
	c.begin()
	c.sweep()
	if x.Lookup(record.SpaceNH, "host") != 4 || c.Lookup(record.SpaceNH, "host") != 0 || len(x.TakeChanges()) != 0 {
		t.Error("the clone is no clone")
	}
	// The composite's label is not given to another at once.
	x.begin()
	x.Pod(k, "vmi")
	x.sweep()
	for range 200 {
		if l := x.Get(record.SpaceLabel, "other"); l == 99 || l == 16 {
			t.Fatalf("label %d is given again", l)
		}
		x.Free(record.SpaceLabel, "other")
	}
}
