package forward

import (
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// TestClusterAddresses: every protocol, both families, whole and in fragments, from two
// pods with one address and one port to a service on the other node, and back. SCTP's
// checksum covers the ports, which the backend's node translates.
func TestClusterAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		v6           bool
		l4           func(p *build.Packet, sport, dport uint16) *build.Packet
		port, target uint16
		cut          bool
	}{
		"TCP":               {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S") }, port: 8888, target: 80},
		"TCP, IPv6":         {v6: true, l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S") }, port: 8888, target: 80},
		"TCP, IPv6, in two": {v6: true, l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.TCP(s, d, "S").Payload(900) }, port: 8888, target: 80, cut: true},
		"UDP, in two":       {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.UDP(s, d).Payload(900) }, port: 53, target: 5353, cut: true},
		"SCTP":              {l4: func(p *build.Packet, s, d uint16) *build.Packet { return p.SCTP(s, d).Payload(9) }, port: 9999, target: 80},
	} {
		t.Run(name, func(t *testing.T) {
			eachWorkers(t, func(t *testing.T, workers int) {
				b, n1, n2 := twoNodes(t, workers)
				b.networks()
				b.backends("b2")
				b.sctp("b2")
				service, backend := vip, "10.0.1.2"
				if c.v6 {
					service, backend = vip6, "2001:db8:1::2"
				}
				for sport := uint16(1000); sport < 1008; sport++ {
					for _, x := range tenants[2:4] {
						own, outside := x.addr, x.cluster
						if c.v6 {
							own, outside = x.addr6, x.cluster6
						}
						pass(b, n1, x.name, n2, "b2", c.cut, c.l4(build.IP(own, service), sport, c.port), c.l4(build.IP(outside, backend).TTL(62), sport, c.target))
						pass(b, n2, "b2", n1, x.name, c.cut, c.l4(build.IP(backend, outside), c.target, sport), c.l4(build.IP(service, own).TTL(62), c.port, sport))
					}
				}
				b.wantDrops("")
				b.frames()
			})
		})
	}
}

