package steer_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// Next hops of a bed, and the scope of its flows.
const (
	toA = iota + 11
	toB
	toHost
	toPeer // MPLS over UDP
	toGRE
	toNarrow // B, with a smaller MTU
	scope
)

const bedLabel, entropy = 1000, 0xC123

var peerMAC = table.MAC{2, 0, 0, 0, 1, 2}

// bed is a node with two pods, the host and the fabric, whose cache knows ways to all
// of them. What goes up is read by the test.
type bed struct {
	*node
	s    *steer.Steer
	c    *steer.Cache
	r    *router
	a, b *pod
	host *pod
	fab  *fabric
	at   map[string]int // raw sockets: a, b, host, fabric
}

func newBed(t testing.TB, queues int) *bed {
	t.Helper()
	n := newNode(t, "n", queues)
	b := &bed{node: n, a: n.addPod(t, 1, 1500), b: n.addPod(t, 2, 1500), host: n.addHost(t, 250)}
	b.s = n.open(t)
	for _, p := range n.Pods {
		n.attach(t, b.s, p)
	}
	b.fab = addFabric(t, n, b.s)
	b.learn(t)
	return b
}

// listen takes what goes up, and opens a raw socket everywhere.
func (b *bed) listen(t testing.TB) {
	t.Helper()
	b.r = openSockets(t, b.node, b.s)
	b.at = map[string]int{
		"a":      rawSocket(t, b.a.NS, ifindexIn(t, b.a.NS, "eth0")),
		"b":      rawSocket(t, b.b.NS, ifindexIn(t, b.b.NS, "eth0")),
		"host":   rawSocket(t, b.NS, ifindexIn(t, b.NS, "vhost0")),
		"fabric": rawSocket(t, b.fab.ns, ifindexIn(t, b.fab.ns, "eth0")),
	}
}

// learn tells the cache the ways.
func (b *bed) learn(t testing.TB) {
	t.Helper()
	b.c = b.s.Cache()
	tunnel := offload.NextHop{
		ID: toPeer, Kind: offload.Tunnel, Ifindex: uint32(b.fab.vif.Ifindex), Eth: [14]byte(ethernet(peerMAC, []byte{0})),
		Src: b.fab.addr.As4(), Dst: b.fab.peer.As4(), MTU: 1500,
	}
	copy(tunnel.Eth[6:], b.fab.vif.MAC[:])
	gre := tunnel
	gre.ID, gre.Encap = toGRE, offload.GRE
	narrow := local(toNarrow, offload.Pod, b.b)
	narrow.MTU = 1000
	if err := b.c.SetNextHops([]offload.NextHop{narrow, local(toA, offload.Pod, b.a), local(toB, offload.Pod, b.b), local(toHost, offload.Host, b.host), tunnel, gre}); err != nil {
		t.Fatal(err)
	}
	if err := b.c.SetPeers([]packet.Addr{packet.AddrFrom(b.fab.peer)}); err != nil {
		t.Fatal(err)
	}
	b.c.SetGeneration(scope, 5)
}

func local(id uint32, kind offload.Kind, p *pod) offload.NextHop {
	n := offload.NextHop{ID: id, Kind: kind, Ifindex: uint32(p.Vif.Ifindex), MTU: p.Vif.MTU}
	copy(n.Eth[:], p.Vif.MAC[:])
	copy(n.Eth[6:], table.RouterMAC[:])
	return n
}

// flowOf is the flow of an IP packet, which leaves as out by nh.
func flowOf(t testing.TB, from uint32, in, out []byte, nh uint32) *offload.Flow {
	t.Helper()
	return &offload.Flow{
		Key: offload.Key{From: from, Tuple: tupleOf(t, in)}, To: tupleOf(t, out), NH: nh,
		Push: bedLabel, Entropy: entropy, Scope: scope, Gen: 5, Index: 77,
	}
}

func tupleOf(t testing.TB, ip []byte) packet.Tuple {
	t.Helper()
	var in packet.Info
	if fault := packet.ParseIP(ip, 0, len(ip), &in); fault != packet.FaultNone {
		t.Fatalf("%v: %s", fault, build.Describe(ip))
	}
	return in.Tuple
}

func (b *bed) put(t testing.TB, f *offload.Flow) {
	t.Helper()
	if err := b.c.Put(f); err != nil {
		t.Fatal(err)
	}
}

