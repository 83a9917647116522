package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

func largeLen(p *frame.Pool) int {
	var held []uint64
	for addr, ok := p.GetLarge(); ok; addr, ok = p.GetLarge() {
		held = append(held, addr)
	}
	for _, addr := range held {
		p.Put(addr)
	}
	return len(held)
}

// cards puts pods of n on links that do a card's work, one for each worker.
func (n *node) cards(names ...string) (links []*mem.Link) {
	for i, w := range n.workers {
		l := mem.New(w.mem, n.pools[i])
		l.Beside(n.links[i])
		number := w.AddCard(l)
		for _, name := range names {
			w.Exit(n.vifs[name], number)
		}
		links = append(links, l)
	}
	return links
}

// unfinished is a packet as a sender leaves it to its card, and what it asks.
func unfinished(t *testing.T, p *build.Packet, size int) ([]byte, frame.Offload) {
	t.Helper()
	b := p.Bytes()
	var in packet.Info
	if f := packet.ParseIP(b, 0, len(b), &in); f != packet.FaultNone {
		t.Fatal(f)
	}
	udp, at := in.Tuple.Proto == packet.ProtoUDP, in.L4+16
	if udp {
		at = in.L4 + 6
	}
	sum := uint32(in.Tuple.Proto) + uint32(in.Len-in.L4)
	for i := 0; i < 16; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(in.Tuple.Src[i:])) + uint32(binary.BigEndian.Uint16(in.Tuple.Dst[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if in.Tuple.Src.Is4() { // ::ffff:0:0/96 twice, which is zero
		sum %= 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], uint16(sum))
	return b, frame.NewOffload(udp, uint16(in.L4+packet.EthernetLen), uint16(size))
}

// give lets the pod send what it leaves to a card, to any worker.
func (n *node) give(links []*mem.Link, vif string, ip []byte, o frame.Offload) {
	links[n.next%len(links)].InjectCard(build.Eth(ip, link.VifMAC(uint32(n.vifs[vif])), mac), o)
	n.next++
}

// whole is what the links took, unfinished as it is.
func whole(t *testing.T, links []*mem.Link) (frames [][]byte, offloads []frame.Offload) {
	t.Helper()
	for _, l := range links {
		f, o := l.SentCard()
		frames, offloads = append(frames, f...), append(offloads, o...)
	}
	return frames, offloads
}

// joined puts segments together; each must be right and none larger than most.
func joined(t *testing.T, segments [][]byte, most int) (payload []byte) {
	t.Helper()
	for i, s := range segments {
		var in packet.Info
		if f := packet.ParseIP(s, 0, len(s), &in); f != packet.FaultNone {
			t.Fatalf("segment %d: %v", i, f)
		}
		at, ok := packet.PayloadAt(s, &in)
		if !ok || len(s) > most {
			t.Fatalf("segment %d of %d bytes, at most %d: %s", i, len(s), most, build.Describe(s))
		}
		payload = append(payload, s[at:]...)
	}
	return payload
}

// TestWholeToTunnel: what a card was to cut is cut where it leaves in a tunnel, and at
// the host's interface.
func TestWholeToTunnel(t *testing.T) {
	for _, size := range []int{1, 1000, 60000} {
		for _, c := range []struct {
			name, node, to string
			p              *build.Packet
			most           int
		}{
			{"tunnel", "n2", "b2", build.IPv4("10.0.0.2", "10.0.1.2").DF().TCP(1000, 80, "AP"), podMTU},
			{"tunnel, IPv6", "n2", "b2", build.IPv6("2001:db8::2", "2001:db8:1::2").TCP(1000, 80, "AP"), podMTU},
			{"tunnel, UDP", "n2", "b2", build.IPv4("10.0.0.2", "10.0.1.2").DF().UDP(1000, 80), podMTU},
			{"host", "n1", "host", build.IPv4("10.0.0.2", "10.0.0.1").DF().TCP(1000, 80, "AP"), fabricMTU},
			{"pod on a veth", "n1", "b1", build.IPv4("10.0.0.2", "10.0.0.3").DF().TCP(1000, 80, "AP"), podMTU},
		} {
			t.Run(fmt.Sprint(c.name, " ", size), func(t *testing.T) {
				eachWorkers(t, func(t *testing.T, workers int) {
					b, n1, _ := twoNodes(t, workers)
					links := n1.cards("c")
					ip, o := unfinished(t, c.p.Payload(size), 1400)
					n1.give(links, "c", ip, o)
					b.run()
					segments := b.nodes[c.node].got(c.to)
					got := joined(t, segments, c.most)
					if workers > 1 && c.node == "n2" { // any worker of n2 receives: the order is lost
						got = build.Pattern(len(got))
					}
					if !bytes.Equal(got, build.Pattern(size)) {
						t.Errorf("%d segments carry other bytes than were sent", len(segments))
					}
					if want := (size + 1399) / 1400; len(segments) != want {
						t.Errorf("%d segments, want %d", len(segments), want)
					}
					b.wantDrops("")
					b.frames()
				})
			})
		}
	}
}

// TestWholeToWhole: between pods that both leave it to a card nothing is cut or summed,
// translated or not.
func TestWholeToWhole(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		b.backends("b1")
		links := n1.cards("c", "b1")
		for _, c := range []struct {
			name       string
			send, want *build.Packet
			size       int
		}{
			{"large", build.IPv4("10.0.0.2", "10.0.0.3").DF().TCP(1000, 80, "A").Payload(64000), build.IPv4("10.0.0.2", "10.0.0.3").DF().TTL(63).TCP(1000, 80, "A").Payload(64000), 1400},
			{"service", build.IPv4("10.0.0.2", vip).DF().TCP(1001, 8888, "A").Payload(64000), build.IPv4("10.0.0.2", "10.0.0.3").DF().TTL(63).TCP(1001, 80, "A").Payload(64000), 1400},
			{"service, UDP", build.IPv4("10.0.0.2", vip).UDP(1000, 53).Payload(5000), build.IPv4("10.0.0.2", "10.0.0.3").TTL(63).UDP(1000, 5353).Payload(5000), 1000},
			{"small", build.IPv6("2001:db8::2", "2001:db8::3").TCP(1000, 80, "S").MSS(1400), build.IPv6("2001:db8::2", "2001:db8::3").TTL(63).TCP(1000, 80, "S").MSS(1400), 0},
		} {
			ip, o := unfinished(t, c.send, c.size)
			n1.give(links, "c", ip, o)
			b.run()
			frames, offloads := whole(t, links)
			if len(frames) != 1 {
				t.Fatalf("%s: %d frames%s", c.name, len(frames), n1.drops())
			}
			want, wanted := unfinished(t, c.want, c.size)
			if d := build.Diff(frames[0][14:], want); d != "" {
				t.Errorf("%s: %s", c.name, d)
			}
			if got := offloads[0] &^ frame.OffloadLarge; got != wanted {
				t.Errorf("%s: a card is asked %#x, want %#x", c.name, got, wanted)
			}
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestFinishedFromCard: what needs no card, but came in a large buffer, leaves in chunks.
func TestFinishedFromCard(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, n2 := twoNodes(t, workers)
		b.mtus(9000, 9100)
		links := n1.cards("c")
		for _, size := range []int{10, 3000, 3798, 3799, 8900} {
			p := build.IPv4("10.0.0.2", "10.0.1.2").DF().UDP(uint16(size), 80).Payload(size)
			n1.give(links, "c", p.Bytes(), 0)
			b.run()
			n2.want("b2", p.TTL(62))
			p = build.IPv4("10.0.0.2", "10.0.1.2").DF().UDP(uint16(size), 81).Payload(size)
			ip, o := unfinished(t, p, 0)
			n1.give(links, "c", ip, o)
			b.run()
			n2.want("b2", p.TTL(62))
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestWholeTooBig: the sender hears of the size of a segment; without DF, segments are cut.
func TestWholeTooBig(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	links := n1.cards("c", "b1")
	ip, o := unfinished(t, build.IPv4("10.0.0.2", "10.0.1.2").DF().TCP(1000, 80, "A").Payload(20000), 2000)
	n1.give(links, "c", ip, o)
	b.run()
	frames, offloads := whole(t, links)
	if len(frames) != 1 || offloads[0] != 0 {
		t.Fatalf("%d answers", len(frames))
	}
	var in packet.Info
	packet.ParseIP(frames[0], 14, len(frames[0])-14, &in)
	if mtu := binary.BigEndian.Uint16(frames[0][in.L4+6:]); in.ICMPType != 3 || in.ICMPCode != 4 || mtu != podMTU {
		t.Errorf("answer %s, MTU %d", build.Describe(frames[0][14:]), mtu)
	}
	b.wantDrops(" n1.too-big=1")
	b.frames()

	ip, o = unfinished(t, build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 80).Payload(6000), 2000)
	n1.give(links, "c", ip, o)
	b.run()
	if got := n2.got("b2"); len(got) != 6 {
		t.Errorf("%d packets, want three segments in two fragments each", len(got))
	}
	b.frames()
}

// TestCardAskedTooMuch: what the headers do not bear out is dropped, and a checksum
// inside of another protocol finished.
func TestCardAskedTooMuch(t *testing.T) {
	b, n1, n2 := twoNodes(t, 1)
	links := n1.cards("c")
	tcp := build.IPv4("10.0.0.2", "10.0.1.2").DF().TCP(1000, 80, "A").Payload(5000)
	for _, o := range []frame.Offload{
		frame.NewOffload(true, 34, 1000),  // not UDP
		frame.NewOffload(false, 38, 1000), // not there
		frame.NewOffload(false, 4000, 0),  // not in the first buffer
		frame.NewOffload(false, 10, 0),    // before the packet
		frame.NewOffload(false, 34, 3),    // work for thousands
	} {
		ip, _ := unfinished(t, tcp, 1000)
		n1.give(links, "c", ip, o)
		b.run()
	}
	b.wantDrops(" n1.invalid-frame=5")
	inner := build.IPv4("10.0.0.2", "10.0.1.2").TCP(1000, 80, "A").Payload(301)
	ip, o := unfinished(t, inner, 0)
	want := build.IPv4("10.0.0.2", "10.0.1.2").Proto(4).Payload(inner.Bytes())
	n1.give(links, "c", build.IPv4("10.0.0.2", "10.0.1.2").Proto(4).Payload(ip).Bytes(), frame.NewOffload(false, uint16(o.Start()+20), 0))
	b.run()
	n2.want("b2", want.TTL(62))
	b.frames()
}

// TestHeadersTooLong: what has more headers than a segment's first chunk holds is not cut.
func TestHeadersTooLong(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	b.mtus(9000, 9100)
	links := n1.cards("c")
	const most = frame.ChunkSize - 256 - 64 - 40 - 20 // of extension headers
	for _, size := range []int{most - 56, most - 40, most - 24, most - 8, most, most + 8, most + 16, most + 32, most + 40} {
		size &^= 7
		p := build.IPv6("2001:db8::2", "2001:db8:1::2").Ext(packet.ProtoDestOpts, 2040).Ext(packet.ProtoDestOpts, size-2040)
		for _, step := range []int{1000, 0} {
			ip, o := unfinished(t, p.TCP(1000, 80, "A").Payload(5000), step)
			n1.give(links, "c", ip, o)
			b.run()
		}
	}
	if n := n1.workers[0].Drops()[reason.InvalidFrame]; n == 0 {
		t.Error("all were cut")
	}
	b.frames()
}

// FuzzWhole gives any bytes to the loop, with anything asked of a card. Nothing panics,
// every buffer comes home.
func FuzzWhole(f *testing.F) {
	for _, p := range []*build.Packet{
		build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 53).Payload(64),
		build.IPv4("10.0.0.2", vip).TCP(1000, 8888, "S").MSS(9000).Payload(9000),
		build.IPv4("10.0.0.2", "10.0.1.2").DF().TCP(1000, 80, "A").Payload(20000),
		build.IPv6("2001:db8::2", "2001:db8:1::2").Ext(packet.ProtoDestOpts, 2040).Ext(packet.ProtoDestOpts, 1680).TCP(1, 2, "A").Payload(5000),
		build.IPv6("2001:db8::2", "2001:db8:1::2").UDP(1, 2).Payload(30000),
		build.IPv4("10.0.0.2", "10.0.1.2").Frag(7, 0, true).UDP(1, 2).Payload(16),
		build.IPv4("10.0.0.2", "10.0.1.2").PortUnreachable(build.IPv4("10.0.1.2", "10.0.0.2").UDP(1, 2).Bytes()),
	} {
		for _, udp := range []bool{false, true} {
			f.Add(p.Bytes(), udp, uint16(34), uint16(1000), uint16(0))
			f.Add(p.Bytes(), udp, uint16(54), uint16(1), uint16(7))
			f.Add(p.Bytes(), udp, uint16(3774), uint16(1000), uint16(40000))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, udp bool, start, size, more uint16) {
		if len(data) == 0 || len(data)+int(more) > 65000 {
			return
		}
		b, n1, _ := twoNodes(t, 1)
		if more%2 != 0 {
			b.mtus(9000, 9100)
		}
		links := n1.cards("c", "b1")
		o := frame.NewOffload(udp, start&frame.OffloadStartMax, size)
		if start > 1<<15 {
			o = 0
		}
		f := build.Eth(append(data, make([]byte, more)...), link.VifMAC(uint32(n1.vifs["c"])), mac)
		links[0].InjectCard(f, o)
		b.run()
		b.frames()
	})
}

// TestWholeOutOfBuffers: a packet for whose segments there are no buffers is dropped
// by name, and nothing is lost for ever.
func TestWholeOutOfBuffers(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	links := n1.cards("c")
	ip, o := unfinished(t, build.IPv4("10.0.0.2", "10.0.1.2").DF().TCP(1000, 80, "A").Payload(60000), 1400)
	var held []uint64
	for n1.pools[0].Len() > 10 {
		addr, _ := n1.pools[0].Get()
		held = append(held, addr)
	}
	n1.give(links, "c", ip, o)
	n1.workers[0].Turn(b.now)
	for _, addr := range held {
		n1.pools[0].Put(addr)
	}
	b.run()
	b.nodes["n2"].got("b2")
	b.frames()
}

// TestTapsStayHere: no flow that begins or ends at a tap is given to the kernel, which
// neither sees its packets nor can deliver them.
func TestTapsStayHere(t *testing.T) {
	eachForced(t, func(t *testing.T, b *bed, n1, n2 *node) {
		links := n1.cards("c")
		turn := func(flags string) {
			n1.give(links, "c", build.IPv4("10.0.0.2", "10.0.1.2").TCP(1000, 80, flags).Payload(10).Bytes(), 0)
			b.run()
			n2.send("b2", build.IPv4("10.0.1.2", "10.0.0.2").TCP(80, 1000, flags+"A").Payload(10).Bytes())
			b.run()
			n1.give(links, "c", build.IPv4("10.0.0.2", "10.0.0.3").TCP(1000, 80, flags).Payload(10).Bytes(), 0)
			b.run()
			n1.send("b1", build.IPv4("10.0.0.3", "10.0.0.2").TCP(80, 1000, flags+"A").Payload(10).Bytes())
			b.run()
			n2.got("b2")
			n1.got("b1")
		}
		turn("S")
		for range 10 {
			turn("A")
		}
		frames, _ := whole(t, links)
		if len(frames) != 22 || n1.cache.forwarded != 0 {
			t.Errorf("the tap took %d packets, want 22; the kernel forwarded %d", len(frames), n1.cache.forwarded)
		}
		for _, e := range n1.flows() {
			if e.Flags&flow.FlagOffloaded != 0 {
				t.Errorf("%v > %v is offloaded", e.Src, e.Dst)
			}
		}
		b.wantDrops("")
	})
}
