package steer_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// connect opens a TCP connection from a pod to at, which some listener of another accepts.
func connect(t testing.TB, from *pod, at netip.AddrPort, l net.Listener) (client, server net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err := dial(t, from, "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(60 * time.Second))
	}
	return client, server
}

// stream sends size bytes and compares what arrives.
func stream(t testing.TB, from, to net.Conn, size int64) {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		h := sha256.New()
		n, err := io.CopyN(h, to, size)
		got <- fmt.Sprintf("%d %v %x", n, err, h.Sum(nil))
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(from, h), io.LimitReader(rand.NewChaCha8([32]byte{3}), size))
	if want, arrived := fmt.Sprintf("%d %v %x", n, err, h.Sum(nil)), <-got; arrived != want {
		t.Errorf("sent %s, received %s", want, arrived)
	}
}

func tuple(c net.Conn, proto uint8) packet.Tuple {
	src, dst := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
	return packet.Tuple{Src: packet.AddrFrom(src.Addr()), Dst: packet.AddrFrom(dst.Addr()), Sport: src.Port(), Dport: dst.Port(), Proto: proto}
}

// pair is the two flows of a connection, whose ends see it as their tuples say.
func pair(client, server packet.Tuple, fromClient, fromServer uint32) (forward, back *offload.Flow) {
	forward = &offload.Flow{Key: offload.Key{From: fromClient, Tuple: client}, To: server.Reverse(), Scope: scope, Gen: 5}
	back = &offload.Flow{Key: offload.Key{From: fromServer, Tuple: server}, To: client.Reverse(), Scope: scope, Gen: 5}
	return forward, back
}

// received reads packets and bytes that a device of a namespace received.
func received(t testing.TB, ns, dev string) (packets, bytes uint64) {
	t.Helper()
	var text []byte
	in(t, ns, func() { text, _ = os.ReadFile("/proc/thread-self/net/dev") })
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == dev+":" {
			bytes, _ = strconv.ParseUint(f[1], 10, 64)
			packets, _ = strconv.ParseUint(f[2], 10, 64)
		}
	}
	return packets, bytes
}

// TestCacheTCP: a connection to a service, both directions in the kernel. Large segments
// cross whole, their checksums unfinished; the backend sees the client, the client the service.
func TestCacheTCP(t *testing.T) {
	for _, c := range []struct{ name, vip string }{{"IPv4", "198.51.100.80"}, {"IPv6", "2001:db8::80"}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, 2)
			backend := b.b.Addr
			if c.name == "IPv6" {
				backend = b.b.Addr6
			}
			r := startRouter(t, b.node, b.s, func(r *router) {
				r.vip, r.backend = netip.AddrPortFrom(netip.MustParseAddr(c.vip), 80), netip.AddrPortFrom(backend, 8080)
			})
			client, server := connect(t, b.a, r.vip, listen(t, b.b, backend, 8080))
			forward, back := pair(tuple(client, packet.ProtoTCP), tuple(server, packet.ProtoTCP), 1, 2)
			forward.NH, back.NH = toB, toA
			if forward.Dst == forward.To.Dst {
				t.Fatal("nothing is translated")
			}
			b.put(t, forward)
			b.put(t, back)
			const size = 64 << 20
			up, packets, bytes := r.forwarded.Load(), uint64(0), uint64(0)
			packets, bytes = received(t, b.b.NS, "eth0")
			stream(t, client, server, size)
			p, n := received(t, b.b.NS, "eth0")
			stream(t, server, client, size)
			if got := r.forwarded.Load() - up; got > 20 {
				t.Errorf("%d packets went through the workers", got)
			}
			if per := (n - bytes) / max(p-packets, 1); per < 5000 {
				t.Errorf("the backend received %d bytes a packet: large segments are cut", per)
			}
			for _, f := range []*offload.Flow{forward, back} {
				// Acknowledgements of the other direction are among them.
				got, ok := b.record(t, f.Key)
				if segments := uint64(size / 1448); !ok || got.Packets < segments || got.Packets > 2*segments || got.Bytes < size+segments*52 || got.Bytes > size+size/10 {
					t.Errorf("counters of %v after %d bytes: %+v", f.Key, size, got.Stats)
				}
			}
			if n := b.drops(t, b.s, "steer-no-memory"); n != 0 {
				t.Errorf("%d packets dropped", n)
			}
		})
	}
}

