package offloader_test

import (
	"log/slog"
	"testing"

	"github.com/vragent/vragent/fastpath/engine/offloader"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/offload/fake"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// bed is one worker's desk and table, an offloader and a kernel.
type bed struct {
	*testing.T
	*offloader.Offloader
	cache *fake.Cache
	desk  *desk.Desk
	flows *flow.Table
	now   uint64
	heard map[uint32]uint64 // packets, by index
	out   map[uint32]int
}

// pod is the vif and the next hop of all flows.
const pod = 5

func newBed(t *testing.T, size int) *bed {
	t.Helper()
	room := flow.Size{Four: 1 << 15, Six: 1}
	flows, err := flow.New(make([]byte, flow.MemorySize(room)), room, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, cache: fake.New(size), flows: flows, now: 1e12, heard: map[uint32]uint64{}, out: map[uint32]int{}}
	desks, bell := desk.New(1)
	b.desk = desks[0]
	b.Offloader = offloader.New(offloader.Config{Cache: b.cache, Desks: desks, Bell: bell, Flows: []*flow.Table{flows}, Wake: func(int) {}, Log: slog.New(slog.DiscardHandler)})
	build := table.NewBuilder()
	err = build.Apply(&table.Delta{Upsert: table.State{
		VRFs:     []table.VRF{{ID: 1, Name: "v"}},
		Vifs:     []table.Vif{{ID: pod, Kind: table.VifHost, Name: "h", Ifindex: 9, VRF: 1, NH: pod, MAC: table.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500}},
		NextHops: []table.NextHop{{ID: pod, Type: table.NHHost, Vif: pod, VRF: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b.Begin(build.Tables())
	return b
}

// order has the kernel forward flow i, as a worker does.
func (b *bed) order(i int) desk.Order {
	b.Helper()
	tuple := packet.Tuple{Src: packet.Addr{10: 0xff, 11: 0xff, 12: 192, 14: 2}, Dst: packet.Addr{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 1}, Proto: packet.ProtoUDP, Sport: uint16(i), Dport: uint16(i >> 16)}
	k := flow.Key{KeyNH: pod, Tuple: tuple}
	slot, ok := b.flows.Insert(&k)
	if !ok {
		b.Fatal("the flow table is full")
	}
	e := b.flows.Entry(slot)
	e.Action, e.Flags = flow.ActionForward, flow.FlagForward|flow.FlagOffloaded
	o := desk.Order{Vif: pod, Via: pod, Life: b.flows.Cold(slot).Life, Flow: offload.Flow{Key: offload.Key{From: pod, Tuple: tuple}, To: tuple, NH: pod, Index: flow.Index(0, slot)}}
	b.desk.Orders.Push(o)
	b.Orders()
	return o
}

// second passes: the kernel forwards a packet of each flow that says so, and the
// worker reads at most n news.
func (b *bed) second(n int, forwards func(offload.Key) bool) {
	b.now += 1e9
	for k, r := range b.cache.Flows {
		if forwards(k) {
			r.Packets, r.Bytes = r.Packets+1, r.Bytes+100
		}
	}
	b.Pass(b.now)
	b.read(n)
}

func (b *bed) read(n int) {
	var news desk.News
	for ; n > 0 && b.desk.News.Pop(&news); n-- {
		b.heard[news.Index] += news.Packets
		if news.Out {
			b.out[news.Index]++
		}
	}
}

func all(offload.Key) bool  { return true }
func none(offload.Key) bool { return false }

// TestEveryFlowIsHeard: when there is more news than a desk holds, no flow waits for
// ever: its entry would be taken for idle.
func TestEveryFlowIsHeard(t *testing.T) {
	const flows = 4500 // a desk holds 4096
	b := newBed(t, 1<<15)
	for i := range flows {
		b.order(i)
	}
	const seconds = 12
	for range seconds {
		b.second(1<<20, all)
	}
	if len(b.heard) != flows {
		t.Errorf("%d of %d flows were heard of", len(b.heard), flows)
	}
	for range 12 {
		b.second(1<<20, none)
	}
	for index, packets := range b.heard {
		if packets != seconds {
			t.Fatalf("entry %#x: %d packets, want %d", index, packets, seconds)
		}
	}
	if c := b.Counts(); c.Packets != flows*seconds || c.Bytes != flows*seconds*100 {
		t.Errorf("in all %d packets, %d bytes", c.Packets, c.Bytes)
	}
}

// TestCrowded: in a cache that is nearly full, flows that have been idle make room;
// those that have just come, and those that are in use, stay.
func TestCrowded(t *testing.T) {
	b := newBed(t, 16)
	busy := b.order(0).Flow.Key
	for i := 1; i < 15; i++ {
		b.order(i)
	}
	b.second(100, none)
	if c := b.Counts(); c.Entries != 15 {
		t.Fatalf("%d of 15 flows are there after a second", c.Entries)
	}
	for range 20 {
		b.second(100, func(k offload.Key) bool { return k == busy })
	}
	if c := b.Counts(); c.Entries != 1 || b.cache.Flows[busy] == nil {
		t.Errorf("%d flows are left, want the busy one alone:\n%s", c.Entries, b.cache)
	}
	if len(b.out) != 14 {
		t.Errorf("workers heard of %d of 14 flows that they are out", len(b.out))
	}
}

// TestCountedAnew: an entry that somebody removed, and that was put again before a pass
// missed it, counts from nothing.
func TestCountedAnew(t *testing.T) {
	b := newBed(t, 16)
	o := b.order(0)
	for range 5 {
		b.second(100, all)
	}
	clear(b.cache.Flows)
	b.desk.Orders.Push(o)
	b.Orders()
	b.second(100, all)
	if got := b.heard[o.Flow.Index]; got != 6 {
		t.Errorf("%d packets were told, want 6", got)
	}
}

// again is another connection's entry in place of one that is over.
func (b *bed) again(o desk.Order) {
	b.Helper()
	b.flows.Delete(flow.Slot(o.Flow.Index))
	slot, _ := b.flows.Insert(&flow.Key{KeyNH: pod, Tuple: o.Flow.Tuple})
	if flow.Index(0, slot) != o.Flow.Index || b.flows.Cold(slot).Life == o.Life {
		b.Fatalf("slot %d, life %d, in place of %+v", slot, b.flows.Cold(slot).Life, o)
	}
	b.flows.Entry(slot).Action, b.flows.Entry(slot).Flags = flow.ActionForward, flow.FlagForward|flow.FlagOffloaded
}

// TestLostEnd: a connection whose ports are another's now, and whose end the offloader has not
// heard of, leaves the cache when the next is ordered. What it was is not told of the
// next, and what is said of it later does not end that.
func TestLostEnd(t *testing.T) {
	b := newBed(t, 16)
	old := b.order(0)
	for range 3 {
		b.second(100, all)
	}
	b.again(old)
	next := b.order(0)
	if r := b.cache.Flows[old.Flow.Key]; r == nil || r.Packets != 0 {
		t.Errorf("the entry of the next begins as %+v", r)
	}
	old.Delete = true
	b.desk.Orders.Push(old)
	b.Orders()
	b.second(0, all)
	if b.cache.Flows[old.Flow.Key] == nil {
		t.Error("the end of the first takes the next out")
	}
	var n desk.News
	if !b.desk.News.Pop(&n) || n.Life != next.Life || n.Packets != 1 {
		t.Errorf("told %+v", n)
	}
}

// TestLostOrder: where the order of the next is lost as well, a pass takes the first out.
func TestLostOrder(t *testing.T) {
	b := newBed(t, 16)
	old := b.order(0)
	b.second(100, all)
	b.again(old)
	b.second(0, all)
	if len(b.cache.Flows) != 0 {
		t.Errorf("left:\n%s", b.cache)
	}
	var n desk.News
	if !b.desk.News.Pop(&n) || n.Life != old.Life || n.Packets != 1 {
		t.Errorf("told %+v", n)
	}
}

// TestLastWords: a worker whose desk is full hears later that a flow is out, and what of
// it was forwarded.
func TestLastWords(t *testing.T) {
	const flows = 4500
	b := newBed(t, 1<<15)
	for i := range flows {
		b.order(i)
	}
	b.second(0, all)
	b.Sync(table.NewBuilder().Tables()) // all interfaces are gone
	for range 5 {
		b.read(1 << 20)
		b.Pass(b.now)
	}
	if len(b.out) != flows {
		t.Errorf("%d of %d flows are known to be out", len(b.out), flows)
	}
	for index, packets := range b.heard {
		if packets != 1 {
			t.Fatalf("entry %#x: %d packets, want 1", index, packets)
		}
	}
}

// TestUnsupported: a flow that the kernel cannot forward is refused, and nothing is wrong.
func TestUnsupported(t *testing.T) {
	b := newBed(t, 16)
	b.cache.Refuse = offload.ErrUnsupported
	o := b.order(0)
	b.read(10)
	if c := b.Counts(); c.Refused != 1 || b.out[o.Flow.Index] != 1 || len(b.Limits()) != 0 {
		t.Errorf("%+v, told %d times, limits %q", c, b.out[o.Flow.Index], b.Limits())
	}
}
