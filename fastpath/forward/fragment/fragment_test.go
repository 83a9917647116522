package fragment

import "testing"

func TestPorts(t *testing.T) {
	p := new(Ports)
	k := Key{ID: 7, KeyNH: 1, Proto: 17}
	if _, _, ok := p.Get(&k, 0, 100); ok {
		t.Error("an empty cache knows ports")
	}
	p.Put(&k, 1000, 53, 5)
	for _, c := range []struct {
		now uint32
		ok  bool
	}{{6, true}, {105, true}, {200, true}, {301, false}} { // each look keeps it alive
		sport, dport, ok := p.Get(&k, c.now, 100)
		if ok != c.ok || ok && (sport != 1000 || dport != 53) {
			t.Errorf("at %d: %d, %d, %v", c.now, sport, dport, ok)
		}
	}
	for _, other := range []Key{{ID: 8, KeyNH: 1, Proto: 17}, {ID: 7, KeyNH: 2, Proto: 17}, {ID: 7, KeyNH: 1, Proto: 6}} {
		if _, _, ok := p.Get(&other, 201, 1000); ok {
			t.Errorf("%v has the ports of another packet", other)
		}
	}
}
