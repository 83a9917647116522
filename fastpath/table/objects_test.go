package table

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

// A state survives the wire.
func TestStateJSON(t *testing.T) {
	b := built(t, network())
	apply(t, b, nhs(member(Member{NH: toHost, Key: 9, DNAT: netip.MustParseAddrPort("192.0.2.9:6443")})))
	apply(t, b, nhs(NextHop{ID: 61, Type: NHComposite, Affinity: 10800},
		NextHop{ID: 62, Type: NHService, Listeners: []Listener{{Proto: 6, Port: 30080, NH: 61, HostOnly: true, OutsideNH: webs}}}))
	apply(t, b, routes(Route{VRF: blue, Prefix: pfx("0.0.0.0/0"), NH: 62, ReplyOnly: true, Translate: true}))
	apply(t, b, vifs(vif(web2, func(v *Vif) { v.ClusterAddrs = []netip.Addr{ip("198.51.100.92")} })))
	want := b.State()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got State
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("came back as %+v\nwant %+v", got, want)
	}
	fresh := built(t, got)
	if state := fresh.State(); !reflect.DeepEqual(state, want) {
		t.Errorf("applied it is %+v", state)
	}
	if s := string(text); strings.Contains(s, "invalid") || strings.Contains(s, `"sip":""`) || strings.Contains(s, `"dnat":""`) {
		t.Errorf("unset fields are written: %s", s)
	}
}

func TestMACText(t *testing.T) {
	var m MAC
	if err := m.UnmarshalText([]byte("02:00:5E:00:00:0a")); err != nil || m != (MAC{2, 0, 0x5e, 0, 0, 10}) {
		t.Errorf("%v, %v", m, err)
	}
	if text, _ := m.MarshalText(); string(text) != "02:00:5e:00:00:0a" {
		t.Errorf("written as %s", text)
	}
	for _, bad := range []string{"", "02:00:5e:00:00", "02:00:5e:00:00:0a:", "02-00-5e-00-00-0a", "2:0:5e:0:0:a", "02:00:5e:00:00:zz"} {
		if err := m.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %v", bad, m)
		}
	}
}

func TestWorkerReads(t *testing.T) {
	tab := built(t, network()).Tables()
	if tab.MaxVif() < int(web2) || tab.MaxNH() < int(nowhere) || (&Tables{}).MaxNH() >= 0 {
		t.Error("bounds do not bound")
	}
	for a, want := range map[string]bool{"192.0.2.1": true, "192.0.2.2": true, "192.0.2.9": false, "198.51.100.11": false} {
		if got := tab.Underlay(addr(a)); got != want {
			t.Errorf("underlay %s: %v", a, got)
		}
	}
	if !tab.Target(web1, packet.ProtoTCP, 90) || tab.Target(web2, packet.ProtoTCP, 90) || tab.Target(web1, packet.ProtoUDP, 90) || tab.Target(9, packet.ProtoTCP, 80) {
		t.Error("wrong targets")
	}
}

// PickLocal is Pick of a composite without its tunnels.
func TestPickLocal(t *testing.T) {
	b := built(t, network())
	apply(t, b, nhs(NextHop{ID: 60, Type: NHComposite, Members: []Member{{NH: toWeb1, Key: 1}, {NH: toWeb2, Key: 2}}},
		NextHop{ID: 61, Type: NHComposite, Members: []Member{{NH: toNode2, Label: 100, Key: 3}}}))
	tab := b.Tables()
	for h := range uint64(1000) {
		if got, want := tab.PickLocal(tab.NH(webs), h), tab.NH(60).Pick(h); got != want {
			t.Fatalf("picked %d, want %d", got, want)
		}
	}
	if tab.PickLocal(tab.NH(61), 1) != -1 {
		t.Error("a tunnel was picked")
	}
}

// Readers need no lock while the builder publishes.
func TestReadersWhileBuilding(t *testing.T) {
	b := built(t, network())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			tab := b.Tables()
			tab.Lookup(red, addr("198.51.100.65"))
			tab.NH(webs).Pick(1)
			tab.PortMap(web1, addr("198.51.100.250"), packet.ProtoTCP, 8888)
			tab.Label(17)
			tab.State()
		}
	}()
	for i := 0; ; i++ {
		d := Delta{Upsert: State{
			NextHops: []NextHop{nh(webs, func(n *NextHop) { n.Members[0].Draining = i%2 == 0 })},
			Routes:   []Route{{VRF: red, Prefix: pfx("198.51.100.64/26"), NH: toNode2, Label: Label(16 + i%2)}},
			PortMaps: []PortMap{vipMap(web1, uint16(80+i%2))},
			Labels:   []LabelEntry{{17, []NextHopID{toWeb1, toWeb2}[i%2]}},
		}}
		if err := b.Apply(&d); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
