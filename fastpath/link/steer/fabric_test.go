package steer_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// fabric is the underlay of a node: a namespace behind the node's NIC fab0.
type fabric struct {
	ns         string
	vif        table.Vif
	addr, peer netip.Addr // the node's tunnel address, the far end's
	second     netip.Addr // of the node; no tunnels there
	peerMAC    table.MAC
}

func addFabric(t testing.TB, n *node, s *steer.Steer) *fabric {
	t.Helper()
	f := &fabric{
		ns:      newNetNS(t, "fab"),
		peerMAC: table.MAC{2, 0, 0, 0, 1, 2}, addr: netip.MustParseAddr("198.51.100.1"), peer: netip.MustParseAddr("198.51.100.2"), second: netip.MustParseAddr("198.51.100.3"),
	}
	mac := table.MAC{2, 0, 0, 0, 1, 1}
	run(t, fmt.Sprintf("ip -n %s link add fab0 mtu 9216 address %s type veth peer name eth0 mtu 9216 address 02:00:00:00:01:02 netns %s", n.NS, mac, f.ns))
	run(t, fmt.Sprintf("ip -n %s addr add %s/24 dev fab0; ip -n %s addr add %s/24 dev fab0; ip -n %s link set fab0 up", n.NS, f.addr, n.NS, f.second, n.NS))
	run(t, fmt.Sprintf("ip -n %s addr add %s/24 dev eth0; ip -n %s link set eth0 up", f.ns, f.peer, f.ns))
	f.vif = table.Vif{ID: 1000, Kind: table.VifFabric, Name: "fab0", Ifindex: n.ifindex(t, "fab0"), MAC: mac, Addrs: []netip.Addr{f.addr}, MTU: 9216}
	in(t, n.NS, func() {
		if err := s.AttachVif(f.vif); err != nil {
			t.Error(err)
		}
	})
	return f
}

