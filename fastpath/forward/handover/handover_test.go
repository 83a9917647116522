package handover

import (
	"testing"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/fake"
)

// kernel is its half: what it does with packets of a pending flow.
type kernel struct {
	*fake.Cache
	flow  offload.Flow
	turns *Turns
	now   uint64
}

func begin(t *testing.T, c *fake.Cache, turns *Turns, flow uint32, now uint64) *kernel {
	t.Helper()
	m, ok := turns.Begin(flow, now)
	if !ok {
		t.Fatal("no slot")
	}
	k := &kernel{Cache: c, turns: turns, flow: offload.Flow{NH: 1, Handover: m.Slot, Turn: m.Turn}}
	c.NextHops[1] = offload.NextHop{ID: 1}
	if err := c.Put(&k.flow); err != nil {
		t.Fatal(err)
	}
	return k
}

// packet shows the kernel a packet. It returns the frame sent up, nil when the kernel forwards it
// itself.
func (k *kernel) packet() []byte {
	f := make([]byte, 14)
	if k.Forward(k.flow.Key, 1, f) != nil {
		return nil
	}
	return f
}

// worked is the worker's way with a frame: it takes note, and sends it down.
func (k *kernel) worked(f []byte) {
	if m := offload.MarkOf(f); k.turns.Up(m, k.now) {
		k.turns.Down(m)
		source := m.Down(5)
		copy(f[6:], source[:])
	}
}

// arrives is a frame that comes down, or, nil, the fences.
func (k *kernel) arrives(f []byte) {
	if f != nil {
		k.Down(f)
		return
	}
	for k.turns.Fenced() {
		fence, b := k.turns.Fence(), make([]byte, offload.FenceLen)
		fence.Put(b)
		k.Down(b)
	}
}

// The kernel begins when what it sent up has come down and a fence behind it, and not a packet before.
func TestTakesOver(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 3)
	k := begin(t, c, turns, 9, 0)
	if turns.Idle() {
		t.Error("idle with a turn under way")
	}
	if turns.Up(offload.MarkOf(make([]byte, 14)), 0) || turns.Fenced() { // sent up before the entry was there
		t.Error("counts a frame without mark")
	}
	f := k.packet()
	for i, step := range []func(){
		func() { k.worked(f) },
		func() { k.arrives(f) },
		func() { k.arrives(nil) },
	} {
		if s := c.Slots[k.flow.Handover]; s.Done == uint64(k.flow.Turn)<<32|s.Up {
			t.Errorf("before step %d, the kernel would forward while a packet is under way", i)
		}
		step()
	}
	if k.packet() != nil {
		t.Error("the kernel does not begin though nothing is under way")
	}
}

// finish brings all of frames down, and the fences.
func (k *kernel) finish(frames ...[]byte) {
	for _, f := range frames {
		k.worked(f)
		k.arrives(f)
	}
	k.arrives(nil)
}

// A frame that is lost above, or leaves otherwise, does not hinder; one that is lost on its way does.
func TestCounts(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 0)
	k := begin(t, c, turns, 9, 0)
	a, b, dropped := k.packet(), k.packet(), k.packet()
	turns.Up(offload.MarkOf(dropped), 0)
	k.finish(a)
	if f := k.packet(); f == nil {
		t.Fatal("one is under way, and the kernel begins")
	} else {
		k.finish(b, f)
	}
	if _, how := turns.Next(1); how != None || turns.Idle() {
		t.Error("the turn ends before the kernel has begun")
	}
	if k.packet() != nil {
		t.Error("the kernel does not begin though nothing is under way")
	}
	if _, how := turns.Next(2); how != None || !turns.Idle() {
		t.Error("the slot is still in use")
	}

	k = begin(t, c, turns, 9, 10)
	lost := k.packet()
	k.worked(lost)
	k.finish(k.packet())
	for range 3 {
		f := k.packet()
		if f == nil {
			t.Fatal("a lost frame is not missed")
		}
		k.finish(f)
	}
}

// A turn that comes to nothing ends in time, the next counts anew, and marks of the first
// are not counted for the second.
func TestFails(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 0)
	k := begin(t, c, turns, 9, 0)
	k.packet() // lost
	late, later := k.packet(), k.packet()
	k.worked(later)
	if _, how := turns.Next(patience); how != None {
		t.Error("no patience")
	}
	if flow, how := turns.Next(patience + 1); how != Busy || flow != 9 || !turns.Idle() || turns.Fenced() {
		t.Error("the turn has not failed")
	}
	k2 := begin(t, c, turns, 9, 0)
	if k2.flow.Handover != k.flow.Handover || k2.flow.Turn == k.flow.Turn {
		t.Fatal("expected another turn of the same slot")
	}
	f := k2.packet()
	k2.worked(late)
	k2.arrives(later)
	k2.arrives(nil)
	if g := k2.packet(); g == nil {
		t.Error("a mark of another turn counts")
	} else {
		k2.finish(f, g)
	}
	if k2.packet() != nil {
		t.Error("the second turn does not end")
	}
}