// stats reads the counters of a flow; ok is false when it is not in the cache.
func (b *bed) record(t testing.TB, k offload.Key) (r offload.Record, ok bool) {
	t.Helper()
	for _, r := range b.records(t) {
		if r.Key == k {
			return r, true
		}
	}
	return r, false
}

func (b *bed) records(t testing.TB) (all []offload.Record) {
	t.Helper()
	var cur steer.Cursor
	into := make([]offload.Record, 7)
	for {
		n, err := b.c.Read(&cur, into)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		all = append(all, into[:n]...)
	}
}

// entering is what a packet that enters at where comes from, and its frame there.
func (b *bed) entering(where string, ip []byte) (from uint32, frame []byte) {
	switch where {
	case "a":
		return uint32(b.a.Vif.ID), ethernet(table.RouterMAC, ip)
	case "host":
		return uint32(b.host.Vif.ID), ethernet(table.RouterMAC, ip)
	case "gre":
		return offload.FromLabel | bedLabel, ethernet(b.fab.vif.MAC, gre(ip, b.fab.peer.String(), b.fab.addr.String()))
	}
	return offload.FromLabel | bedLabel, ethernet(b.fab.vif.MAC, build.Tunnel(ip, b.fab.peer.String(), b.fab.addr.String(), bedLabel))
}

// gre is ip in MPLS over GRE (RFC 4023).
func gre(ip []byte, src, dst string) []byte {
	h := []byte{0, 0, 0x88, 0x47}
	h = binary.BigEndian.AppendUint32(h, bedLabel<<12|1<<8|64)
	return build.IPv4(src, dst).DF().Proto(47).Payload(append(h, ip...)).Bytes()
}

// leaving is the frame that a packet leaves in by a next hop, and where.
func (b *bed) leaving(nh uint32, ip []byte) (where string, frame []byte) {
	switch nh {
	case toA:
		where, frame = "a", ethernet(b.a.Vif.MAC, ip)
	case toB:
		where, frame = "b", ethernet(b.b.Vif.MAC, ip)
	case toHost:
		where, frame = "host", ethernet(b.host.Vif.MAC, ip)
	case toGRE:
		frame = ethernet(peerMAC, gre(ip, b.fab.addr.String(), b.fab.peer.String()))
		copy(frame[6:], b.fab.vif.MAC[:])
		return "fabric", frame
	default:
		out := make([]byte, packet.TunnelLen, packet.TunnelLen+len(ip))
		packet.PutTunnel(out, &packet.Outer{Src: b.fab.addr.As4(), Dst: b.fab.peer.As4(), Sport: entropy, Label: bedLabel}, len(ip))
		frame = ethernet(peerMAC, append(out, ip...))
		copy(frame[6:], b.fab.vif.MAC[:])
		return "fabric", frame
	}
	copy(frame[6:], table.RouterMAC[:])
	return where, frame
}

// socketOf is the raw socket by which frames enter at where.
func (b *bed) socketOf(where string) int {
	if fd, ok := b.at[where]; ok {
		return fd
	}
	return b.at["fabric"]
}

// wantFrame waits for a frame at a raw socket, and says how the last one differed.
func wantFrame(t testing.TB, fd int, want []byte) {
	t.Helper()
	got, seen := make([]byte, 1<<16), []byte(nil)
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for {
			k, err := unix.Read(fd, got)
			if err != nil {
				break
			}
			if bytes.Equal(got[:k], want) {
				return
			}
			seen = slices.Clone(got[:k])
		}
	}
	if seen == nil {
		t.Errorf("no frame; want %s", build.Describe(want))
		return
	}
	t.Errorf("the frame\n%s", build.Diff(seen, want))
}

// wantUp waits for a worker to get a frame, unchanged behind its Ethernet addresses, which it returns.
func (b *bed) wantUp(t testing.TB, want []byte) []byte {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, f := b.r.try(); f != nil && bytes.Equal(f[12:], want[12:]) {
			return f[:12]
		}
	}
	t.Errorf("it does not go up: %s", build.Describe(want))
	return make([]byte, 12)
}

