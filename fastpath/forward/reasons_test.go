package forward

import (
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// provocation makes n1 drop one packet for a reason.
type provocation struct {
	name string
	why  Reason
	do   func(b *bed, n1 *node)
}

// onPod is a packet from c, tunnelled one from n2 with a label.
func onPod(why Reason, name string, ip *build.Packet) provocation {
	return onWire(why, name, build.Eth(ip.Bytes(), link.VifMAC(10), mac))
}

func tunnelled(why Reason, name, peer string, label uint32, ip *build.Packet) provocation {
	return onWire(why, name, build.Eth(build.Tunnel(ip.Bytes(), peer, "192.0.2.1", label), link.VifMAC(1), mac))
}

func onWire(why Reason, name string, frame []byte) provocation {
	return provocation{name, why, func(_ *bed, n1 *node) { n1.inject(frame) }}
}

var mac = [6]byte{2, 1, 0, 0, 0, 0}

func vifMAC(id uint32) []byte { m := link.VifMAC(id); return m[:] }

func onVif(frame []byte, id uint32) []byte { copy(frame, vifMAC(id)); return frame }

func corrupt(b []byte, at int) []byte { b[at] ^= 0x55; return b }

// frames that one look at a packet condemns.
func wireProvocations() []provocation {
	udp := func(src, dst string) *build.Packet { return build.IP(src, dst).UDP(1, 2) }
	ok := udp("10.0.1.2", "10.0.0.2")
	return []provocation{
		onWire(reason.InvalidFrame, "short frame", []byte{1, 2, 3}),
		onWire(reason.UnknownVif, "vif that is not there", build.Eth(ok.Bytes(), link.VifMAC(999), mac)),
		onWire(reason.InvalidProtocol, "LLDP", append(append(vifMAC(10), mac[:]...), make([]byte, 48)...)),
		onWire(reason.InvalidPacket, "truncated IP", build.Eth(ok.Bytes(), link.VifMAC(10), mac)[:30]),
		onWire(reason.Checksum, "bad checksum", corrupt(build.Eth(udp("10.0.0.2", "10.0.0.3").Bytes(), link.VifMAC(10), mac), 14+10)),
		onPod(reason.TooManyChunks, "too many chunks", udp("10.0.0.2", "10.0.0.3").Payload(30000)),
		onPod(reason.InvalidSource, "spoofed source", udp("10.0.0.9", "10.0.0.3")),
		onPod(reason.InvalidSource, "spoofed source, IPv6", udp("2001:db8::9", "2001:db8::3")),
		onWire(reason.InvalidARP, "spoofed ARP", onVif(build.ARPRequest(mac, "10.0.0.9", "169.254.1.1"), 10)),
		onWire(reason.InvalidARP, "ARP for its own address", onVif(build.ARPRequest(mac, "10.0.0.2", "10.0.0.2"), 10)),
		onWire(reason.InvalidARP, "ARP probe of the host", onVif(build.ARPRequest(mac, "0.0.0.0", "10.0.0.1"), 2)),
		onPod(reason.InvalidND, "spoofed solicitation", build.NS("2001:db8::99", "fe80::1", mac)),
		onPod(reason.InvalidND, "duplicate address detection", build.NS("::", "2001:db8::2", mac)),
		onPod(reason.InvalidND, "router solicitation", build.IPv6("fe80::2", "ff02::2").TTL(255).ICMP(133, 0, 0)),
		onPod(reason.Multicast, "multicast", udp("10.0.0.2", "224.0.0.251")),
		onPod(reason.Multicast, "listener report", build.IPv6("fe80::2", "ff02::16").ICMP(143, 0, 0)),
		onPod(reason.TunnelFromPod, "tunnel from a pod", build.IPv4("10.0.0.2", "192.0.2.2").UDP(50000, 6635).Payload(40)),
		onWire(reason.InvalidTunnel, "garbage tunnel", build.Eth(build.IPv4("192.0.2.2", "192.0.2.1").UDP(50000, 6635).Payload(2).Bytes(), link.VifMAC(1), mac)),
		tunnelled(reason.UnknownPeer, "unknown peer", "192.0.2.66", vrfLabel, ok),
		tunnelled(reason.InvalidLabel, "unknown label", "192.0.2.2", 4711, ok),
		tunnelled(reason.PacketLoop, "loop", "192.0.2.2", vrfLabel, udp("10.0.1.2", "10.0.1.3")),
		tunnelled(reason.Multicast, "multicast in a tunnel", "192.0.2.2", vrfLabel, udp("10.0.1.2", "224.0.0.251")),
		tunnelled(reason.InvalidSource, "source on another node", "192.0.2.2", vrfLabel, udp("10.0.0.3", "10.0.0.2")),
		tunnelled(reason.InvalidSource, "source nowhere", "192.0.2.2", vrfLabel, udp("2001:db8:ffff::1", "2001:db8::2")),
	}
}

// packets whose flow or way is missing.
func wayProvocations() []provocation {
	tail := func(src, dst string) []byte {
		return build.Fragments(build.IP(src, dst).UDP(1, 2).Payload(3000).Bytes(), 1400, 9)[1]
	}
	return []provocation{
		onPod(reason.NoRoute, "no route", build.IPv6("2001:db8::2", "2001:db8:ffff::1").UDP(1, 2)),
		onPod(reason.NoRoute, "link-local destination", build.IPv4("10.0.0.2", "169.254.169.254").UDP(1, 2)),
		onWire(reason.PacketLoop, "from the host to the host", build.Eth(build.IPv4("10.0.0.1", "198.51.100.1").UDP(1, 2).Bytes(), link.VifMAC(2), mac)),
		onPod(reason.NoListener, "VIP port nobody listens on", build.IPv4("10.0.0.2", vip).TCP(1, 99, "S")),
		onPod(reason.NoBackend, "service without backends", build.IPv4("10.0.0.2", nobody).TCP(1, 80, "S")),
		tunnelled(reason.NoPortMap, "VIP port that a backend does not serve", "192.0.2.2", labelPods+1, build.IPv4("10.0.1.2", vip).UDP(1, 99)),
		onPod(reason.TTLExpired, "last hop", build.IPv4("10.0.0.2", "10.0.1.2").TTL(1).UDP(1, 2)),
		onPod(reason.TooBig, "larger than the tunnel", build.IPv4("10.0.0.2", "10.0.1.2").DF().UDP(1, 2).Payload(1472)),
		tunnelled(reason.NoFlow, "reply of a VIP", "192.0.2.2", vrfLabel, build.IPv4(vip, "10.0.0.2").TCP(8888, 1000, "A")),
		onWire(reason.NoFlow, "reply of a backend", build.Eth(build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 1000, "SA").Bytes(), link.VifMAC(11), mac)),
		onPod(reason.ICMPNoFlow, "ICMP error of no flow", build.IPv4("10.0.0.2", "10.0.0.3").PortUnreachable(build.IPv4("10.0.0.3", "10.0.0.2").UDP(5, 6).Bytes())),
		onWire(reason.NoHead, "fragment without head", build.Eth(tail("10.0.0.2", "10.0.0.3"), link.VifMAC(10), mac)),
		onWire(reason.NoHead, "fragment without head, IPv6", build.Eth(tail("2001:db8::2", "2001:db8::3"), link.VifMAC(10), mac)),
	}
}

