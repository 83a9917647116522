package forward

import (
	"bytes"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// fabricLinks gives each worker of n a link of its own to the fabric.
func (n *node) fabricLinks() (links []*mem.Link) {
	for i, w := range n.workers {
		l := mem.New(w.mem, n.pools[i])
		l.Beside(n.links[i])
		w.Exit(n.vifs["eth0"], w.AddLink(l, n.vifs["eth0"]))
		links = append(links, l)
	}
	return links
}

func sent(links []*mem.Link) (frames [][]byte) {
	for _, l := range links {
		frames = append(frames, l.Sent()...)
	}
	return frames
}

// TestFabricLink: what goes to the fabric leaves by the worker's own link there, as
// the wire wants it; what comes from there is delivered like anything else.
func TestFabricLink(t *testing.T) {
	eachWorkers(t, func(t *testing.T, workers int) {
		b, n1, _ := twoNodes(t, workers)
		links := n1.fabricLinks()
		fabric := n1.builder.Tables().Vif(n1.vifs["eth0"])
		for i := range uint16(20) {
			n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000+i, 53).Payload(100).Bytes())
			b.run()
			frames := sent(links)
			if len(frames) != 1 || len(b.wire) != 0 {
				t.Fatalf("%d frames left by the fabric link, %d by the punt link", len(frames), len(b.wire))
			}
			if src := frames[0][6:12]; !bytes.Equal(src, fabric.MAC[:]) {
				t.Errorf("the frame's source is % x, want %s", src, fabric.MAC)
			}
			var outer packet.Tunnel
			if packet.ParseTunnel(frames[0], len(frames[0]), &outer) != packet.FaultNone {
				t.Fatal("no tunnel packet")
			}
			back := build.Tunnel(build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 1000+i).Payload(10).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel)
			links[int(i)%workers].Inject(build.Eth(back, macOf(fabric.ID), mac))
			b.run()
			n1.want("c", build.IPv4("10.0.1.2", "10.0.0.2").TTL(63).UDP(53, 1000+i).Payload(10))
		}
		b.wantDrops("")
		b.frames()
	})
}

// TestFabricLinkFull: what the link refuses is a drop of its vif, and not sent.
func TestFabricLinkFull(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	links := n1.fabricLinks()
	links[0].Room = 0
	n1.send("c", build.IPv4("10.0.0.2", "10.0.1.2").UDP(1000, 53).Payload(100).Bytes())
	b.run()
	if c := n1.workers[0].VifCounters(n1.vifs["eth0"]); c.Drops != 1 || c.TxPackets != 0 || c.TxBytes != 0 {
		t.Errorf("counters of the fabric %+v", c)
	}
	b.wantDrops(" n1.tx-ring-full=1")
	b.frames()
}

// TestLinksTakeTurns: a link that always fills the batch does not starve another.
func TestLinksTakeTurns(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	links := n1.fabricLinks()
	flood := build.Eth(build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 53).Bytes(), macOf(n1.vifs["c"]), mac)
	back := build.Tunnel(build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 1000).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel)
	for range 3 * batchSize {
		n1.links[0].Inject(flood)
	}
	links[0].Inject(build.Eth(back, macOf(n1.vifs["eth0"]), mac))
	n1.workers[0].Turn(b.now)
	n1.workers[0].Turn(b.now)
	if c := n1.workers[0].VifCounters(n1.vifs["eth0"]); c.RxPackets != 1 {
		t.Errorf("%d packets of the fabric in two turns", c.RxPackets)
	}
}

// TestLooseFabric: checksums that the sender left to its card are finished, whatever
// the packet's size; finished ones stay.
func TestLooseFabric(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	b.mtus(9000, 9100)
	w := n1.workers[0]
	l := mem.New(w.mem, n1.pools[0])
	w.Exit(n1.vifs["eth0"], w.AddLoose(l, n1.vifs["eth0"]))
	for _, size := range []int{0, 1, 1001, 8000} {
		for _, unfinished := range []bool{true, false} {
			p := build.IPv4("10.0.1.2", "10.0.0.2").TCP(53, 1000, "A").Payload(size)
			inner := p.Bytes()
			if unfinished {
				copy(inner[36:], []byte{0, 0})
				var in packet.Info
				packet.ParseIP(inner, 0, len(inner), &in)
				sum := 10<<8 + 10<<8 + 1<<8 + 2 + 2 + 6 + 20 + size // pseudo-header
				inner[36], inner[37] = byte(sum>>8), byte(sum)
			}
			l.Inject(build.Eth(build.Tunnel(inner, "192.0.2.2", "192.0.2.1", vrfLabel), macOf(n1.vifs["eth0"]), mac))
			b.run()
			n1.want("c", p.TTL(63))
		}
	}
	b.wantDrops("")
	b.frames()
}

// TestFabricLinkWakes: a sleeping worker wakes for each of its links.
func TestFabricLinkWakes(t *testing.T) {
	b, n1, _ := twoNodes(t, 1)
	links := n1.fabricLinks()
	stop := n1.start(t)
	defer stop()
	back := build.Tunnel(build.IPv4("10.0.1.2", "10.0.0.2").UDP(53, 1000).Bytes(), "192.0.2.2", "192.0.2.1", vrfLabel)
	for range 20 {
		for deadline := time.Now().Add(20 * time.Second); !n1.workers[0].sleeping.Load(); {
			if time.Now().After(deadline) {
				t.Fatal("the worker does not sleep")
			}
		}
		links[0].Inject(build.Eth(back, macOf(n1.vifs["eth0"]), mac))
		for deadline := time.Now().Add(20 * time.Second); len(n1.links[0].Sent()) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("the frame does not come out")
			}
		}
	}
	b.wantDrops("")
}

func macOf(id table.VifID) [6]byte { return link.VifMAC(uint32(id)) }
