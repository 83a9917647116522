package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// bed is a cluster of nodes on in-memory links and one virtual clock.
type bed struct {
	t     *testing.T
	nodes map[string]*node
	now   uint64   // ns
	wire  [][]byte // every frame that crossed the fabric
}

// node is one fast path with its tables.
type node struct {
	bed     *bed
	name    string
	addr    string
	shared  *Shared
	workers []*Worker
	links   []*mem.Link
	pools   []*frame.Pool
	builder *table.Builder
	vifs    map[string]table.VifID
	sent    map[string][][]byte // IP packets delivered, by vif name
	next    int                 // worker that receives next: steering is best effort
}

const chunks = 512

func newBed(t *testing.T) *bed {
	return &bed{t: t, nodes: map[string]*node{}, now: 1e12}
}

func (b *bed) node(name, addr string, workers, flows int) *node {
	n := &node{bed: b, name: name, addr: addr, builder: table.NewBuilder(), vifs: map[string]table.VifID{}, sent: map[string][][]byte{}}
	memory := make(frame.Memory, chunks*workers*frame.ChunkSize)
	n.pools = frame.NewPools(chunks, workers)
	tables := make([]*flow.Table, workers)
	for i := range tables {
		tb, err := flow.New(make([]byte, flow.MemorySize(flows)), i, 1)
		if err != nil {
			b.t.Fatal(err)
		}
		tables[i] = tb
	}
	s, err := NewShared(Options{Workers: workers, Memory: memory, Pools: n.pools, Flows: tables})
	if err != nil {
		b.t.Fatal(err)
	}
	n.shared = s
	for i := range workers {
		l := mem.New(memory, n.pools[i])
		n.links = append(n.links, l)
		n.workers = append(n.workers, s.Worker(i, l))
	}
	b.nodes[name] = n
	return n
}

// apply changes the tables of the node and publishes them.
func (n *node) apply(d table.Delta) {
	n.bed.t.Helper()
	if err := n.builder.Apply(&d); err != nil {
		n.bed.t.Fatal(err)
	}
	for _, v := range d.Upsert.Vifs {
		n.vifs[v.Name] = v.ID
	}
	n.shared.Publish(n.builder.Tables())
}

// send lets the pod or host behind the vif send an IP packet.
func (n *node) send(vif string, ip []byte) {
	n.bed.t.Helper()
	id, ok := n.vifs[vif]
	if !ok {
		n.bed.t.Fatalf("no vif %s on %s", vif, n.name)
	}
	n.inject(build.Eth(ip, link.VifMAC(uint32(id)), [6]byte{2, 0, 0, 0, 0, 1}))
}

// inject gives the frame to any worker: steering is best effort. Only fragments
// arrive where their like does, as the kernel's hash of the 3-tuple ensures.
func (n *node) inject(frame []byte) {
	var p packet.Info
	var outer packet.Tunnel
	off := ethLen
	if packet.ParseTunnel(frame, len(frame), &outer) == packet.FaultNone {
		off = outer.Inner
	}
	at := n.next % len(n.links)
	n.next++
	if len(frame) > off && packet.ParseIP(frame, off, len(frame)-off, &p) == packet.FaultNone && p.Frag != packet.FragNone {
		at = 0
	}
	n.links[at].Inject(frame)
}

// run turns all workers until nothing moves any more.
func (b *bed) run() {
	b.t.Helper()
	for range 100 {
		moved := 0
		for _, n := range b.nodes {
			for i, w := range n.workers {
				moved += w.Turn(b.now)
				for _, f := range n.links[i].Sent() {
					moved++
					b.arrive(n, f)
				}
			}
		}
		if moved == 0 {
			return
		}
	}
	b.t.Fatal("packets move for ever")
}

// arrive takes a frame that left a node to where its source address says.
func (b *bed) arrive(n *node, f []byte) {
	b.t.Helper()
	id, ok := link.VifOf(f[6:])
	if !ok {
		b.t.Fatalf("frame without a vif in its source: % x", f[:14])
	}
	v := n.builder.Tables().Vif(table.VifID(id))
	if v == nil {
		b.t.Fatalf("frame for unknown vif %d", id)
	}
	if v.Kind != table.VifFabric {
		if binary.BigEndian.Uint16(f[12:]) != etherARP {
			f = f[14:]
		}
		n.sent[v.Name] = append(n.sent[v.Name], f)
		return
	}
	b.wire = append(b.wire, f)
	dst := netip.AddrFrom4([4]byte(f[30:34])).String()
	for _, peer := range b.nodes {
		if peer.addr == dst {
			mac := link.VifMAC(uint32(peer.vifs["eth0"]))
			copy(f, mac[:])
			peer.inject(f)
			return
		}
	}
	b.t.Fatalf("no node has %s", dst)
}