// TestCacheUDP: datagrams that the sender's kernel is to cut (UDP_SEGMENT) cross and arrive, translated.
func TestCacheUDP(t *testing.T) {
	b := newBed(t, 1)
	startRouter(t, b.node, b.s)
	for _, c := range []struct {
		vip  string
		dst  netip.Addr
		from netip.Addr
	}{{"198.51.100.80", b.b.Addr, b.a.Addr}, {"2001:db8::80", b.b.Addr6, b.a.Addr6}} {
		to, vip := netip.AddrPortFrom(c.dst, 5353), netip.AddrPortFrom(netip.MustParseAddr(c.vip), 53)
		var server net.PacketConn
		var client net.Conn
		var err error
		in(t, b.b.NS, func() { server, err = net.ListenPacket("udp", to.String()) })
		must(t, err)
		defer server.Close()
		in(t, b.a.NS, func() { client, err = net.Dial("udp", vip.String()) })
		must(t, err)
		defer client.Close()
		raw, _ := client.(*net.UDPConn).SyscallConn()
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1200) })
		must(t, err)
		mine := tuple(client, packet.ProtoUDP)
		theirs := mine
		theirs.Dst, theirs.Dport = packet.AddrFrom(c.dst), 5353
		forward, back := pair(mine, theirs.Reverse(), 1, 2)
		forward.NH, back.NH = toB, toA
		b.put(t, forward)
		b.put(t, back)
		data := build.Pattern(10*1200 - 7)
		if _, err := client.Write(data); err != nil {
			t.Fatal(err)
		}
		got, part := []byte(nil), make([]byte, 2000)
		server.SetReadDeadline(time.Now().Add(5 * time.Second))
		var sender net.Addr
		for len(got) < len(data) && err == nil {
			var n int
			n, sender, err = server.ReadFrom(part)
			got = append(got, part[:n]...)
		}
		if string(got) != string(data) || err != nil {
			t.Fatalf("%d of %d bytes arrive, %v", len(got), len(data), err)
		}
		server.WriteTo([]byte("answer"), sender)
		client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := client.Read(part); err != nil || string(part[:n]) != "answer" {
			t.Errorf("%q, %v", part[:n], err)
		}
		if r, _ := b.record(t, forward.Key); r.Packets != 10 || r.Bytes != uint64(len(data)+10*(int(forwardHeader(forward))+8)) {
			t.Errorf("%+v", r)
		}
	}
}

func forwardHeader(f *offload.Flow) int {
	if f.Src.Is4() {
		return packet.IPv4Len
	}
	return packet.IPv6Len
}

// twoNodes are two nodes with a pod each, whose fabric NICs are the ends of a veth.
func twoNodes(t testing.TB, mtu int) (near, far *bed) {
	t.Helper()
	near, far = &bed{node: newNode(t, "n", 1)}, &bed{node: newNode(t, "m", 1)}
	near.a, far.a = near.addPod(t, 1, 1500), far.addPod(t, 2, 1500)
	macs := []table.MAC{{2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}}
	run(t, fmt.Sprintf("ip -n %s link add fab0 mtu %d address %s type veth peer name fab0 mtu %d address %s netns %s", near.NS, mtu, macs[0], mtu, macs[1], far.NS))
	addrs := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
	for i, b := range []*bed{near, far} {
		b.fab = &fabric{addr: addrs[i], peer: addrs[1-i], peerMAC: macs[1-i]}
		run(t, fmt.Sprintf("ip -n %s addr add %s/24 dev fab0; ip -n %s link set fab0 up", b.NS, b.fab.addr, b.NS))
		b.s = b.open(t)
		b.attach(t, b.s, b.a)
		b.fab.vif = table.Vif{ID: 1000, Kind: table.VifFabric, Name: "fab0", Ifindex: b.ifindex(t, "fab0"), MAC: macs[i], Addrs: []netip.Addr{b.fab.addr}, MTU: mtu}
		in(t, b.NS, func() { must(t, b.s.AttachVif(b.fab.vif)) })
		other := *[]*bed{far, near}[i].a
		other.Remote = true
		b.Pods = append(b.Pods, &other)
		b.c = b.s.Cache()
		b.r = startRouter(t, b.node, b.s, func(r *router) { r.fab, r.slots = b.fab, b.c.Slots() })
		tunnel := offload.NextHop{ID: toPeer, Kind: offload.Tunnel, Ifindex: uint32(b.fab.vif.Ifindex), Src: b.fab.addr.As4(), Dst: b.fab.peer.As4(), MTU: mtu}
		copy(tunnel.Eth[:], b.fab.peerMAC[:])
		copy(tunnel.Eth[6:], macs[i][:])
		gre := tunnel
		gre.ID, gre.Encap = toGRE, offload.GRE
		must(t, b.c.SetNextHops([]offload.NextHop{local(toA, offload.Pod, b.a), tunnel, gre}))
		must(t, b.c.SetPeers([]packet.Addr{packet.AddrFrom(b.fab.peer)}))
		b.c.SetGeneration(scope, 5)
	}
	return near, far
}

