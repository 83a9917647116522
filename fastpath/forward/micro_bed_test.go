package forward

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/mem"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// The network of the micro benchmarks: one worker of one node with 16 clients and 10
// backends, services each of which has all backends as its endpoints, and routes
// through one tunnel.
const (
	microClients   = 16
	microEndpoints = 10
	microPods      = microClients + microEndpoints
	microTunnelled = 62   // frame index of what comes through the tunnel
	microSyn       = 64   // + frame index: the same with SYN
	micro6         = 128  // + frame index: the same in IPv6
	microServices  = 1000 // + 2n: next hop of service n; + 2n+1: its composite
)

// microAddr is the address of pod n, n < microPods.
func microAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 2)}) }

func microAddr6(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: byte(n + 2)})
}

// spreadOver puts n into the lower bits of a prefix, 4 addresses apart.
func spreadOver(prefix uint32, n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, prefix+uint32(n)*4)))
}

func microVIP(n int) netip.Addr { return spreadOver(10<<24|96<<16, n) }

func microFar(n int) netip.Addr { return spreadOver(10<<24|128<<16, n) }

// microTables makes the tables of that many services and routes.
func microTables(t testing.TB, services, routes int) *table.Tables {
	t.Helper()
	s := network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.1.0.0/24", "2001:db8:1::/64")
	s.Vifs, s.PortMaps, s.Labels, s.Routes = s.Vifs[:2], nil, []table.LabelEntry{{Label: vrfLabel, NH: nhVRF}}, nil
	s.NextHops = s.NextHops[:4]
	for n := range microPods {
		id, nh := table.VifID(10+n), table.NextHopID(100+n)
		s.Vifs = append(s.Vifs, table.Vif{ID: id, Kind: table.VifVirtual, Name: microAddr(n).String(), Ifindex: 10 + n, VRF: vrf, NH: nh,
			MAC: table.MAC{2, 1, 0, 0, 0, byte(n)}, Addrs: []netip.Addr{microAddr(n), microAddr6(n)}, MTU: podMTU})
		s.NextHops = append(s.NextHops, table.NextHop{ID: nh, Type: table.NHEncap, Vif: id, VRF: vrf})
		s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.PrefixFrom(microAddr(n), 32), NH: nh},
			table.Route{VRF: vrf, Prefix: netip.PrefixFrom(microAddr6(n), 128), NH: nh})
	}
	for n := range services {
		microService(&s, n)
	}
	for n := range routes {
		s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.PrefixFrom(microFar(n), 30), NH: nhTunnel, Label: vrfLabel})
	}
	b := table.NewBuilder()
	if err := b.Apply(&table.Delta{Upsert: s}); err != nil {
		t.Fatal(err)
	}
	return b.Tables()
}

func microService(s *table.State, n int) {
	service, composite := table.NextHopID(microServices+2*n), table.NextHopID(microServices+2*n+1)
	c := table.NextHop{ID: composite, Type: table.NHComposite, VRF: vrf}
	for m := range microEndpoints {
		pod := microClients + m
		c.Members = append(c.Members, table.Member{NH: table.NextHopID(100 + pod), Key: uint64(pod) * 7919})
		s.PortMaps = append(s.PortMaps, table.PortMap{Vif: table.VifID(10 + pod), VIP: microVIP(n), Proto: packet.ProtoTCP, Port: 80, Fixed: microAddr(pod), Target: 8080})
	}
	s.NextHops = append(s.NextHops, c, table.NextHop{ID: service, Type: table.NHService, VRF: vrf,
		Listeners: []table.Listener{{Proto: packet.ProtoTCP, Port: 80, NH: composite}}})
	s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.PrefixFrom(microVIP(n), 32), NH: service})
}

// microBed is a worker on a replay link with flows of its own.
type microBed struct {
	w      *Worker
	link   *mem.Replay
	memory []byte // of the flow table
	size   flow.Size
	now    uint64 // ns
}

const microChunks = 2 * turnSize

func newMicroBed(t testing.TB, tables *table.Tables, entries int, six bool) *microBed {
	t.Helper()
	size := flow.Size{Four: entries, Six: 64}
	if six {
		size = flow.Size{Four: 64, Six: entries}
	}
	mem1, _, err := store.Private().Memory("", flow.MemorySize(size))
	if err != nil {
		t.Fatal(err)
	}
	b := &microBed{memory: mem1, size: size, now: 1e12}
	b.fresh(t, tables)
	t.Cleanup(func() { _ = store.Free(mem1) })
	return b
}