// TestCache sends one packet of each kind of flow. It leaves translated, a hop
// older and in what its next hop asks for; nothing goes up, and the flow counts.
func TestCache(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	type row struct {
		name, where string
		in, out     *build.Packet
		nh          uint32
	}
	rows := []row{
		{"UDP without a checksum", "a", build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).NoChecksum().Payload(100), build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).NoChecksum().Payload(100), toB},
		{"TTL 2", "a", build.IPv4("192.0.2.1", "192.0.2.2").TTL(2).UDP(1, 3).Payload(0), build.IPv4("192.0.2.1", "192.0.2.2").TTL(1).UDP(1, 3).Payload(0), toB},
		{"largest", "a", build.IPv4("192.0.2.1", "192.0.2.2").DF().TCP(5, 3, "A").Payload(1460), build.IPv4("192.0.2.1", "192.0.2.2").DF().TTL(63).TCP(5, 3, "A").Payload(1460), toB},
		{"largest in a tunnel", "a", build.IPv4("192.0.2.1", "192.0.2.9").UDP(6, 3).Payload(1500 - 28 - 32), build.IPv4("192.0.2.1", "192.0.2.9").TTL(63).UDP(6, 3).Payload(1500 - 28 - 32), toPeer},
		{"largest in GRE", "a", build.IPv4("192.0.2.1", "192.0.2.9").UDP(7, 3).Payload(1500 - 28 - 28), build.IPv4("192.0.2.1", "192.0.2.9").TTL(63).UDP(7, 3).Payload(1500 - 28 - 28), toGRE},
	}
	for _, f := range []struct{ name, pod, far, vip string }{
		{"IPv4", "192.0.2.1", "192.0.2.2", "198.51.100.80"},
		{"IPv6", "2001:db8::1", "2001:db8::2", "2001:db8::80"},
	} {
		for _, l4 := range []string{"TCP", "UDP"} {
			with := func(src, dst string, ttl uint8, sport, dport uint16) *build.Packet {
				p := build.IP(src, dst).TTL(ttl).TOS(0xb8)
				if l4 == "TCP" {
					return p.TCP(sport, dport, "PA").Seq(7).Payload(501)
				}
				return p.UDP(sport, dport).Payload(501)
			}
			for _, way := range []struct {
				name, where string
				nh          uint32
			}{
				{"pod to pod", "a", toB}, {"pod to host", "a", toHost}, {"host to pod", "host", toA},
				{"pod to tunnel", "a", toPeer}, {"pod to GRE", "a", toGRE},
				{"tunnel to pod", "udp", toA}, {"tunnel to host", "udp", toHost}, {"GRE to pod", "gre", toA},
			} {
				name := f.name + " " + l4 + " " + way.name
				rows = append(rows,
					row{name, way.where, with(f.pod, f.far, 64, 1000, 80), with(f.pod, f.far, 63, 1000, 80), way.nh},
					row{name + ", destination and port translated", way.where, with(f.pod, f.vip, 64, 1001, 80), with(f.pod, f.far, 63, 1001, 8080), way.nh},
					row{name + ", source and port translated", way.where, with(f.pod, f.far, 64, 1002, 8080), with(f.vip, f.far, 63, 1002, 80), way.nh},
					row{name + ", destination translated", way.where, with(f.pod, f.vip, 64, 1003, 80), with(f.pod, f.far, 63, 1003, 80), way.nh},
					row{name + ", port translated", way.where, with(f.pod, f.far, 64, 1004, 80), with(f.pod, f.far, 63, 49152, 80), way.nh},
					row{name + ", all translated", way.where, with(f.pod, f.vip, 64, 1005, 80), with(f.vip, f.far, 63, 49153, 8080), way.nh})
			}
		}
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			ip, out := c.in.Bytes(), c.out.Bytes()
			from, frame := b.entering(c.where, ip)
			flow := flowOf(t, from, ip, out, c.nh)
			b.put(t, flow)
			defer b.c.Delete(flow.Key)
			where, want := b.leaving(c.nh, out)
			write(t, b.socketOf(c.where), frame)
			wantFrame(t, b.at[where], want)
			r, ok := b.record(t, flow.Key)
			if !ok || r.Flow != *flow || r.Packets != 1 || r.Bytes != uint64(len(ip)) {
				t.Errorf("the cache holds %+v; put was %+v", r, flow)
			}
		})
	}
	for _, f := b.r.try(); f != nil; _, f = b.r.try() { // pods answer to some of them
		for _, c := range rows {
			if _, frame := b.entering(c.where, c.in.Bytes()); bytes.Equal(f[12:], frame[12:]) {
				t.Errorf("%s: gone up", c.name)
			}
		}
	}
	if n := b.drops(t, b.s, "steer-no-memory"); n != 0 {
		t.Errorf("%d packets dropped", n)
	}
}