// TestClusterAddressClash: two flows look alike to the pod that receives them, so the
// second has another source port, in both directions; SCTP's checksum follows.
func TestClusterAddressClash(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.networks()
		for sport := uint16(1000); sport < 1010; sport++ {
			pass(b, n1, "host", n1, "x1", false, build.IPv4("10.0.0.1", "10.9.0.5").SCTP(sport, 80).Payload(8), build.IPv4("10.0.0.1", "10.9.0.5").TTL(63).SCTP(sport, 80).Payload(8))
			n1.send("host", build.IPv4("10.0.0.1", "10.0.0.200").SCTP(sport, 80).Payload(8).Bytes())
			b.run()
			var in packet.Info
			packet.ParseIP(n1.one("x1"), 0, 60, &in) // one verifies the checksum
			if in.Tuple.Sport == sport || in.Tuple.Dst != addr("10.9.0.5") {
				t.Fatalf("x1 received %s", in.Tuple)
			}
			pass(b, n1, "x1", n1, "host", false, build.IPv4("10.9.0.5", "10.0.0.1").SCTP(80, in.Tuple.Sport).Payload(8), build.IPv4("10.0.0.200", "10.0.0.1").TTL(63).SCTP(80, sport).Payload(8))
			pass(b, n1, "x1", n1, "host", false, build.IPv4("10.9.0.5", "10.0.0.1").SCTP(80, sport).Payload(8), build.IPv4("10.9.0.5", "10.0.0.1").TTL(63).SCTP(80, sport).Payload(8))
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestClusterAddressErrors: errors about packets of a translated flow, in each direction
// and from a router between, name what their receiver knows.
func TestClusterAddressErrors(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.networks()
		b.backends("b2")
		for sport := uint16(7000); sport < 7006; sport++ {
			for _, x := range tenants[2:4] {
				for _, a := range []struct{ own, outside, service, backend string }{
					{x.addr, x.cluster, vip, "10.0.1.2"}, {x.addr6, x.cluster6, vip6, "2001:db8:1::2"},
				} {
					request := build.IP(a.own, a.service).TCP(sport, 8888, "S").Bytes()
					n1.send(x.name, request)
					b.run()
					pass(b, n2, "b2", n1, x.name, false,
						build.IP(a.backend, a.outside).PortUnreachable(n2.one("b2")), build.IP(a.service, a.own).TTL(62).PortUnreachable(ttl(request, 62)))
					reply := build.IP(a.backend, a.outside).TCP(80, sport, "SA").Bytes()
					n2.send("b2", reply)
					b.run()
					pass(b, n1, x.name, n2, "b2", false,
						build.IP(a.own, a.service).PortUnreachable(n1.one(x.name)), build.IP(a.outside, a.backend).TTL(62).PortUnreachable(ttl(reply, 62)))
				}
			}
			request := build.IPv4("10.9.0.5", "198.51.100.9").UDP(sport, 53).Bytes()
			n1.send("x2", request)
			b.run()
			pass(b, n1, "host", n1, "x2", false, build.IPv4("198.51.100.1", "10.0.0.201").TimeExceeded(n1.one("host")),
				build.IPv4("198.51.100.1", "10.9.0.5").TTL(63).TimeExceeded(ttl(request, 63)))
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestClusterAddressForgotten: when all entries are gone, a packet in the middle of a
// connection makes the same pair, on the nodes of both ends; so it does after a change.
func TestClusterAddressForgotten(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.networks()
		b.backends("b2")
		talk := func() {
			t.Helper()
			for sport := uint16(1000); sport < 1010; sport++ {
				for _, x := range tenants[2:4] {
					pass(b, n1, x.name, n2, "b2", false, build.IPv4(x.addr, vip).TCP(sport, 8888, "A"), build.IPv4(x.cluster, "10.0.1.2").TTL(62).TCP(sport, 80, "A"))
					pass(b, n2, "b2", n1, x.name, false, build.IPv4("10.0.1.2", x.cluster).TCP(80, sport, "A"), build.IPv4(vip, x.addr).TTL(62).TCP(8888, sport, "A"))
				}
			}
		}
		talk()
		flows := len(n1.flows())
		n1.forgetAll()
		n2.forgetAll()
		talk()
		b.networks() // nothing changes
		b.isolated(false)
		b.isolated(true) // the tunnels' generations move
		talk()
		for i := range n1.workers {
			n1.succeed(i)
		}
		talk()
		if got := len(n1.flows()); got != flows {
			t.Errorf("%d entries, were %d", got, flows)
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestTranslationBegins: a route that begins to translate ends what went without; an
// own address that changes its cluster address does not speak with the old one.
func TestTranslationBegins(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.networks()
		route := table.Route{VRF: vrfC1, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NH: nhHost}
		n1.apply(table.Delta{Upsert: table.State{Routes: []table.Route{route}}})
		out := func(src string) {
			t.Helper()
			for sport := uint16(1000); sport < 1010; sport++ {
				pass(b, n1, "x1", n1, "host", false, build.IPv4("10.9.0.5", "203.0.113.1").UDP(sport, 9), build.IPv4(src, "203.0.113.1").TTL(63).UDP(sport, 9))
			}
		}
		out("10.9.0.5")
		route.Translate = true
		n1.apply(table.Delta{Upsert: table.State{Routes: []table.Route{route}}})
		out("10.0.0.200")
		if got := n1.count(flow.FlagForward); got != 10 {
			t.Errorf("%d flows, want 10", got)
		}
		b.wantDrops("")
		b.frames()
	})
}

// count counts entries with a flag.
func (n *node) count(flag flow.Flags) (c int) {
	for _, e := range n.flows() {
		if e.Flags&flag != 0 {
			c++
		}
	}
	return c
}