// TestCacheTunnel: a connection between pods of two nodes, all four flows in the kernel.
// On a NIC that cannot cut segments in tunnels, the kernel cuts them into right ones.
func TestCacheTunnel(t *testing.T) {
	for _, c := range []struct {
		name   string
		nh     uint32
		v6     bool
		offers string // of the fabric NIC
	}{
		{"IPv4 in UDP, whole", toPeer, false, "on"},
		{"IPv6 in UDP, whole", toPeer, true, "on"},
		{"IPv4 in GRE, whole", toGRE, false, "on"},
		{"IPv4 in UDP, cut", toPeer, false, "off"},
		{"IPv6 in UDP, cut", toPeer, true, "off"},
		{"IPv4 in GRE, cut", toGRE, false, "off"},
		{"IPv6 in GRE, cut", toGRE, true, "off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := twoNodes(t, 1600)
			for _, b := range []*bed{near, far} {
				run(t, fmt.Sprintf("nsenter --net=/run/netns/%s ethtool -K fab0 tx %s", b.NS, c.offers))
			}
			at := far.a.Addr
			if c.v6 {
				at = far.a.Addr6
			}
			client, server := connect(t, near.a, netip.AddrPortFrom(at, 8080), listen(t, far.a, at, 8080))
			out, back := pair(tuple(client, packet.ProtoTCP), tuple(server, packet.ProtoTCP), 1, 2)
			arriving, answering := *out, *back
			arriving.From, answering.From = offload.FromLabel|bedLabel, offload.FromLabel|bedLabel
			arriving.NH, answering.NH, out.NH, back.NH = toA, toA, c.nh, c.nh
			out.Push, back.Push, out.Entropy, back.Entropy = bedLabel, bedLabel, entropy, entropy
			for _, f := range []*offload.Flow{out, &answering} {
				near.put(t, f)
			}
			for _, f := range []*offload.Flow{back, &arriving} {
				far.put(t, f)
			}
			wire := rawSocket(t, far.NS, far.fab.vif.Ifindex)
			packets, bytes := received(t, far.NS, "fab0")
			const size = 32 << 20
			stream(t, client, server, size)
			p, n := received(t, far.NS, "fab0")
			per := (n - bytes) / max(p-packets, 1)
			if whole := per > 5000; whole != (c.offers == "on") {
				t.Errorf("%d bytes a packet on the fabric", per)
			}
			if c.offers == "off" {
				wantOnWire(t, wire, c.nh == toGRE)
			}
			stream(t, server, client, size)
			for b, f := range map[*bed]*offload.Flow{near: out, far: &arriving} {
				if r, _ := b.record(t, f.Key); r.Bytes < size {
					t.Errorf("%v: %+v", f.Key, r)
				}
			}
		})
	}
}

// wantOnWire reads frames of the fabric: each is a tunnel packet of ours with right checksums.
func wantOnWire(t *testing.T, fd int, isGRE bool) {
	t.Helper()
	b := make([]byte, 1<<16)
	for range 50 {
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatal(err)
		}
		f := b[:n]
		inner := 14 + packet.TunnelLen
		var tun packet.Tunnel
		switch fault := packet.ParseTunnel(f, n, &tun); {
		case packet.EtherType(f) != packet.TypeIPv4:
			continue // the node's own IPv6 chatter
		case isGRE:
			inner -= 4
			if f[14+9] != 47 || f[36] != 0x88 || f[37] != 0x47 {
				t.Errorf("no MPLS over GRE: % x", f[:60])
			}
		case fault != packet.FaultNone || tun.Label != bedLabel || tun.Sport != entropy || tun.Inner != inner:
			t.Errorf("%v: %+v", fault, tun)
		}
		if n > 1600+14 {
			t.Errorf("a frame of %d bytes", n)
		}
		if err := build.Verify(f[14:]); err != nil && !isGRE {
			t.Error(err)
		}
		if err := build.Verify(f[inner:]); err != nil {
			t.Errorf("%v: %s", err, build.Describe(f))
		}
	}
}
