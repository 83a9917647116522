package forward

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// mtus changes the MTU of every pod and of the underlay.
func (b *bed) mtus(pods, fabric int) {
	b.t.Helper()
	for _, n := range b.nodes {
		var up table.State
		for _, v := range n.builder.State().Vifs {
			if v.MTU = pods; v.Kind == table.VifFabric {
				v.MTU = fabric
			}
			up.Vifs = append(up.Vifs, v)
		}
		for _, nh := range n.builder.State().NextHops {
			if nh.Type == table.NHTunnel {
				nh.MTU = fabric
				up.NextHops = append(up.NextHops, nh)
			}
		}
		n.apply(table.Delta{Upsert: up})
	}
}

// TestJumboFrames: packets in several buffers are translated, wrapped, cut and
// checked like others.
func TestJumboFrames(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.mtus(9000, 9100)
		b.backends("b2")
		b.sctp("b2")
		for _, c := range []struct {
			name       string
			send, want *build.Packet
		}{
			{"tunnel", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1, 2).Payload(8972), build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).UDP(1, 2).Payload(8972)},
			{"IPv6", build.IPv6("2001:db8::2", "2001:db8:1::2").UDP(1, 2).Payload(8952), build.IPv6("2001:db8::2", "2001:db8:1::2").TTL(62).UDP(1, 2).Payload(8952)},
			{"service", build.IPv4("10.0.0.2", vip).UDP(1, 53).Payload(8000), build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).UDP(1, 5353).Payload(8000)},
			{"service without checksum", build.IPv4("10.0.0.2", vip).UDP(1, 53).NoChecksum().Payload(8000), build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).UDP(1, 5353).NoChecksum().Payload(8000)},
			{"SCTP", build.IPv4("10.0.0.2", vip).SCTP(1, 9999).Payload(7000), build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).SCTP(1, 80).Payload(7000)},
		} {
			n1.send("c", c.send.Bytes())
			b.run()
			if d := build.Diff(n2.one("b2"), c.want.Bytes()); d != "" {
				t.Errorf("%s: %s", c.name, d)
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestBehindThePacket: what follows an IP packet in its frame goes nowhere, also
// when it fills buffers of its own.
func TestBehindThePacket(t *testing.T) {
	for _, n := range []int{0, 20, 3000, 3800, 3840, 9000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b, n1, n2 := twoNodes(t, 1)
			b.backends("b2")
			b.sctp("b2")
			n1.send("c", build.IPv4("10.0.0.2", vip).SCTP(1, 9999).Payload(500).Pad(n).Bytes())
			b.run()
			n2.want("b2", build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).SCTP(1, 80).Payload(500))
			if size := len(b.wire[0]); size != packet.EthernetLen+packet.TunnelLen+20+12+16+500 {
				t.Errorf("the outer frame has %d bytes", size)
			}
			b.frames()
		})
	}
}

// reassemble joins IPv4 fragments in the order in which they came.
func reassemble(t *testing.T, fragments [][]byte) []byte {
	t.Helper()
	var payload []byte
	for i, f := range fragments {
		var in packet.Info
		if fault := packet.ParseIP(f, 0, len(f), &in); fault != packet.FaultNone {
			t.Fatalf("fragment %d: %v", i, fault)
		}
		if in.FragOff != len(payload) {
			t.Fatalf("fragment %d lies at %d, want %d", i, in.FragOff, len(payload))
		}
		if more := f[6]&0x20 != 0; more != (i < len(fragments)-1) {
			t.Fatalf("fragment %d of %d: more fragments is %v", i, len(fragments), more)
		}
		payload = append(payload, f[20:]...)
	}
	return payload
}

// TestCutting: what is too large without DF is cut to fit, also what is a fragment
// already, also jumbo frames, and comes together again.
func TestCutting(t *testing.T) {
	whole := build.IPv4("10.0.0.2", vip).ID(77).UDP(1000, 53).Payload(6000).Bytes()
	for name, frames := range map[string][][]byte{
		"whole":             {whole},
		"fragments":         build.Fragments(whole, 1500, 77),
		"large fragments":   build.Fragments(whole, 5000, 77),
		"small fragments":   build.Fragments(whole, 576, 77),
		"smallest possible": build.Fragments(whole[:20+8+200], 28, 77),
	} {
		t.Run(name, func(t *testing.T) {
			eachWorkers(t, func(t *testing.T, workers int) {
				b, n1, n2 := twoNodes(t, workers)
				b.backends("b3")
				for _, f := range frames {
					n1.send("c", f)
					b.run()
				}
				for _, w := range b.wire {
					if len(w) > packet.EthernetLen+fabricMTU {
						t.Errorf("an outer packet has %d bytes", len(w)-packet.EthernetLen)
					}
				}
				got := reassemble(t, n2.got("b3"))
				want := build.IPv4("10.0.0.2", "10.0.1.3").UDP(1000, 5353).Payload(6000).Bytes()[20:]
				if name != "smallest possible" && !bytes.Equal(got, want) {
					t.Errorf("%d bytes came together, want %d; or they differ", len(got), len(want))
				}
				b.wantDrops("")
				b.frames()
			})
		})
	}
}

// TestAnswerDoesNotFit: on a link that carries less than IPv6 asks for, an ICMPv6
// error may be larger than the packet it is about was.
func TestAnswerDoesNotFit(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	b.mtus(1200, 1232)
	n1.send("c", build.IPv6("2001:db8::2", "2001:db8:1::2").TTL(2).UDP(1, 2).Payload(1140).Bytes())
	b.run()
	n1.send("c", build.IPv6("2001:db8::2", "2001:db8:ffff::2").UDP(1, 2).Payload(1152).Bytes())
	b.run()
	if got := append(n1.got("c"), n2.got("b2")...); len(got) != 0 {
		t.Errorf("somebody received %s", build.Describe(got[0]))
	}
	b.wantDrops(" n1.no-route=1 n1.too-big=1 n2.ttl-expired=1 n2.too-big=1")
	b.frames()
}

// TestMSS: a SYN and its answer offer no more than fits the tunnel.
func TestMSS(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").TCP(1, 2, "S").MSS(9000).Bytes())
	b.run()
	n2.want("b2", build.IPv4("10.0.0.2", "10.0.1.2").TTL(62).TCP(1, 2, "S").MSS(podMTU-40))
	n2.send("b2", build.IPv4("10.0.1.2", "10.0.0.2").TCP(2, 1, "SA").MSS(500).Bytes())
	b.run()
	n1.want("c", build.IPv4("10.0.1.2", "10.0.0.2").TTL(62).TCP(2, 1, "SA").MSS(500))
	n1.send("c", build.IPv6("2001:db8::2", "2001:db8:1::2").TCP(1, 2, "S").MSS(1460).Bytes())
	b.run()
	n2.want("b2", build.IPv6("2001:db8::2", "2001:db8:1::2").TTL(62).TCP(1, 2, "S").MSS(podMTU-60))
}
