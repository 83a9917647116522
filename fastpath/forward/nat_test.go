package forward

import (
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// TestTranslation: a request to the VIP and its reply, for every protocol that has
// ports, both families, with and without checksum, whole and in fragments.
func TestTranslation(t *testing.T) {
	ip := func(vip6 bool, client bool) (string, string) {
		switch {
		case vip6 && client:
			return "2001:db8::2", "2001:db8:1::2"
		case vip6:
			return "2001:db8::2", "2001:db8:96::a"
		case client:
			return "10.0.0.2", "10.0.1.2"
		}
		return "10.0.0.2", vip
	}
	for name, c := range map[string]struct {
		v6            bool
		l4            func(p *build.Packet, sport, dport uint16) *build.Packet
		port, target  uint16
		cut           bool
		sctpFragments bool
	}{
		"TCP":               {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S") }, port: 8888, target: 80},
		"TCP, IPv6":         {v6: true, l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S") }, port: 8888, target: 80},
		"TCP, IPv6, in two": {v6: true, l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S").Payload(900) }, port: 8888, target: 80, cut: true},
		"UDP":               {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.UDP(s, d).Payload(9) }, port: 53, target: 5353},
		"UDP, no checksum":  {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.UDP(s, d).NoChecksum().Payload(9) }, port: 53, target: 5353},
		"UDP, in two":       {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.UDP(s, d).Payload(900) }, port: 53, target: 5353, cut: true},
		"SCTP":              {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.SCTP(s, d).Payload(9) }, port: 9999, target: 80},
	} {
		t.Run(name, func(t *testing.T) {
			eachWorkers(t, func(t *testing.T, workers int) {
				b, n1, n2 := twoNodes(t, workers)
				b.backends("b2")
				b.sctp("b2")
				for sport := range uint16(8) {
					sport += 1000
					client, service := ip(c.v6, false)
					_, backend := ip(c.v6, true)
					pass(b, n1, "c", n2, "b2", c.cut,
						c.l4(build.IP(client, service), sport, c.port), c.l4(build.IP(client, backend).TTL(62), sport, c.target))
					pass(b, n2, "b2", n1, "c", c.cut,
						c.l4(build.IP(backend, client), c.target, sport), c.l4(build.IP(service, client).TTL(62), c.port, sport))
				}
				b.wantDrops("")
				b.frames()
			})
		})
	}
}

// pass sends a packet, perhaps in fragments, and compares what arrives.
func pass(b *bed, from *node, sender string, to *node, receiver string, cut bool, send, want *build.Packet) {
	b.t.Helper()
	mtu := 9000
	if cut {
		mtu = 600
	}
	for _, f := range build.Fragments(send.Bytes(), mtu, 7) {
		from.send(sender, f)
		b.run()
	}
	got := to.got(receiver)
	expected := build.Fragments(want.Bytes(), mtu, 7)
	if len(got) != len(expected) {
		b.t.Fatalf("%s received %d packets, want %d%s%s", receiver, len(got), len(expected), from.drops(), to.drops())
	}
	for i := range got {
		if d := build.Diff(got[i], expected[i]); d != "" {
			b.t.Errorf("%s: %s", receiver, d)
		}
	}
}

// TestEcho: identifiers keep the pings of two clients, and of one, apart.
func TestEcho(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		for id := range uint16(20) {
			for _, c := range []struct{ pod, src, dst string }{{"c", "10.0.0.2", "10.0.1.2"}, {"b1", "10.0.0.3", "10.0.1.2"}, {"c", "2001:db8::2", "2001:db8:1::2"}} {
				pass(b, n1, c.pod, n2, "b2", false, build.IP(c.src, c.dst).Echo(id, 1), build.IP(c.src, c.dst).TTL(62).Echo(id, 1))
				pass(b, n2, "b2", n1, c.pod, false, build.IP(c.dst, c.src).EchoReply(id, 1), build.IP(c.dst, c.src).TTL(62).EchoReply(id, 1))
			}
		}
		b.wantDrops("")
		b.frames()
		if flows := len(n1.flows()); flows != 20*3*2 {
			t.Errorf("%d entries, want 120", flows)
		}
	})
}