// A turn that is forced ends with its first packet, whatever is under way; if none comes, later
// than others.
func TestForce(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 0)
	k := begin(t, c, turns, 9, 0)
	k.packet()
	k = begin(t, c, turns, 9, 0)
	turns.Force(offload.Mark{Slot: k.flow.Handover, Turn: k.flow.Turn}, 5*patience)
	if _, how := turns.Next(5 * patience); how != None || turns.Idle() {
		t.Error("over before its time")
	}
	if k.packet() != nil {
		t.Error("the kernel does not begin")
	}
	if _, how := turns.Next(5*patience + 1); how != None || !turns.Idle() {
		t.Error("not over when the kernel has begun")
	}
	k = begin(t, c, turns, 9, 0)
	turns.Force(offload.Mark{Slot: k.flow.Handover, Turn: k.flow.Turn}, 5*patience)
	if flow, how := turns.Next(5*patience + 1); flow != 9 || how != Rested {
		t.Errorf("without packets: flow %d, outcome %d", flow, how)
	}
}

// What was ordered in a turn that has been given up never makes the kernel forward: not what it
// has, nor what comes late.
func TestVoid(t *testing.T) {
	for name, up := range map[string]func(*kernel, uint64){
		"ended": func(k *kernel, _ uint64) { k.turns.End(9) },
		"failed": func(k *kernel, now uint64) {
			k.turns.Miss(9)
			k.turns.Next(now)
		},
	} {
		for _, force := range []bool{false, true} {
			c := fake.New(8)
			turns := New(c.Slots, 0)
			k := begin(t, c, turns, 9, 0)
			if force {
				turns.Force(offload.Mark{Slot: k.flow.Handover, Turn: k.flow.Turn}, patience)
			} else {
				k.finish(k.packet()) // all that was under way has passed: it may begin
			}
			up(k, patience+1)
			if k.packet() == nil {
				t.Errorf("%s, forced %v: the kernel begins", name, force)
			}
			if err := c.Put(&k.flow); err != nil {
				t.Fatal(err)
			}
			if k.packet() == nil {
				t.Errorf("%s, forced %v: the kernel begins when the order is late", name, force)
			}
		}
	}
}

func TestSlots(t *testing.T) {
	slots := make([]offload.Slot, offload.MaxSlots)
	a, b := New(slots, 0), New(slots, 1)
	seen := map[uint16]bool{0: true}
	var last offload.Mark
	for _, turns := range []*Turns{a, b} {
		for flow := range uint32(Each) {
			m, ok := turns.Begin(flow, 0)
			if !ok || seen[m.Slot] {
				t.Fatalf("slot %d, %v", m.Slot, ok)
			}
			seen[m.Slot], last = true, m
		}
		if _, ok := turns.Begin(Each, 0); ok {
			t.Error("more slots than there are")
		}
	}
	if a.Up(last, 0) || a.Fenced() {
		t.Error("counts another worker's mark")
	}
	if _, ok := New(slots[:10], 0).Begin(1, 0); ok {
		t.Error("uses slots that are not there")
	}
	a.End(5)
	if m, ok := a.Begin(Each, 0); !ok || m.Slot != a.first+5 {
		t.Error("the slot of a turn that was given up is not free")
	}
}

// A flow has one turn: when another begins, or its entry is another's, the end of the
// first concerns nobody, and what was counted in it is not told any more.
func TestOneTurn(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 0)
	k := begin(t, c, turns, 9, 0)
	f := k.packet()
	k.worked(f)
	again := begin(t, c, turns, 9, patience)
	k.arrives(f)
	k.arrives(nil)
	if s := c.Slots[again.flow.Handover]; s.Done != 0 || s.Passed != 0 {
		t.Error("a frame of the turn before counts")
	}
	if _, how := turns.Next(patience + 1); how != None {
		t.Error("the turn before has failed, which nobody asked for any more")
	}
	turns.End(9)
	if _, how := turns.Next(3 * patience); how != None || !turns.Idle() {
		t.Error("a turn that was given up has failed")
	}
}