// fresh makes a new worker with an empty flow table.
func (b *microBed) fresh(t testing.TB, tables *table.Tables) {
	t.Helper()
	flows, err := flow.New(b.memory, b.size, 0, 42)
	if err != nil {
		t.Fatal(err)
	}
	memory := make(frame.Memory, microChunks*frame.ChunkSize)
	pools := frame.NewPools(microChunks, 1)
	s, err := NewShared(Options{Workers: 1, Memory: memory, Pools: pools, Flows: []*flow.Table{flows}, Clients: affinity.New(), MaxVifFlows: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	b.link = mem.NewReplay(memory, pools[0])
	b.link.Frames = microFrames()
	b.w = s.Worker(0, b.link, b.link)
	s.Publish(tables)
}

// turn runs one turn; 256 packets in 20 us are 12.8 million a second.
func (b *microBed) turn() int {
	b.now += 20_000
	return b.w.Turn(b.now)
}

// microFrames are 60-byte frames (64 with the checksum of the wire) of TCP segments,
// the tunnelled ones with their outer headers in front.
func microFrames() []mem.Frame {
	frames := make([]mem.Frame, 3*microSyn)
	for i, flags := range []string{"A", "S", "A"} {
		for n := range microPods {
			src, dst, f := "10.0.0.1", "10.0.0.1", mem.Frame{Src: 26, Dst: 30, Ports: 34, Sum: 24}
			if i*microSyn == micro6 {
				src, dst, f = microAddr6(n).String(), microAddr6(n).String(), mem.Frame{Src: 34, Dst: 50, Ports: 54}
			}
			f.Bytes = build.Eth(build.IP(src, dst).TCP(1, 2, flags).Payload(6).Bytes(), link.VifMAC(uint32(10+n)), mac)
			frames[i*microSyn+n] = f
		}
		inner := build.IPv4("10.0.0.1", "10.0.0.1").TCP(1, 2, flags).Payload(6).Bytes()
		frames[i*microSyn+microTunnelled] = mem.Frame{Src: 58, Dst: 62, Ports: 66, Sum: 56,
			Bytes: build.Eth(build.Tunnel(inner, "192.0.2.2", "192.0.2.1", vrfLabel), link.VifMAC(1), mac)}
	}
	return frames
}

// microPacket is the packet with tuple t, from whom it says.
func microPacket(t *packet.Tuple) mem.Packet {
	p := mem.Packet{Src: t.Src.As4(), Dst: t.Dst.As4(), Sport: t.Sport, Dport: t.Dport}
	switch {
	case !t.Src.Is4():
		p.Frame = micro6 + uint16(p.Src[3]) - 2
		return p
	case p.Src[1] == 0: // 10.0.0.0/24: the pods
		p.Frame = uint16(p.Src[3]) - 2
	default:
		p.Frame = microTunnelled
	}
	header := build.IPv4(t.Src.String(), t.Dst.String()).TCP(1, 2, "A").Payload(6).Bytes()
	p.Sum = binary.BigEndian.Uint16(header[10:])
	return p
}

// conversation n of a kind: the tuple of its first packet.
func conversation(kind string, n, services, routes int) packet.Tuple {
	j := n / microClients
	t := packet.Tuple{Src: packet.AddrFrom(microAddr(n % microClients)), Sport: uint16(1024 + j%60000), Dport: uint16(80 + j/60000), Proto: packet.ProtoTCP}
	switch kind {
	case "local":
		t.Dst = packet.AddrFrom(microAddr(microClients + n%microEndpoints))
	case "local6":
		t.Src, t.Dst = packet.AddrFrom(microAddr6(n%microClients)), packet.AddrFrom(microAddr6(microClients+n%microEndpoints))
	case "service":
		t.Dst, t.Dport = packet.AddrFrom(microVIP((n+j/60000)%services)), 80
	default:
		t.Dst = packet.AddrFrom(microFar(n % routes))
	}
	return t
}

// microOpening are the first packets of n conversations in random order.
func microOpening(c *microCase, n int, frame uint16) []mem.Packet {
	packets := make([]mem.Packet, n)
	for i := range packets {
		t := conversation(c.kind, i, c.services, c.routes)
		packets[i] = microPacket(&t)
		packets[i].Frame += frame
	}
	microShuffle(packets)
	return packets
}

func microShuffle(p []mem.Packet) {
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
}

// establish makes the entries of c, and has the link replay a packet of each in
// random order, both directions: of those that come from a pod, or through the tunnel.
func (b *microBed) establish(t testing.TB, c *microCase) {
	t.Helper()
	b.replay(microOpening(c, c.entries/2, 0))
	for range (c.entries/2 + turnSize - 1) / turnSize {
		b.turn()
	}
	var packets []mem.Packet
	b.w.flows.Scan(b.w.flows.Slots(), func(slot uint32, _ *flow.Entry) {
		tuple := b.w.flows.Key(slot).Tuple
		p := microPacket(&tuple)
		if (p.Frame == microTunnelled) == (c.kind == "decap") {
			packets = append(packets, p)
		}
	})
	microShuffle(packets)
	b.replay(packets)
	for range len(packets)/turnSize + 1 {
		b.turn()
	}
	if got := b.w.flows.Len(); got < c.entries*99/100 || got > c.entries {
		t.Fatalf("%s: %d flows, want %d; drops %v", c.kind, got, c.entries, b.w.count.drops)
	}
	b.whole(t, c)
}

func (b *microBed) replay(p []mem.Packet) { b.link.Packets, b.link.Next = p, 0 }

// whole fails unless every packet so far has left.
func (b *microBed) whole(t testing.TB, c *microCase) {
	t.Helper()
	if n := &b.w.count; n.TxPackets != n.RxPackets || n.Answers != 0 {
		t.Fatalf("%s: %d packets came, %d left, drops %v", c.kind, n.RxPackets, n.TxPackets, n.drops)
	}
}
