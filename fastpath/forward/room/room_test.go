package room

import (
	"testing"

	"github.com/vragent/vragent/fastpath/forward/count"
	"github.com/vragent/vragent/fastpath/forward/quota"
)

func TestMove(t *testing.T) {
	r := Room{Vifs: []count.Vif{{RxPackets: 1}, {RxPackets: 2}}, Quotas: make(quota.Counts, 1)}
	*r.Quotas.Of(0, false) = 3
	r.Move(&Room{Vifs: make([]count.Vif, 1), Quotas: make(quota.Counts, 4)})
	if len(r.Vifs) != 2 || r.Vifs[1].RxPackets != 2 || len(r.Quotas) != 4 || r.Quotas.Held(0, false) != 3 {
		t.Errorf("room for %d vifs and %d next hops: %+v", len(r.Vifs), len(r.Quotas), r)
	}
}