// got returns what was delivered to the vif since the last call; every checksum
// must be right.
func (n *node) got(vif string) [][]byte {
	n.bed.t.Helper()
	out := n.sent[vif]
	delete(n.sent, vif)
	for _, ip := range out {
		if ip[0]>>4 == 4 || ip[0]>>4 == 6 {
			if err := build.Verify(ip); err != nil {
				n.bed.t.Errorf("%s %s received %s: %v", n.name, vif, build.Describe(ip), err)
			}
		}
	}
	return out
}

// one is got when exactly one packet is expected.
func (n *node) one(vif string) []byte {
	n.bed.t.Helper()
	out := n.got(vif)
	if len(out) != 1 {
		n.bed.t.Fatalf("%s %s received %d packets, want 1%s", n.name, vif, len(out), n.drops())
	}
	return out[0]
}

func (n *node) want(vif string, want *build.Packet) {
	n.bed.t.Helper()
	if d := build.Diff(n.one(vif), want.Bytes()); d != "" {
		n.bed.t.Errorf("%s %s: %s", n.name, vif, d)
	}
}

// drops lists the counters that moved, for failure messages and expectations.
func (n *node) drops() string {
	s := ""
	for r := range reasonCount {
		var sum uint64
		for _, w := range n.workers {
			sum += w.count.drops[r]
		}
		if sum > 0 {
			s += fmt.Sprintf(" %s.%s=%d", n.name, r, sum)
		}
	}
	return s
}

// wantDrops compares all drop counters of all nodes: a stray one fails.
func (b *bed) wantDrops(want string) {
	b.t.Helper()
	got := ""
	for _, name := range []string{"n1", "n2"} {
		if n := b.nodes[name]; n != nil {
			got += n.drops()
		}
	}
	if got != want {
		b.t.Errorf("drops:%s, want:%s", got, want)
	}
}

// flows lists the entries of a node as "K src > dst action nat tcp".
func (n *node) flows() (out []flow.Entry) {
	for _, w := range n.workers {
		w.flows.Scan(w.flows.Slots(), func(_ uint32, e *flow.Entry) { out = append(out, *e) })
	}
	return out
}

// frames checks that every buffer came home.
func (b *bed) frames() {
	b.t.Helper()
	for _, n := range b.nodes {
		for i, p := range n.pools {
			if p.Len() != chunks {
				b.t.Errorf("%s worker %d: %d of %d packet buffers are free", n.name, i, p.Len(), chunks)
			}
		}
	}
}

// The network of most tests: two nodes, a client and backends, in IPv4 and IPv6.
//
//	n1 192.0.2.1: c 10.0.0.2, b1 10.0.0.3, host 10.0.0.1
//	n2 192.0.2.2: b2 10.0.1.2, b3 10.0.1.3, host 10.0.1.1
//	10.96.0.10: TCP 8888 and UDP 53 of b1, b2, b3 port 80 and 5353; 10.96.0.11: nobody
const (
	vip, vip6 = "10.96.0.10", "2001:db8:96::a"
	nobody    = "10.96.0.11"
	vrfLabel  = 16
	fabricMTU = 1500
	podMTU    = fabricMTU - packet.TunnelLen
	vrf       = 1
	nhFabric  = 1
	nhVRF     = 2
	nhHost    = 3
	nhTunnel  = 4
	nhService = 5
	nhTCP     = 6
	nhUDP     = 7
	nhNobody  = 8
	nhTCP6    = 9
	nhPods    = 16 // + n: encap of pod n
	labelPods = 32 // + n
)

type pod struct {
	name, addr, addr6 string
	n                 int
	node              string
}

