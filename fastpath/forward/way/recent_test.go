package way

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// TestRecent: whatever was asked before, under whichever tables, the answer is that of
// the tables.
func TestRecent(t *testing.T) {
	b := table.NewBuilder()
	r := rand.New(rand.NewPCG(1, 2))
	var recent Recent
	state := table.State{VRFs: []table.VRF{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}}}
	for n := range 8 {
		state.NextHops = append(state.NextHops, table.NextHop{ID: table.NextHopID(n + 1), Type: table.NHDiscard})
	}
	for view := uint32(1); view < 50; view++ {
		for range 20 {
			at := netip.AddrFrom4([4]byte{198, 51, byte(r.IntN(4)), byte(r.IntN(256))})
			state.Routes = []table.Route{{VRF: table.VRFID(1 + r.IntN(2)), Prefix: netip.PrefixFrom(at, 24+r.IntN(9)).Masked(), NH: table.NextHopID(1 + r.IntN(8))}}
			if err := b.Apply(&table.Delta{Upsert: state}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3000 {
			dst := packet.AddrFrom4([]byte{198, 51, byte(r.IntN(4)), byte(r.IntN(256))})
			vrf := table.VRFID(1 + r.IntN(3))
			hop, ok := recent.Lookup(b.Tables(), view, vrf, dst)
			if want, found := b.Tables().Lookup(vrf, dst); hop != want || ok != found {
				t.Fatalf("view %d, VRF %d, %s: %v, %v, want %v, %v", view, vrf, dst, hop, ok, want, found)
			}
		}
	}
	dst := packet.AddrFrom4([]byte{198, 51, 1, 1})
	if n := testing.AllocsPerRun(100, func() { recent.Lookup(b.Tables(), 50, 1, dst) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
