package forward

import (
	"fmt"
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	nodePort = 30080
	nhLocal  = 70
)

// outsideListeners makes clients outside go to b1 alone, and adds the node port.
func (b *bed) outsideListeners(outside table.NextHopID) {
	b.t.Helper()
	for name, n := range b.nodes {
		up := table.State{NextHops: []table.NextHop{
			{ID: nhLocal, Type: table.NHComposite, VRF: vrf},
			{ID: nhService, Type: table.NHService, VRF: vrf, Listeners: []table.Listener{
				{Proto: packet.ProtoTCP, Port: 8888, NH: nhTCP, OutsideNH: outside},
				{Proto: packet.ProtoTCP, Port: nodePort, NH: nhTCP, HostOnly: true, OutsideNH: outside},
				{Proto: packet.ProtoUDP, Port: 53, NH: nhUDP}}}}}
		for _, p := range pods[1:] {
			if p.node != name {
				continue
			}
			if p.name == "b1" {
				up.NextHops[0].Members = []table.Member{{NH: table.NextHopID(nhPods + p.n), Key: uint64(p.n) + 1000, Name: p.name}}
			}
			up.PortMaps = append(up.PortMaps, table.PortMap{Vif: table.VifID(10 + p.n), VIP: addr(vip).Netip(), Proto: packet.ProtoTCP, Port: nodePort, Fixed: addr(p.addr).Netip(), Target: 80})
		}
		n.apply(table.Delta{Upsert: up})
	}
}

// TestOutside: a client outside of the cluster, which comes by the host, has a backend
// of the listener's other composite; the host itself and pods have one of all.
func TestOutside(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, _, _ := twoNodes(t, workers)
		b.outsideListeners(nhLocal)
		for _, c := range []struct {
			src   string
			port  uint16
			local bool
		}{{"203.0.113.9", 8888, true}, {"203.0.113.9", nodePort, true}, {"10.0.0.1", 8888, false}, {"10.0.0.1", nodePort, false}, {"10.0.0.2", 8888, false}} {
			at := map[string]int{}
			for sport := range uint16(30) {
				at[b.server(c.src, 1000+sport, c.port, "S")]++
			}
			if c.local != (len(at) == 1 && at["b1"] == 30) || !c.local && len(at) != 3 {
				t.Errorf("%s to port %d: %v", c.src, c.port, at)
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestOutsideMidstream: connections whose entries are gone go on with their backends;
// those from before the listener told clients apart stay where they are.
func TestOutsideMidstream(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		at := map[string]string{}
		connect := func(flags, src string, port uint16) {
			t.Helper()
			for sport := uint16(1000); sport < 1010; sport++ {
				key := fmt.Sprint(src, sport)
				got := b.server(src, sport, port, flags)
				if want := at[key]; want != "" && want != got {
					t.Errorf("%s port %d goes on to %s, was at %s", src, sport, got, want)
				}
				at[key] = got
			}
		}
		b.outsideListeners(0)
		connect("S", "10.0.0.30", 8888) // not the host's own: outside, as far as listeners are concerned
		b.outsideListeners(nhLocal)
		connect("A", "10.0.0.30", 8888)
		b.outsideListeners(0)
		connect("A", "10.0.0.30", 8888)
		b.outsideListeners(nhLocal)
		connect("S", "203.0.113.9", nodePort)
		connect("S", "10.0.0.1", nodePort)
		n1.forgetAll()
		connect("A", "203.0.113.9", nodePort)
		connect("A", "10.0.0.1", nodePort)
		b.wantDrops("")
		b.frames()
	})
}

// TestHostOnly: to pods, and to what comes from the fabric, a node port is not there.
func TestHostOnly(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.outsideListeners(nhLocal)
		n1.apply(table.Delta{Upsert: table.State{Labels: []table.LabelEntry{{Label: 99, NH: nhService}}}})
		n1.send("c", build.IPv4("10.0.0.2", vip).TCP(1000, nodePort, "S").Bytes())
		b.run()
		if d := reply(n1.one("c"), build.IPv4(vip, "10.0.0.2").TCP(nodePort, 1000, "RA").Bytes()); d != "" {
			t.Error(d)
		}
		n1.inject(build.Eth(build.Tunnel(build.IPv4("10.0.1.2", vip).TCP(1, nodePort, "S").Bytes(), "192.0.2.2", "192.0.2.1", 99), link.VifMAC(1), mac))
		b.run()
		b.wantDrops(" n1.no-listener=2 n2.no-flow=1") // the answer by the tunnel is of no flow there
	})
}