var pods = []pod{
	{"c", "10.0.0.2", "2001:db8::2", 0, "n1"},
	{"b1", "10.0.0.3", "2001:db8::3", 1, "n1"},
	{"b2", "10.0.1.2", "2001:db8:1::2", 2, "n2"},
	{"b3", "10.0.1.3", "2001:db8:1::3", 3, "n2"},
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func twoNodes(t *testing.T, workers int) (b *bed, n1, n2 *node) {
	b = newBed(t)
	n1, n2 = b.node("n1", "192.0.2.1", workers, 4096), b.node("n2", "192.0.2.2", workers, 4096)
	n1.apply(table.Delta{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")})
	n2.apply(table.Delta{Upsert: network("n2", "192.0.2.2", "192.0.2.1", "10.0.1.1", "10.0.0.0/24", "2001:db8::/64")})
	return b, n1, n2
}

func network(name, local, remote, host, far, far6 string) table.State {
	sip, dip := netip.MustParseAddr(local), netip.MustParseAddr(remote)
	s := table.State{
		VRFs: []table.VRF{{ID: vrf, Name: "pods", Router4: netip.MustParseAddr(host)}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 2, VRF: vrf, NH: nhFabric, MAC: table.MAC{2, 0, 0, 0, 0, 9}, Addrs: addrs(local), MTU: fabricMTU},
			{ID: 2, Kind: table.VifHost, Name: "host", Ifindex: 3, VRF: vrf, NH: nhHost, MAC: table.MAC{2, 0, 0, 0, 0, 8}, Addrs: addrs(host), MTU: fabricMTU},
		},
		NextHops: []table.NextHop{
			{ID: nhFabric, Type: table.NHDiscard},
			{ID: nhVRF, Type: table.NHVRFTranslate, VRF: vrf},
			{ID: nhHost, Type: table.NHHost, Vif: 2},
			{ID: nhTunnel, Type: table.NHTunnel, Vif: 1, Sip: sip, Dip: dip, SrcMAC: table.MAC{2, 0, 0, 0, 0, 9}, DstMAC: table.MAC{2, 0, 0, 0, 0, 7}, MTU: fabricMTU},
			{ID: nhNobody, Type: table.NHComposite, VRF: vrf, Proto: 6, Port: 80},
		},
		Labels: []table.LabelEntry{{Label: vrfLabel, NH: nhVRF}},
		Peers:  addrs(remote),
		Routes: []table.Route{
			{VRF: vrf, Prefix: netip.MustParsePrefix(far), NH: nhTunnel, Label: vrfLabel},
			{VRF: vrf, Prefix: netip.MustParsePrefix(far6), NH: nhTunnel, Label: vrfLabel},
			{VRF: vrf, Prefix: netip.MustParsePrefix(host + "/32"), NH: nhHost},
			{VRF: vrf, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NH: nhHost},
			{VRF: vrf, Prefix: netip.MustParsePrefix(nobody + "/32"), NH: nhNobody},
		},
	}
	addPods(&s, name)
	addService(&s, name, "b1", "b2", "b3")
	return s
}

func addPods(s *table.State, node string) {
	for _, p := range pods {
		if p.node != node {
			continue
		}
		id, nh := table.VifID(10+p.n), table.NextHopID(nhPods+p.n)
		s.Vifs = append(s.Vifs, table.Vif{ID: id, Kind: table.VifVirtual, Name: p.name, Ifindex: 10 + p.n, VRF: vrf, NH: nh,
			MAC: table.MAC{2, 1, 0, 0, 0, byte(p.n)}, Addrs: addrs(p.addr, p.addr6), MTU: podMTU})
		s.NextHops = append(s.NextHops, table.NextHop{ID: nh, Type: table.NHEncap, Vif: id, VRF: vrf})
		s.Labels = append(s.Labels, table.LabelEntry{Label: table.Label(labelPods + p.n), NH: nh})
		s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p.addr + "/32"), NH: nh},
			table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p.addr6 + "/128"), NH: nh})
	}
}

// addService makes the VIP's next hops with these backends, and the port maps of
// the local ones.
func addService(s *table.State, node string, backends ...string) {
	var members []table.Member
	for _, p := range pods {
		for _, name := range backends {
			if p.name != name {
				continue
			}
			m := table.Member{NH: nhTunnel, Label: table.Label(labelPods + p.n), Key: uint64(p.n) + 1000, Name: p.name}
			if p.node == node {
				m.NH, m.Label = table.NextHopID(nhPods+p.n), 0
				for _, pm := range []table.PortMap{
					{VIP: netip.MustParseAddr(vip), Proto: 6, Port: 8888, Fixed: netip.MustParseAddr(p.addr), Target: 80},
					{VIP: netip.MustParseAddr(vip), Proto: 17, Port: 53, Fixed: netip.MustParseAddr(p.addr), Target: 5353},
					{VIP: netip.MustParseAddr(vip6), Proto: 6, Port: 8888, Fixed: netip.MustParseAddr(p.addr6), Target: 80},
				} {
					pm.Vif = table.VifID(10 + p.n)
					s.PortMaps = append(s.PortMaps, pm)
				}
			}
			members = append(members, m)
		}
	}
	s.NextHops = append(s.NextHops,
		table.NextHop{ID: nhTCP, Type: table.NHComposite, VRF: vrf, Members: members},
		table.NextHop{ID: nhUDP, Type: table.NHComposite, VRF: vrf, Members: members},
		table.NextHop{ID: nhTCP6, Type: table.NHComposite, VRF: vrf, Members: members, Proto: 6, Port: 8888},
		table.NextHop{ID: nhService, Type: table.NHService, VRF: vrf, Listeners: []table.Listener{{Proto: 6, Port: 8888, NH: nhTCP}, {Proto: 17, Port: 53, NH: nhUDP}}})
	s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(vip + "/32"), NH: nhService},
		table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(vip6 + "/128"), NH: nhTCP6})
}

func where(name string) pod {
	for _, p := range pods {
		if p.name == name {
			return p
		}
	}
	panic(name)
}
