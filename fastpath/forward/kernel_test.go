package forward

import (
	"encoding/binary"
	"log/slog"

	"github.com/vragent/vragent/fastpath/engine/offloader"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/offload/fake"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// cache is the kernel's half of a node of the bed, with its offloader: a flow cache in
// memory that forwards packets as the programs of package steer do.
type cache struct {
	*offloader.Offloader
	*fake.Cache
	desks []*desk.Desk
	begun bool
	late  bool // the offloader has no time: what is ordered waits

	forwarded int                     // packets
	leaves    func(*packet.Info) bool // it leaves such packets to the worker
}

func newCache(n *node, flows []*flow.Table) *cache {
	c := &cache{Cache: fake.New(1 << 16)}
	var bell <-chan struct{}
	c.desks, bell = desk.New(len(flows))
	c.Offloader = offloader.New(offloader.Config{
		Cache: c.Cache, Desks: c.desks, Bell: bell, Flows: flows, Notes: make(offloader.Notes, 64*offloader.NoteSize),
		Wake: func(worker int) { n.workers[worker].Wake() }, Log: slog.New(slog.DiscardHandler),
	})
	return c
}

// learn is what the engine does before it publishes tables.
func (c *cache) learn(t *table.Tables) {
	if !c.begun {
		c.begun = true
		c.Begin(t)
		return
	}
	c.Sync(t)
}

// Orders and Pass are the offloader's, when it has time.
func (c *cache) Orders() {
	if !c.late {
		c.Offloader.Orders()
	}
}

func (c *cache) Pass(now uint64) {
	if !c.late {
		c.Offloader.Pass(now)
	}
}

// forwards shows the kernel a frame on its way to the workers, whose IP packet is at
// l3, and reports whether the kernel has forwarded it.
func (c *cache) forwards(n *node, frame []byte, l3 int) bool {
	if len(frame) < l3 {
		return false
	}
	id, ok := link.VifOf(frame)
	if !ok {
		return false
	}
	k := offload.Key{From: id}
	var outer packet.Tunnel
	if packet.ParseTunnel(frame, len(frame), &outer) == packet.FaultNone && table.VifID(id) == n.vifs["eth0"] {
		if !n.builder.Tables().Peer(outer.Src) {
			return false
		}
		k.From, l3 = offload.FromLabel|outer.Label, outer.Inner
	}
	var in packet.Info
	clear(frame[6:12])
	if packet.ParseIP(frame, l3, len(frame)-l3, &in) != packet.FaultNone {
		return false
	}
	k.Tuple = in.Tuple
	if k.Proto == packet.ProtoTCP && in.TCPFlags&packet.SYN != 0 {
		c.Begins(k)
	}
	if !cacheable(&in) || c.leaves != nil && c.leaves(&in) {
		return false
	}
	if r := c.Flows[k]; r != nil && in.Len > most(c.NextHops[r.NH]) {
		return false
	}
	r := c.Forward(k, in.Len, frame)
	if r == nil {
		return false
	}
	c.forwarded++
	packet.Rewrite(frame, &in, &r.To)
	packet.DecTTL(frame, &in)
	c.deliver(n, r, frame[l3:l3+in.Len])
	return true
}

func cacheable(in *packet.Info) bool {
	proto := in.Tuple.Proto
	return in.Frag == packet.FragNone && in.TTL > 1 &&
		(proto == packet.ProtoUDP || proto == packet.ProtoTCP && in.TCPFlags&(packet.SYN|packet.FIN|packet.RST) == 0)
}

func most(h offload.NextHop) int {
	if h.Kind == offload.Tunnel {
		return h.MTU - packet.TunnelLen
	}
	return h.MTU
}

func (c *cache) deliver(n *node, r *offload.Record, ip []byte) {
	h := c.NextHops[r.NH]
	f := make([]byte, packet.EthernetLen, packet.EthernetLen+packet.TunnelLen+len(ip))
	copy(f, h.Eth[:])
	var exit table.VifID
	n.builder.Tables().Vifs(func(v *table.VifEntry) {
		if uint32(v.Ifindex) == h.Ifindex {
			exit = v.ID
		}
	})
	mac := link.VifMAC(uint32(exit))
	copy(f[6:], mac[:])
	if h.Kind == offload.Tunnel {
		f = f[:packet.EthernetLen+packet.TunnelLen]
		binary.BigEndian.PutUint16(f[12:], packet.TypeIPv4)
		packet.PutTunnel(f[packet.EthernetLen:], &packet.Outer{Src: h.Src, Dst: h.Dst, Sport: r.Entropy, Label: r.Push}, len(ip))
	}
	n.bed.arrive(n, append(f, ip...))
}

// forced in a test's name gives its nodes a kernel that forwards all it can.
const forced = "/offload=force"
