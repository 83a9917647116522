package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/table"
)

// TestWorkerDoesNotAllocateForALargerView: what a worker keeps per id is made by who
// publishes; counters and quotas stay what they were.
func TestWorkerDoesNotAllocateForALargerView(t *testing.T) {
	_, n1, _ := twoNodes(t, 1)
	w := n1.workers[0]
	w.Turn(1e12)
	w.count.vif(10).RxPackets, *w.quota.Of(nhPods, false) = 7, 9
	b := table.NewBuilder()
	for last := table.NextHopID(1 << 10); last < 1<<20; last *= 4 {
		if err := b.Apply(&table.Delta{Upsert: table.State{
			VRFs: []table.VRF{{ID: 1, Name: "pods"}}, NextHops: []table.NextHop{{ID: last, Type: table.NHVRFTranslate, VRF: 1}},
		}}); err != nil {
			t.Fatal(err)
		}
		old := n1.shared.tables.Load()
		n1.shared.Publish(b.Tables())
		n1.shared.tables.Store(old)
		turns := 0
		if got := testing.AllocsPerRun(1, func() { // whose first run is not counted
			if turns++; turns == 2 {
				n1.shared.tables.Store(b.Tables())
			}
			w.Turn(1e12)
		}); got != 0 {
			t.Errorf("next hop %d: the worker allocates %v times", last, got)
		}
		if len(w.quota) <= int(last) {
			t.Fatalf("next hop %d: room for %d", last, len(w.quota))
		}
	}
	if got := w.count.vif(10).RxPackets; got != 7 || w.quota.Held(nhPods, false) != 9 {
		t.Errorf("counters are %d and %d, want 7 and 9", got, w.quota.Held(nhPods, false))
	}
}
