package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/reason"
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

	offload admit.Mode // of nodes made from here on
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
	cache   *cache              // the kernel's half; nil: none
}

const chunks, larges = 512, 8 // buffers of each worker

func newBed(t *testing.T) *bed {
	b := &bed{t: t, nodes: map[string]*node{}, now: 1e12}
	if strings.Contains(t.Name(), forced) {
		b.offload = admit.Force
	}
	return b
}

func (b *bed) node(name, addr string, workers, flows int) *node {
	n := &node{bed: b, name: name, addr: addr, builder: table.NewBuilder(), vifs: map[string]table.VifID{}, sent: map[string][][]byte{}}
	n.pools = frame.NewPools(chunks, workers)
	memory := make(frame.Memory, frame.AddLarge(n.pools, larges))
	size := flow.Size{Four: flows, Six: flows}
	tables := make([]*flow.Table, workers)
	for i := range tables {
		tb, err := flow.New(make([]byte, flow.MemorySize(size)), size, i, 1)
		if err != nil {
			b.t.Fatal(err)
		}
		tables[i] = tb
	}
	opts := Options{Workers: workers, Memory: memory, Pools: n.pools, Flows: tables, Clients: affinity.New()}
	if b.offload != admit.Off {
		n.cache = newCache(n, tables)
		opts.Offload = admit.Config{Mode: b.offload, Desks: n.cache.desks, Slots: n.cache.Slots}
	}
	s, err := NewShared(opts)
	if err != nil {
		b.t.Fatal(err)
	}
	n.shared = s
	for i := range workers {
		l := mem.New(memory, n.pools[i])
		n.links = append(n.links, l)
		n.workers = append(n.workers, s.Worker(i, l, l))
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
	if n.cache != nil {
		n.cache.learn(n.builder.Tables())
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
	off := packet.EthernetLen
	if packet.ParseTunnel(frame, len(frame), &outer) == packet.FaultNone {
		off = outer.Inner
	}
	if n.cache != nil && n.cache.forwards(n, frame, off) {
		return
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
			if n.cache != nil {
				n.cache.Orders()
			}
			for i, w := range n.workers {
				soil(w)
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

// soil leaves in the batch the worst that packets before could have left there.
func soil(w *Worker) {
	worst := pkt{handed: true, settled: true, ask: askND, push: 77, rewrite: true, answer: true, live: true}
	worst.parcel = parcel{addr: 1 << 40, off: 9, end: 8, total: 7, tails: 6, offload: ^frame.Offload(0), resolved: true, clashes: 255, sport: 1, dport: 2}
	worst.Vif, worst.Fabric, worst.VRF, worst.KeyNH, worst.Label = &table.VifEntry{}, true, 99, 99, 99
	worst.Info = packet.Info{L3: 1, L4: 2, Len: 3, V6: true, DF: true, Multicast: true, TTL: 1, Frag: packet.FragTail, Partial: true, TCPFlags: 255, ND: 135, ICMPError: true, InnerL3: 4, InnerL4: 5}
	for i := range w.batch {
		w.batch[i] = worst
	}
}

// arrive takes a frame that left a node to where its source address says.
func (b *bed) arrive(n *node, f []byte) {
	b.t.Helper()
	id, ok := link.VifOf(f[6:])
	if n.cache != nil {
		if id, ok = n.cache.Down(f); !ok {
			return
		}
	}
	if !ok {
		b.t.Fatalf("frame without a vif in its source: % x", f[:14])
	}
	v := n.builder.Tables().Vif(table.VifID(id))
	if v == nil {
		b.t.Fatalf("frame for unknown vif %d", id)
	}
	if v.Kind != table.VifFabric {
		if binary.BigEndian.Uint16(f[12:]) != packet.TypeARP {
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
	for r := range reason.Count {
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
func (n *node) flows() (out []flow.Record) {
	for _, w := range n.workers {
		w.flows.Scan(w.flows.Slots(), func(slot uint32, _ *flow.Entry) { out = append(out, w.flows.Record(slot)) })
	}
	return out
}

// frames checks that every buffer came home, and that every packet left by one door.
func (b *bed) frames() {
	b.t.Helper()
	for _, n := range b.nodes {
		var in, out uint64
		for i, p := range n.pools {
			if p.Len() != chunks {
				b.t.Errorf("%s worker %d: %d of %d packet buffers are free", n.name, i, p.Len(), chunks)
			}
			if free := largeLen(p); free != larges {
				b.t.Errorf("%s worker %d: %d of %d large buffers are free", n.name, i, free, larges)
			}
			c := &n.workers[i].count
			in += c.RxPackets + c.Answers + c.Fragments
			out += c.TxPackets
			for _, d := range c.drops {
				out += d
			}
		}
		if in != out {
			b.t.Errorf("%s: %d packets came in or were made here, %d left:%s", n.name, in, out, n.drops())
		}
	}
}