// TestErrorsThroughNAT: an error of the backend about a request, and one of the
// client about a reply, reach the other end as it knows the packet. Both families;
// the pair may be split between workers.
func TestErrorsThroughNAT(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.backends("b2")
		for sport := range uint16(12) {
			sport += 7000
			for _, a := range []struct{ client, service, backend string }{
				{"10.0.0.2", vip, "10.0.1.2"}, {"2001:db8::2", vip6, "2001:db8:1::2"},
			} {
				request := build.IP(a.client, a.service).TCP(sport, 8888, "S").Bytes()
				n1.send("c", request)
				b.run()
				translated := n2.one("b2")
				pass(b, n2, "b2", n1, "c", false,
					build.IP(a.backend, a.client).PortUnreachable(translated), build.IP(a.service, a.client).TTL(62).PortUnreachable(ttl(request, 62)))

				reply := build.IP(a.backend, a.client).TCP(80, sport, "SA").Bytes()
				n2.send("b2", reply)
				b.run()
				seen := n1.one("c")
				pass(b, n1, "c", n2, "b2", false,
					build.IP(a.client, a.service).PortUnreachable(seen), build.IP(a.client, a.backend).TTL(62).PortUnreachable(ttl(reply, 62)))
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestErrorFromOutside: a router's error keeps the router's address; what it is about
// is translated back, and it must be about a packet of ours.
func TestErrorFromOutside(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.external("198.51.100.7:5353")
		for sport := range uint16(10) {
			sport += 1000
			for _, dst := range []string{vip, "198.51.100.9"} {
				request := build.IPv4("10.0.0.2", dst).UDP(sport, 53).Bytes()
				n1.send("c", request)
				b.run()
				pass(b, n1, "host", n1, "c", false,
					build.IPv4("198.51.100.1", "10.0.0.2").TimeExceeded(n1.one("host")),
					build.IPv4("198.51.100.1", "10.0.0.2").TTL(63).TimeExceeded(ttl(request, 63)))
			}
		}
		b.wantDrops("")
		n1.send("host", build.IPv4("198.51.100.1", "10.0.0.2").TTL(1).TimeExceeded(build.IPv4("10.0.0.2", "198.51.100.9").UDP(1000, 53).Bytes()).Bytes())
		n1.send("host", build.IPv4("198.51.100.1", "10.0.0.2").TimeExceeded(build.IPv4("10.0.0.2", "198.51.100.9").UDP(999, 53).Bytes()).Bytes())
		b.run()
		b.wantDrops(" n1.ttl-expired=1 n1.icmp-no-flow=1")
		b.frames()
	})
}

// ttl is the packet with another TTL and right checksum.
func ttl(ip []byte, n uint8) []byte {
	out := append([]byte(nil), ip...)
	var in packet.Info
	packet.ParseIP(out, 0, len(out), &in)
	for in.TTL > n {
		packet.DecTTL(out, &in)
	}
	return out
}

// external makes the service's only backend one that is no VMI, on both nodes.
func (b *bed) external(backend string) {
	b.t.Helper()
	for _, n := range b.nodes {
		members := []table.Member{{NH: nhHost, Key: 1, Name: "api", DNAT: netip.MustParseAddrPort(backend)}}
		n.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{
			{ID: nhTCP, Type: table.NHComposite, VRF: vrf, Members: members}, {ID: nhUDP, Type: table.NHComposite, VRF: vrf, Members: members}}}})
	}
}