// what needs the tables, the rings or the buffers to be in a certain state.
func stateProvocations() []provocation {
	udp := func(b *bed) { b.nodes["n1"].send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Bytes()) }
	return []provocation{
		{"new flow to an isolated network", reason.Isolated, func(b *bed, n1 *node) {
			b.networks()
			n1.send("c", build.IPv4("10.0.0.2", "10.0.0.130").TCP(1, 80, "S").Bytes())
		}},
		{"reply to an isolated network", reason.NoFlow, func(b *bed, n1 *node) {
			b.networks()
			n1.send("c", build.IPv4("10.0.0.2", "10.0.0.130").TCP(80, 1, "SA").Bytes())
		}},
		{"no cluster address", reason.NoClusterAddr, func(b *bed, n1 *node) {
			n1.apply(table.Delta{Upsert: table.State{Routes: []table.Route{{VRF: vrf, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NH: nhHost, Translate: true}}}})
			n1.send("c", build.IPv4("10.0.0.2", "203.0.113.1").UDP(1, 53).Bytes())
		}},
		{"backend removed", reason.BackendRemoved, func(b *bed, n1 *node) {
			b.backends("b2", "b3")
			connect(b, 1000)
			b.backends("b1")
			n1.send("c", build.IPv4("10.0.0.2", vip).TCP(1000, 8888, "A").Bytes())
		}},
		{"tunnel from a pod, by a service", reason.TunnelFromPod, func(b *bed, n1 *node) {
			b.external("192.0.2.2:6635")
			n1.send("c", build.IPv4("10.0.0.2", vip).UDP(1, 53).Bytes())
		}},
		{"neighbour unknown", reason.Unresolved, func(b *bed, n1 *node) {
			n1.apply(table.Delta{Upsert: table.State{NextHops: []table.NextHop{tunnelTo("192.0.2.1", "192.0.2.2", table.MAC{})}}})
			udp(b)
		}},
		{"ports of an SCTP fragment", reason.SCTPFragment, func(b *bed, n1 *node) {
			b.backends("b1")
			b.sctp("b1")
			p := build.IPv4("10.0.0.2", vip).SCTP(1, 9999).Payload(2000).Bytes()
			n1.send("c", build.Fragments(p, 1400, 9)[0])
		}},
		{"table full", reason.FlowTableFull, func(b *bed, n1 *node) { n1.full(); udp(b) }},
		{"vif full", reason.VifFlowLimit, func(b *bed, n1 *node) {
			for _, w := range n1.workers {
				*w.quota.Of(nhPods, false) = w.maxVifFlows(false)
			}
			udp(b)
		}},
		{"no source port free", reason.NATPorts, takeAllPorts},
		{"ring full", reason.RingFull, func(b *bed, n1 *node) {
			for n1.shared.rings[0][1].Push(message{kind: msgDelete, index: flow.Index(1, 0)}) {
			}
			n1.next = 0
			n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(n1.portOf(1), 2).Bytes())
			n1.workers[0].Turn(b.now)
		}},
		{"transmit ring full", reason.TxFull, func(b *bed, n1 *node) {
			for _, l := range n1.links {
				l.Room = 0
			}
			udp(b)
		}},
		{"no buffer for a fragment", reason.NoBuffer, func(b *bed, n1 *node) {
			var taken []uint64
			for n1.pools[0].Len() > 1 {
				addr, _ := n1.pools[0].Get()
				taken = append(taken, addr)
			}
			p := build.IPv4("10.0.0.2", "10.0.1.2").UDP(n1.portOf(0), 2)
			n1.next = 0
			n1.send("c", p.Payload(2000).Bytes())
			n1.workers[0].Turn(b.now)
			for _, addr := range taken {
				n1.pools[0].Put(addr)
			}
		}},
	}
}