// Why a turn has failed: no packet was counted by the kernel, or some were. Where none came
// it has not: it rests.
func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		missed, counted bool
		want            Outcome
	}{{false, false, None}, {true, false, Left}, {false, true, Busy}, {true, true, Busy}} {
		cache := fake.New(8)
		turns := New(cache.Slots, 0)
		turns.Begin(8, 0)
		k := begin(t, cache, turns, 9, 0)
		turns.End(8)
		if c.missed {
			turns.Miss(9)
		}
		turns.Miss(10)
		if c.counted {
			k.packet()
		}
		if flow, how := turns.Next(patience + 1); how != c.want || how != None && flow != 9 {
			t.Errorf("%+v: flow %d, outcome %d", c, flow, how)
		}
		turns.Begin(9, 0)
		if _, how := turns.Next(patience + 1); how != None || !turns.Idle() {
			t.Errorf("%+v: the next turn begins with what the last saw: %d", c, how)
		}
	}
}

// The turn of a slow flow waits for its packets: the first goes up, the next one is the
// kernel's, however long both take to come. One that gets lost on its way has it fail as others.
func TestSlowFlow(t *testing.T) {
	for _, lost := range []bool{false, true} {
		c := fake.New(8)
		turns := New(c.Slots, 0)
		k := begin(t, c, turns, 9, 0)
		rests := func() {
			t.Helper()
			if _, how := turns.Next(k.now); how != None || turns.Idle() {
				t.Errorf("outcome %d, idle %v before patience ends", how, turns.Idle())
			}
			if k.now += patience + 1; !lost || !c.Slots[k.flow.Handover].Met() {
				if _, how := turns.Next(k.now); how != None || !turns.Idle() {
					t.Errorf("outcome %d, idle %v for a flow that rests", how, turns.Idle())
				}
			}
			k.now += 100 * patience
		}
		rests()
		f := k.packet()
		if f == nil {
			t.Fatal("the kernel takes the first, which may overtake one before its entry was there")
		}
		k.worked(f)
		if !lost {
			k.arrives(f)
		}
		k.arrives(nil)
		rests()
		if f = k.packet(); lost != (f != nil) {
			t.Fatalf("lost %v; the kernel forwards the next: %v", lost, f == nil)
		}
		if flow, how := turns.Next(k.now); lost != (how == Busy && flow == 9) {
			t.Errorf("lost %v: outcome %d of flow %d", lost, how, flow)
		}
	}
}

// There is always room for flows that do not rest: some of those that do give way, who rests for
// longest first, when it has been long enough. Those that were taken over are not asked.
func TestRestYields(t *testing.T) {
	c := fake.New(2 * Each)
	turns := New(c.Slots, 0)
	for flow := range uint32(Each) {
		turns.Begin(100+flow, uint64(Each-flow))
	}
	if _, ok := turns.Begin(1, patience); ok {
		t.Error("a turn ends before its patience")
	}
	now := uint64(patience + Each + 1)
	for flow := uint32(mostRest); flow < Each; flow++ {
		if got, how := turns.Next(now); how != Left || got != 100+flow {
			t.Fatalf("%d turns rest; outcome %d of flow %d", mostRest, how, got)
		}
	}
	if _, how := turns.Next(now); how != None || !turns.Idle() {
		t.Error("the others do not rest")
	}
	if flow, ok := turns.Yield(patience + yields); ok {
		t.Errorf("flow %d yields before its time", flow)
	}
	now += yields
	taken := &turns.slots[turns.first]
	taken.Active = taken.Turn
	if flow, ok := turns.Yield(now); ok {
		t.Errorf("flow %d yields though there is room", flow)
	}
	m, _ := turns.Begin(7, now)
	now += patience + 1
	turns.Next(now)
	if flow, ok := turns.Yield(now); !ok || flow != 100+mostRest-1 {
		t.Errorf("flow %d yields (%v), want that which rests for longest", flow, ok)
	}
	if _, ok := turns.Yield(now); ok || !turns.Up(m, now) {
		t.Error("more yield than must")
	}
}

// What comes up without a mark in the turn of a flow that rests, the kernel leaves to the worker,
// also when it had marked some before.
func TestRestMissed(t *testing.T) {
	c := fake.New(8)
	turns := New(c.Slots, 0)
	k := begin(t, c, turns, 9, 0)
	turns.Miss(9) // on its way before the entry was there
	k.finish(k.packet())
	if _, how := turns.Next(patience + 1); how != None || !turns.Idle() {
		t.Fatal("does not rest")
	}
	turns.Miss(9)
	if flow, how := turns.Next(2 * patience); how != Left || flow != 9 {
		t.Errorf("outcome %d of flow %d", how, flow)
	}
}