// TestBackendOutside: a backend that is no VMI is translated to on the client's node
// and reached through the host; for the host itself the VIP is the source, too.
func TestBackendOutside(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.external("198.51.100.7:6443")
		for sport := range uint16(10) {
			sport += 1000
			for _, c := range []struct{ pod, src, seen string }{{"c", "10.0.0.2", "10.0.0.2"}, {"host", "10.0.0.1", vip}} {
				pass(b, n1, c.pod, n1, "host", false,
					build.IPv4(c.src, vip).TCP(sport, 8888, "S"), build.IPv4(c.seen, "198.51.100.7").TTL(63).TCP(sport, 6443, "S"))
				pass(b, n1, "host", n1, c.pod, false,
					build.IPv4("198.51.100.7", c.seen).TCP(6443, sport, "SA"), build.IPv4(vip, c.src).TTL(63).TCP(8888, sport, "SA"))
			}
		}
		// Another source of the host, the same port: the replies must differ.
		n1.send("host", build.IPv4("192.0.2.99", vip).TCP(1000, 8888, "S").Bytes())
		b.run()
		var in packet.Info
		packet.ParseIP(n1.one("host"), 0, 40, &in)
		if in.Tuple.Sport == 1000 {
			t.Error("two connections look alike to the backend")
		}
		n1.send("host", build.IPv4("198.51.100.7", vip).TCP(6443, in.Tuple.Sport, "SA").Bytes())
		b.run()
		n1.want("host", build.IPv4(vip, "192.0.2.99").TTL(63).TCP(8888, 1000, "SA"))
		b.wantDrops("")
		b.frames()
	})
}

// TestLabelOfVIP: a gateway sends to a VIP by a label of its own; only backends on
// this node serve, and the next hop need not say in which VRF.
func TestLabelOfVIP(t *testing.T) {
	for _, nh := range []table.NextHopID{nhTCP, nhService} {
		eachWorkers(t, func(t *testing.T, workers int) {
			b, n1, _ := twoNodes(t, workers)
			state := n1.builder.State()
			for i := range state.NextHops {
				if h := &state.NextHops[i]; h.ID == nhTCP || h.ID == nhService {
					h.VRF = 0
				}
			}
			state.Labels = append(state.Labels, table.LabelEntry{Label: 99, NH: nh})
			n1.apply(table.Delta{Upsert: state})
			for sport := range uint16(20) {
				sport += 1000
				p := build.IPv4("10.0.1.2", vip).TCP(sport, 8888, "S")
				n1.inject(build.Eth(build.Tunnel(p.Bytes(), "192.0.2.2", "192.0.2.1", 99), link.VifMAC(1), mac))
				b.run()
				n1.want("b1", build.IPv4("10.0.1.2", "10.0.0.3").TTL(63).TCP(sport, 80, "S"))
			}
			n1.shared.Trace(build.Eth(build.Tunnel(build.IPv4("10.0.1.2", vip).TCP(1, 8888, "S").Bytes(), "192.0.2.2", "192.0.2.1", 99), link.VifMAC(1), mac))
			n1.inject(build.Eth(build.Tunnel(build.IPv4("10.0.1.2", vip).TCP(1, 8888, "S").Bytes(), "192.0.2.2", "192.0.2.1", 99), link.VifMAC(1), mac))
			b.wantDrops("")
			b.run()
			n1.one("b1")
			b.frames()
		})
	}
}

// TestServedPortIsFree: a pod may send from the port it serves; only TCP replies of
// no known connection are held back.
func TestServedPortIsFree(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		pass(b, n1, "b1", n2, "b2", false, build.IPv4("10.0.0.3", "10.0.1.2").UDP(5353, 5353), build.IPv4("10.0.0.3", "10.0.1.2").TTL(62).UDP(5353, 5353))
		pass(b, n2, "b2", n1, "b1", false, build.IPv4("10.0.1.2", "10.0.0.3").UDP(5353, 5353), build.IPv4("10.0.1.2", "10.0.0.3").TTL(62).UDP(5353, 5353))
		pass(b, n1, "b1", n2, "b2", false, build.IPv4("10.0.0.3", "10.0.1.2").TCP(80, 80, "S"), build.IPv4("10.0.0.3", "10.0.1.2").TTL(62).TCP(80, 80, "S"))
		b.wantDrops("")
		b.frames()
	})
}
