package entry

import (
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// TestTCP plays connections. c: and s: are packets of the client and the server; both
// entries hold the same events, each from its own side.
func TestTCP(t *testing.T) {
	const syn, ack, fin, rst = packet.SYN, packet.ACK, packet.FIN, packet.RST
	type seen struct {
		server bool
		flags  uint8
	}
	for name, c := range map[string]struct {
		packets []seen
		want    string
		idle    uint32
	}{
		"SYN":               {[]seen{{false, syn}}, "S", 30 * Second},
		"SYN again":         {[]seen{{false, syn}, {false, syn}}, "S", 30 * Second},
		"answered":          {[]seen{{false, syn}, {true, syn | ack}}, "SSr", 30 * Second},
		"established":       {[]seen{{false, syn}, {true, syn | ack}, {false, ack}, {true, ack}}, "SSrEEr", 7440 * Second},
		"half closed":       {[]seen{{false, syn}, {true, syn | ack}, {false, ack}, {false, fin | ack}}, "SSrEFC", 120 * Second},
		"closed":            {[]seen{{false, syn}, {true, syn | ack}, {false, ack}, {true, fin | ack}, {false, fin | ack}}, "SSrEErFFrD", 5 * Second},
		"refused":           {[]seen{{false, syn}, {true, rst | ack}}, "SRD", 5 * Second},
		"reset":             {[]seen{{false, syn}, {true, syn | ack}, {false, rst}}, "SSrRD", 5 * Second},
		"midstream":         {[]seen{{false, ack}}, "SSrE", 7440 * Second},
		"midstream, reset":  {[]seen{{false, rst}}, "SSrERD", 5 * Second},
		"used again":        {[]seen{{false, syn}, {true, syn | ack}, {false, rst}, {false, syn}}, "S", 30 * Second},
		"used again, again": {[]seen{{false, syn}, {true, rst | ack}, {false, syn}, {true, syn | ack}, {false, ack}}, "SSrE", 7440 * Second},
	} {
		t.Run(name, func(t *testing.T) {
			client := FirstTCP(c.packets[0].flags)
			server := client.Reverse()
			for _, p := range c.packets[1:] {
				if p.server {
					server = NextTCP(server, p.flags)
					client = MergeTCP(client, server.Reverse())
				} else {
					client = NextTCP(client, p.flags)
					server = MergeTCP(server, client.Reverse())
				}
			}
			if client.String() != c.want || server != client.Reverse() {
				t.Errorf("client %s, server %s; want %s and its reverse", client, server, c.want)
			}
			if got := Timeout(packet.ProtoTCP, client); got != c.idle {
				t.Errorf("forgotten after %d ticks, want %d", got, c.idle)
			}
		})
	}
}

// TestIdle: another worker's clock may be ahead, and ticks wrap around.
func TestIdle(t *testing.T) {
	for _, c := range []struct{ now, seen, want uint32 }{{10, 7, 3}, {7, 10, 0}, {2, ^uint32(0), 3}} {
		if got := Idle(c.now, c.seen); got != c.want {
			t.Errorf("idle from %d to %d: %d, want %d", c.seen, c.now, got, c.want)
		}
	}
}

// TestNextPort: every port of the dynamic range is tried once, the first being none
// that many flows have in common.
func TestNextPort(t *testing.T) {
	e := &flow.Record{Sport: 1000, Dport: 80, Proto: packet.ProtoUDP}
	Translate(e, &packet.Tuple{Sport: 1000, Dport: 80, Proto: packet.ProtoUDP})
	if e.Action != flow.ActionForward || e.NAT != 0 {
		t.Errorf("action %s %s", e.Action, e.NAT)
	}
	seen := map[uint16]bool{}
	for range 1 << 14 {
		NextPort(e)
		seen[e.NatSport] = true
	}
	if len(seen) != 1<<14 || seen[1000] || e.Action != flow.ActionNAT || e.NAT != flow.NATSport {
		t.Errorf("%d ports, action %s %s", len(seen), e.Action, e.NAT)
	}
}

// TestPosition: a flow finds its member wherever that stands now, and no other.
func TestPosition(t *testing.T) {
	outside := netip.MustParseAddrPort("198.51.100.7:6443")
	nh := composite(t, table.Member{}, table.Member{NH: 5, Label: 20, Key: 1}, table.Member{NH: 5, Label: 21, Key: 2},
		table.Member{NH: 3, Key: 3, DNAT: outside}, table.Member{NH: 7, Key: 4})
	for i, c := range []struct {
		nh    uint32
		label table.Label
		dst   packet.Addr
		dport uint16
		was   int
		want  int
	}{
		{5, 20, packet.Addr{}, 0, 1, 1}, {5, 21, packet.Addr{}, 0, 1, 2}, {5, 22, packet.Addr{}, 0, 1, -1}, {7, 0, packet.Addr{}, 0, 900, 4}, {0, 0, packet.Addr{}, 0, 0, -1},
		{3, 0, packet.AddrFrom(outside.Addr()), 6443, 3, 3}, {3, 0, packet.AddrFrom(outside.Addr()), 443, 3, -1},
	} {
		e := &flow.Record{NH: c.nh, LabelECMP: flow.PackLabelECMP(c.label, c.was), NatDst: c.dst, NatDport: c.dport}
		if got := Position(nh, e); got != c.want {
			t.Errorf("%d: position %d, want %d", i, got, c.want)
		}
	}
}

// composite has members on this node (7), on another (5) and outside of the cluster (3).
func composite(t *testing.T, members ...table.Member) *table.NH {
	t.Helper()
	node, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	b := table.NewBuilder()
	if err := b.Apply(&table.Delta{Upsert: table.State{
		VRFs: []table.VRF{{ID: 1}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 1, MTU: 1500},
			{ID: 3, Kind: table.VifHost, Name: "tapvhost0", Ifindex: 3, VRF: 1, NH: 3, MAC: table.MAC{2}, MTU: 1500},
			{ID: 7, Kind: table.VifVirtual, Name: "tap7", Ifindex: 7, VRF: 1, NH: 7, MAC: table.MAC{2}, MTU: 1500},
		},
		NextHops: []table.NextHop{
			{ID: 3, Type: table.NHHost, Vif: 3},
			{ID: 5, Type: table.NHTunnel, Vif: 1, Sip: node, Dip: other, MTU: 1500},
			{ID: 7, Type: table.NHEncap, Vif: 7},
			{ID: 20, Type: table.NHComposite, Members: members},
		},
	}}); err != nil {
		t.Fatal(err)
	}
	return b.Tables().NH(20)
}
