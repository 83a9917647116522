package hub

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

var blockRoute = plan.RouteKey{VRF: "net", Prefix: netip.MustParsePrefix("198.51.100.0/26")}

func publication() *southbound.Publish {
	return &southbound.Publish{
		Vmis: []*southbound.VMIStatus{{Uuid: "a", Addresses: []string{"198.51.100.2", "2001:db8::2"}, Mac: "02:00:00:00:00:01", Label: 20, Tap: "tapa", PortMaps: []*southbound.PortMap{{Vip: "203.0.113.10", Protocol: 6, Port: 80, Target: 8080}}}},
		Routes: []*southbound.LocalRoute{
			{Vrf: "net", Prefix: "198.51.100.0/26", Label: 16, Encapsulations: []string{"udp"}},
			{Vrf: "net", Prefix: "203.0.113.10/32", Label: 17, Vmis: []string{"a"}},
		},
		Blocks: []*southbound.BlockStatus{{VirtualNetwork: "net", Prefix: "198.51.100.0/26", Used: 2}},
		Host:   &southbound.HostStatus{Addresses: []string{"198.51.100.1"}},
		InSync: true,
	}
}

func (r *running) report(node string) *plan.Report { return r.Reports()[node] }

func TestReportsOutliveStreams(t *testing.T) {
	h := start(t, time.Second)
	h.Publish(intents(nil, nil))
	a, _ := h.dial(h.config("n1"))
	if err := a.Publish(publication()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the report", func() bool { r := h.report("n1"); return r != nil && r.Synced })
	r := h.report("n1")
	if r.Tunnel != netip.MustParseAddr("192.0.2.1") || !slices.Equal(r.VMIs["a"].Addresses, addrs("198.51.100.2", "2001:db8::2")) ||
		r.Routes[blockRoute].Label != 16 || len(r.Blocks) != 1 || !slices.Equal(r.Host, addrs("198.51.100.1")) ||
		r.VMIs["a"].PortMaps[plan.PortMapKey{VIP: addrs("203.0.113.10")[0], Protocol: 6, Port: 80}] != 8080 {
		t.Fatalf("%+v", r)
	}

	// Lost: kept as stale. Back: what is not said again is swept at its in_sync.
	_ = a.Close()
	eventually(t, "stale", func() bool { return h.report("n1").Stale })
	if len(h.report("n1").Routes) != 2 || h.Agents()[0].State != "stale" {
		t.Error("lost at once:", h.report("n1"))
	}
	b, _ := h.dial(h.config("n1"))
	first := publication()
	first.Routes, first.Vmis, first.InSync = first.Routes[:1], nil, false
	if err := b.Publish(first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected", func() bool { return h.Agents()[0].State == "replaying" })
	if r := h.report("n1"); len(r.Routes) != 2 || len(r.VMIs) != 1 {
		t.Error("swept before in_sync:", r)
	}
	if err := b.Publish(&southbound.Publish{InSync: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "swept", func() bool {
		r := h.report("n1")
		return r.Synced && !r.Stale && len(r.Routes) == 1 && len(r.VMIs) == 0
	})
	if s := h.Agents()[0].State; s != "connected" {
		t.Error(s)
	}

	// Lost for good: withdrawn after the hold time.
	_ = b.Close()
	eventually(t, "stale again", func() bool { r := h.report("n1"); return r == nil || r.Stale })
	began := time.Now()
	eventually(t, "withdrawn", func() bool { return h.report("n1") == nil })
	if d := time.Since(began); d < 700*time.Millisecond {
		t.Error("withdrawn too early:", d)
	}
}

func TestAnAgentThatNeverEndsItsReplayIsSwept(t *testing.T) {
	h := start(t, 300*time.Millisecond)
	h.Publish(intents(nil, nil))
	a, _ := h.dial(h.config("n1"))
	if err := a.Publish(publication()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the report", func() bool { r := h.report("n1"); return r != nil && r.Synced })
	_ = a.Close()
	b, _ := h.dial(h.config("n1"))
	again := publication()
	again.Routes, again.InSync = again.Routes[:1], false
	if err := b.Publish(again); err != nil {
		t.Fatal(err)
	}
	eventually(t, "swept", func() bool { return len(h.report("n1").Routes) == 1 })
	if len(h.report("n1").VMIs) != 1 {
		t.Error("what was said again is gone")
	}
}

func TestAbsorbLeavesOutWhatCannotBe(t *testing.T) {
	p := publication()
	p.Vmis = append(p.Vmis, &southbound.VMIStatus{Uuid: "bad", Addresses: []string{"nonsense"}})
	p.Vmis = append(p.Vmis, &southbound.VMIStatus{Uuid: "worse", PortMaps: []*southbound.PortMap{{Vip: "203.0.113.10", Port: 65536}}})
	p.Routes = append(p.Routes, &southbound.LocalRoute{Vrf: "net", Prefix: "198.51.100.1/26"})
	p.RemovedRoutes = []*southbound.RouteName{{Vrf: "net", Prefix: "x"}}
	p.Blocks = append(p.Blocks, &southbound.BlockStatus{Prefix: "::ffff:1.2.3.4/120"})
	p.Host.Addresses = []string{"fe80::1%eth0"}
	r, faults := absorb(&plan.Report{}, p, newSaid())
	if len(faults) != 6 || len(r.VMIs) != 1 || len(r.Routes) != 2 || len(r.Blocks) != 1 || r.Host != nil {
		t.Error(faults, r)
	}
	r, faults = absorb(r, &southbound.Publish{RemovedVmis: []string{"a", "never"}, RemovedRoutes: []*southbound.RouteName{{Vrf: "net", Prefix: "203.0.113.10/32"}}}, newSaid())
	if len(faults) != 0 || len(r.VMIs) != 0 || len(r.Routes) != 1 {
		t.Error(faults, r)
	}
}

// FuzzFromAgent feeds bytes as an agent's message: whatever decodes is taken
// or refused, never more.
func FuzzFromAgent(f *testing.F) {
	for _, m := range []*southbound.FromAgent{
		{Message: &southbound.FromAgent_Publish{Publish: publication()}},
		{Message: &southbound.FromAgent_Ack{Ack: &southbound.Ack{Nonce: 1, Nacks: []*southbound.Nack{{Type: lb, Name: "web", Error: "no"}}}}},
		{Message: &southbound.FromAgent_Hello{Hello: &southbound.Hello{Node: "n1", TunnelAddress: "192.0.2.1", Have: []*southbound.ResourceVersion{{Type: 99, Name: "x"}, {Type: lb, Name: "web"}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m southbound.FromAgent
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		h := quietHub()
		_, _ = checkHello("n1", m.GetHello())
		s := &stream{hub: h, node: "n1", end: func(error) {}, due: make(chan struct{}, 1), said: newSaid(),
			out: newOutbox("n1", m.GetHello().GetHave()), refused: map[plan.Key]string{}}
		h.connect(s, netip.MustParseAddr("192.0.2.1"), m.GetHello().GetAgentVersion())
		h.Publish(intents(setOf(resource(lb, "web", "1")), nil))
		if s.out.next(h.intents, nil) == nil {
			t.Fatal("nothing to say to a new agent")
		}
		if err := h.take(s, &m); err == nil && m.GetPublish() != nil {
			once := h.Reports()["n1"]
			if err := h.take(s, &m); err != nil {
				t.Fatal(err)
			}
			if twice := h.Reports()["n1"]; len(once.VMIs) != len(twice.VMIs) || len(once.Routes) != len(twice.Routes) {
				t.Fatalf("said twice: %+v, %+v", once, twice)
			}
		}
		h.disconnect(s, nil)
		h.Agents()
	})
}
