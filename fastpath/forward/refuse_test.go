package forward

import (
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/link"
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
		{"no route", build.IPv6("2001:db8::2", "2001:db8:ffff::1").UDP(1000, 53), nil, " n1.no-route=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
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

// TestSilentDrops: what nobody may be told of is dropped under its name.
func TestSilentDrops(t *testing.T) {
	mac := [6]byte{2, 1, 0, 0, 0, 0}
	peer := [6]byte{2, 0, 0, 0, 0, 7}
	fabric := link.VifMAC(1)
	ok := build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 1000).Bytes()
	for _, c := range []struct {
		name  string
		frame []byte
		want  Reason
	}{
		{"short frame", []byte{1, 2, 3}, DropInvalidFrame},
		{"vif that is not there", build.Eth(ok, link.VifMAC(999), mac), DropUnknownVif},
		{"LLDP", append(append(vifMAC(10), mac[:]...), make([]byte, 48)...), DropInvalidProtocol},
		{"truncated IP", build.Eth(ok, link.VifMAC(10), mac)[:30], DropInvalidPacket},
		{"bad checksum", corrupt(build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Bytes(), link.VifMAC(10), mac), 14+10), DropChecksum},
		{"spoofed source", build.Eth(build.IPv4("10.0.0.9", "10.0.0.3").UDP(1, 2).Bytes(), link.VifMAC(10), mac), DropInvalidSource},
		{"spoofed ARP", onVif(build.ARPRequest(mac, "10.0.0.9", "169.254.1.1"), 10), DropInvalidARP},
		{"spoofed solicitation", build.Eth(build.NS("2001:db8::99", "fe80::1", mac).Bytes(), link.VifMAC(10), mac), DropInvalidND},
		{"multicast", build.Eth(build.IPv4("10.0.0.2", "224.0.0.251").UDP(5353, 5353).Bytes(), link.VifMAC(10), mac), DropMulticast},
		{"tunnel from a pod", build.Eth(build.IPv4("10.0.0.2", "192.0.2.2").UDP(50000, 6635).Payload(40).Bytes(), link.VifMAC(10), mac), DropTunnelFromPod},
		{"garbage tunnel", build.Eth(build.IPv4("192.0.2.2", "192.0.2.1").UDP(50000, 6635).Payload(2).Bytes(), fabric, peer), DropInvalidTunnel},
		{"unknown peer", build.Eth(build.Tunnel(ok, "192.0.2.66", "192.0.2.1", vrfLabel), fabric, peer), DropUnknownPeer},
		{"unknown label", build.Eth(build.Tunnel(ok, "192.0.2.2", "192.0.2.1", 4711), fabric, peer), DropInvalidLabel},
		{"loop", build.Eth(build.Tunnel(build.IPv4("10.0.1.2", "10.0.1.3").UDP(1, 2).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), fabric, peer), DropPacketLoop},
		{"source behind another node", build.Eth(build.Tunnel(build.IPv4("10.0.0.3", "10.0.0.2").UDP(1, 2).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), fabric, peer), DropInvalidSource},
		{"reply of a VIP without flow", build.Eth(build.Tunnel(build.IPv4(vip, "10.0.0.2").TCP(8888, 1000, "A").Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel), fabric, peer), DropNoFlow},
		{"reply of a backend without flow", build.Eth(build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 1000, "SA").Bytes(), link.VifMAC(11), mac), DropNoFlow},
		{"ICMP error of no flow", build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").PortUnreachable(build.IPv4("10.0.0.3", "10.0.0.2").UDP(5, 6).Bytes()).Bytes(), link.VifMAC(10), mac), DropICMPNoFlow},
		{"fragment without head", build.Eth(build.Fragments(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Payload(3000).Bytes(), 1400, 9)[1], link.VifMAC(10), mac), DropNoHead},
		{"too many chunks", build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1, 2).Payload(30000).Bytes(), link.VifMAC(10), mac), DropTooManyChunks},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, n1, _ := twoNodes(t, 2)
			n1.inject(c.frame)
			b.run()
			b.wantDrops(" n1." + c.want.String() + "=1")
			for vif := range n1.vifs {
				if out := n1.got(vif); len(out) > 0 {
					t.Errorf("%s received %s", vif, build.Describe(out[0]))
				}
			}
			b.frames()
		})
	}
}

func vifMAC(id uint32) []byte { m := link.VifMAC(id); return m[:] }

func onVif(frame []byte, id uint32) []byte { copy(frame, vifMAC(id)); return frame }

func corrupt(b []byte, at int) []byte { b[at] ^= 0x55; return b }

// TestUnresolvedNeighbour: until the underlay neighbour is known, packets to its
// node are dropped by name, and flow as soon as it is.
func TestUnresolvedNeighbour(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	tunnel := table.NextHop{ID: nhTunnel, Type: table.NHTunnel, Vif: 1, Sip: netip.MustParseAddr("192.0.2.1"),
		Dip: netip.MustParseAddr("192.0.2.2"), SrcMAC: table.MAC{2, 0, 0, 0, 0, 9}, MTU: fabricMTU}
	n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnel}}})
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes())
	b.run()
	b.wantDrops(" n1.unresolved=1")
	tunnel.DstMAC = table.MAC{2, 0, 0, 0, 0, 7}
	n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnel}}})
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes())
	b.run()
	n2.one("b2")
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