// portOf is a source port from which worker owns c's packets to port 2 of b2.
func (n *node) portOf(worker int) uint16 {
	t := packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.0.1.2"), Sport: 1, Dport: 2, Proto: packet.ProtoUDP}
	for n.workers[0].owner(&t) != worker {
		t.Sport++
	}
	return t.Sport
}

// takeAllPorts gives a client, to the one backend, flows from every source port that a
// flow through the VIP would be translated to.
func takeAllPorts(b *bed, n1 *node) {
	b.backends("b1")
	b.run()
	direct := func(port uint16) {
		n1.send("c", build.IPv4("10.0.0.2", "10.0.0.3").UDP(port, 5353).Bytes())
		b.run()
		n1.one("b1")
	}
	e := &flow.Record{Src: addr("10.0.0.2"), Dst: addr(vip), Sport: 1000, Dport: 53, Proto: packet.ProtoUDP}
	entry.Translate(e, &packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.0.0.3"), Sport: 1000, Dport: 5353, Proto: packet.ProtoUDP})
	for range natTries + 1 {
		direct(e.NatSport)
		entry.NextPort(e)
	}
	n1.send("c", build.IPv4("10.0.0.2", vip).UDP(1000, 53).Bytes())
}

// TestEveryReason: what does not go on is dropped under its name, once, and every
// name is used.
func TestEveryReason(t *testing.T) {
	provoked := map[Reason]bool{}
	for _, list := range [][]provocation{wireProvocations(), wayProvocations(), stateProvocations()} {
		for _, p := range list {
			provoked[p.why] = true
			t.Run(p.name, func(t *testing.T) {
				b, n1, _ := twoNodes(t, 2)
				p.do(b, n1)
				b.run()
				if got, want := n1.drops(), " n1."+p.why.String()+"=1"; got != want {
					t.Errorf("drops:%s, want:%s", got, want)
				}
				b.frames()
			})
		}
	}
	provoked[reason.HandOver] = true // see TestOffloadNeverRests
	for r := range reason.Count {
		if r != reason.None && !provoked[r] {
			t.Errorf("no test provokes %s", r)
		}
		if r.String() == "" || reason.All()[r].Sentence == "" {
			t.Errorf("reason %d has no name or no sentence", r)
		}
	}
}
