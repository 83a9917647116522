package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// TestRefusalsAreAnswered: whoever is refused is told at once, and the drop has a name.
func TestRefusalsAreAnswered(t *testing.T) {
	syn := build.IPv4("10.0.0.2", nobody).TCP(1000, 80, "S").Seq(7)
	for _, c := range []struct {
		name  string
		send  *build.Packet
		reply func(sent []byte) *build.Packet
		drops string
	}{
		{"service without backends, TCP", syn,
			func([]byte) *build.Packet { return build.IPv4(nobody, "10.0.0.2").TCP(80, 1000, "RA").Ack(8).Window(0) },
			" n1.no-backend=1"},
		{"VIP port without listener, TCP", build.IPv4("10.0.0.2", vip).TCP(1000, 99, "S").Seq(7),
			func([]byte) *build.Packet { return build.IPv4(vip, "10.0.0.2").TCP(99, 1000, "RA").Ack(8).Window(0) },
			" n1.no-listener=1"},
		{"VIP port without listener, UDP", build.IPv4("10.0.0.2", vip).UDP(1000, 99).Payload(8),
			func(b []byte) *build.Packet { return build.IPv4("10.0.0.1", "10.0.0.2").PortUnreachable(b) },
			" n1.no-listener=1"},
		{"last hop", build.IPv4("10.0.0.2", "10.0.1.2").TTL(1).UDP(1000, 53),
			func(b []byte) *build.Packet { return build.IPv4("10.0.0.1", "10.0.0.2").TimeExceeded(b) },
			" n1.ttl-expired=1"},
		{"last hop on the other node", build.IPv4("10.0.0.2", "10.0.1.2").TTL(2).UDP(1000, 53),
			func(b []byte) *build.Packet {
				return build.IPv4("10.0.1.1", "10.0.0.2").TTL(63).TimeExceeded(build.IPv4("10.0.0.2", "10.0.1.2").TTL(1).UDP(1000, 53).Bytes())
			}, " n2.ttl-expired=1"},
		{"larger than the tunnel", build.IPv4("10.0.0.2", "10.0.1.2").DF().UDP(1000, 53).Payload(1472),
			func(b []byte) *build.Packet { return build.IPv4("10.0.0.1", "10.0.0.2").FragNeeded(podMTU, b) },
			" n1.too-big=1"},
		{"larger than the tunnel, IPv6", build.IPv6("2001:db8::2", "2001:db8:1::2").UDP(1000, 53).Payload(1452),
			func(b []byte) *build.Packet { return build.IPv6("fe80::1", "2001:db8::2").FragNeeded(podMTU, b) },
			" n1.too-big=1"},
		{"isolated, TCP", build.IPv4("10.0.0.2", "10.0.0.130").TCP(1000, 80, "S").Seq(7),
			func([]byte) *build.Packet {
				return build.IPv4("10.0.0.130", "10.0.0.2").TCP(80, 1000, "RA").Ack(8).Window(0)
			}, " n1.isolated=1"},
		{"isolated VIP, TCP", build.IPv4("10.0.0.2", vipI).TCP(1000, 80, "S").Seq(7),
			func([]byte) *build.Packet { return build.IPv4(vipI, "10.0.0.2").TCP(80, 1000, "RA").Ack(8).Window(0) },
			" n1.isolated=1"},
		{"no route", build.IPv6("2001:db8::2", "2001:db8:ffff::1").UDP(1000, 53), nil, " n1.no-route=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			b.networks()
			sent := c.send.Bytes()
			n1.send("c", sent)
			b.run()
			got := n1.one("c")
			if c.reply != nil {
				if d := reply(got, c.reply(sent).Bytes()); d != "" {
					t.Error(d)
				}
			}
			b.wantDrops(c.drops)
			b.frames()
		})
	}
}

// reply compares an answer of the router. How much of the packet an ICMP error
// quotes, and its precedence, are package packet's affair.
func reply(got, want []byte) string {
	var g, w packet.Info
	packet.ParseIP(got, 0, len(got), &g)
	packet.ParseIP(want, 0, len(want), &w)
	if g.Tuple != w.Tuple || g.ICMPType != w.ICMPType || g.ICMPCode != w.ICMPCode || g.Inner != w.Inner || g.TCPFlags != w.TCPFlags || g.TTL != w.TTL {
		return "got " + build.Describe(got) + ", want " + build.Describe(want)
	}
	return ""
}

// TestUnresolvedNeighbour: until the underlay neighbour is known, packets to its
// node are dropped by name, and flow as soon as it is.
func TestUnresolvedNeighbour(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	tunnel := tunnelTo("192.0.2.1", "192.0.2.2", table.MAC{})
	n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnel}}})
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes())
	b.run()
	b.wantDrops(" n1.unresolved=1")
	tunnel.DstMAC = table.MAC{2, 0, 0, 0, 0, 7}
	n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnel}}})
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes())
	b.run()
	n2.one("b2")
	// A neighbour that is away for a moment costs packets, not the flow.
	known := tunnel.DstMAC
	for _, mac := range []table.MAC{{}, known} {
		tunnel.DstMAC = mac
		n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnel}}})
		n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes())
		b.run()
		if got := len(n1.flows()); got != 2 {
			t.Errorf("neighbour %s: %d entries, want 2", mac, got)
		}
	}
	n2.one("b2")
	b.wantDrops(" n1.unresolved=2")
}

// TestFullTables: a full table and an interface over its share are named drops,
// and established connections stay.
func TestFullTables(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	n1.workers[0].s.opts.MaxVifFlows = 10
	for i := range 20 {
		n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").TCP(uint16(1000+i), 80, "S").Bytes())
	}
	b.run()
	if got := len(n2.got("b2")); got != 10 {
		t.Errorf("%d packets passed, want 10", got)
	}
	b.wantDrops(" n1.vif-flow-limit=10")
}
