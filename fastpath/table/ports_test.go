package table

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

// TestPortMapsAreFound: whatever comes and goes, the index finds what the list holds
// and nothing else.
func TestPortMapsAreFound(t *testing.T) {
	b := built(t, network())
	r := rand.New(rand.NewPCG(7, 8))
	have := map[PortMapKey]PortMap{}
	random := func() PortMap {
		m := PortMap{Vif: web1, VIP: netip.AddrFrom4([4]byte{198, 51, 100, 128 + byte(r.IntN(8))}), Proto: packet.ProtoTCP, Port: uint16(1 + r.IntN(60)), Fixed: addr("198.51.100.65").Netip(), Target: uint16(r.IntN(1 << 16))}
		if r.IntN(2) == 0 {
			m.Proto = packet.ProtoUDP
		}
		return m
	}
	for _, m := range b.State().PortMaps {
		have[m.Key()] = m
	}
	for range 300 {
		d := Delta{}
		touched := map[PortMapKey]bool{}
		for range r.IntN(12) {
			m := random()
			if touched[m.Key()] {
				continue
			}
			touched[m.Key()] = true
			if _, ok := have[m.Key()]; ok && r.IntN(2) == 0 {
				d.Remove.PortMaps = append(d.Remove.PortMaps, m.Key())
				delete(have, m.Key())
				continue
			}
			d.Upsert.PortMaps = append(d.Upsert.PortMaps, m)
			have[m.Key()] = m
		}
		if err := b.Apply(&d); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			ask := random()
			fixed, target, ok := b.Tables().PortMap(ask.Vif, packet.AddrFrom(ask.VIP), ask.Proto, ask.Port)
			want, there := have[ask.Key()]
			if ok != there || ok && (fixed != packet.AddrFrom(want.Fixed) || target != want.Target) {
				t.Fatalf("%v: %v %d, %v, want %+v, %v", ask.Key(), fixed, target, ok, want, there)
			}
		}
	}
}