// udpListener receives datagrams of the kernel's own stack.
func udpListener(t testing.TB, ns string, at netip.AddrPort) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	var err error
	in(t, ns, func() { c, err = net.ListenPacket("udp4", at.String()) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func udpSend(t testing.TB, ns string, to netip.AddrPort, data []byte) {
	t.Helper()
	in(t, ns, func() {
		c, err := net.Dial("udp4", to.String())
		if err == nil {
			defer c.Close()
			_, err = c.Write(data)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// hears reports whether c receives data, which may take a few seconds.
func hears(t testing.TB, c net.PacketConn, data []byte) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 1<<16)
	n, _, err := c.ReadFrom(b)
	return err == nil && bytes.Equal(b[:n], data)
}

// TestFabric: of all that reaches the NIC, tunnel packets addressed to our tunnel
// address go to the workers, whole; everything else stays the node's.
func TestFabric(t *testing.T) {
	n := newNode(t, "n", 1)
	s := n.open(t)
	r := openSockets(t, n, s)
	f := addFabric(t, n, s)
	inner := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload("hello").Bytes()
	tunnel := append([]byte{0, 1, 0x01, 64}, inner...) // label 16, S, TTL 64

	udpSend(t, f.ns, netip.AddrPortFrom(f.addr, packet.TunnelPort), tunnel)
	_, got := r.next(t)
	if id, ok := link.VifOf(got); !ok || id != uint32(f.vif.ID) {
		t.Errorf("destination % x does not name the fabric vif", got[:6])
	}
	var tun packet.Tunnel
	if fault := packet.ParseTunnel(got, len(got), &tun); fault != packet.FaultNone {
		t.Errorf("the tunnel packet: %v", fault)
	} else if tun.Src.Netip() != f.peer || tun.Label != 16 || !bytes.Equal(got[tun.Inner:tun.Inner+tun.Len], inner) {
		t.Errorf("tunnel %+v around % x", tun, got[tun.Inner:])
	}

	for _, c := range []struct {
		name string
		to   netip.AddrPort
		data []byte
	}{
		{"another port", netip.AddrPortFrom(f.addr, packet.TunnelPort+1), tunnel},
		{"another address of the node", netip.AddrPortFrom(f.second, packet.TunnelPort), tunnel},
		{"a fragmented datagram", netip.AddrPortFrom(f.addr, packet.TunnelPort), make([]byte, 20000)},
	} {
		l := udpListener(t, n.NS, c.to)
		udpSend(t, f.ns, c.to, c.data)
		if !hears(t, l, c.data) {
			t.Errorf("%s: the node's own stack does not receive it", c.name)
		}
		if _, f := r.try(); f != nil {
			t.Errorf("%s: a worker receives it: % x", c.name, f)
		}
		l.Close()
	}

	in(t, n.NS, func() {
		if err := s.DetachVif(f.vif.ID); err != nil {
			t.Error(err)
		}
	})
	at := netip.AddrPortFrom(f.addr, packet.TunnelPort)
	l := udpListener(t, n.NS, at)
	udpSend(t, f.ns, at, tunnel)
	if !hears(t, l, tunnel) {
		t.Error("detached: the node's own stack does not receive tunnel packets")
	}
	n.wantDrops(t, s, nil)
}

// TestTunnelAddress: a new tunnel address takes the place of the old one.
func TestTunnelAddress(t *testing.T) {
	n := newNode(t, "n", 1)
	s := n.open(t)
	r := openSockets(t, n, s)
	f := addFabric(t, n, s)
	f.vif.Addrs = []netip.Addr{f.second}
	in(t, n.NS, func() {
		if err := s.AttachVif(f.vif); err != nil {
			t.Error(err)
		}
	})
	data := []byte("0123456789")
	udpSend(t, f.ns, netip.AddrPortFrom(f.second, packet.TunnelPort), data)
	r.next(t)
	at := netip.AddrPortFrom(f.addr, packet.TunnelPort)
	l := udpListener(t, n.NS, at)
	udpSend(t, f.ns, at, data)
	if !hears(t, l, data) {
		t.Error("the old tunnel address is still ours")
	}
}

// TestToFabric: what a worker sends to the fabric vif leaves by the NIC, with its
// address as source.
func TestToFabric(t *testing.T) {
	n := newNode(t, "n", 1)
	s := n.open(t)
	r := openSockets(t, n, s)
	f := addFabric(t, n, s)
	for _, size := range []int{100, 9000} {
		inner := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(size).Bytes()
		out := make([]byte, packet.TunnelLen+len(inner))
		packet.PutTunnel(out, &packet.Outer{Src: f.addr.As4(), Dst: f.peer.As4(), Sport: 0xC001, Label: 17}, len(inner))
		copy(out[packet.TunnelLen:], inner)
		peer := rawSocket(t, f.ns, ifindexIn(t, f.ns, "eth0"))
		r.send(t, ethernet(table.MAC{2, 0, 0, 0, 1, 2}, out), f.vif.ID)
		want := ethernet(table.MAC{2, 0, 0, 0, 1, 2}, out)
		copy(want[6:], f.vif.MAC[:])
		got := make([]byte, 1<<16)
		await(t, "the frame at the far end", func() bool {
			k, err := unix.Read(peer, got[:cap(got)])
			got = got[:max(k, 0)]
			return err == nil && bytes.Equal(got, want)
		})
	}
	n.wantDrops(t, s, nil)
}

// send transmits a frame from worker 0 to a vif.
func (r *router) send(t testing.TB, f []byte, to table.VifID) {
	t.Helper()
	mac := link.VifMAC(uint32(to))
	copy(f[6:], mac[:])
	var run []frame.Desc
	for len(f) > 0 {
		base, ok := r.pools[0].Get()
		if !ok {
			t.Fatal("no free chunk")
		}
		k := copy(r.umem.Memory.Chunk(base)[frame.Headroom:], f)
		run = append(run, frame.Desc{Addr: base + frame.Headroom, Len: uint32(k), Options: frame.Contd})
		f = f[k:]
	}
	run[len(run)-1].Options = 0
	if k := r.sockets[0].Transmit(run); k != len(run) {
		t.Fatalf("Transmit took %d of %d", k, len(run))
	}
	r.sockets[0].Flush()
}
