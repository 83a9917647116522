package handover

import (
	"sync/atomic"
	"testing"

	"github.com/vragent/vragent/fastpath/offload"
)

// kernel is its half: what it does with a packet of a pending flow.
type kernel struct {
	slot   *offload.Slot
	number uint16
	turn   uint16
}

// packet returns the frame sent up, nil when the kernel forwards it itself.
func (k *kernel) packet() []byte {
	if s := k.slot; uint16(s.Turn) == k.turn && s.Up != 0 && s.Up == s.Done {
		atomic.StoreUint32(&s.Active, uint32(k.turn))
		return nil
	}
	k.slot.Up++
	f := make([]byte, 14)
	offload.PutMark(f, k.number, k.turn)
	return f
}

func begin(t *testing.T, turns *Turns, slots []offload.Slot, flow uint32, now uint64) *kernel {
	t.Helper()
	n, turn, ok := turns.Begin(flow, now)
	if !ok {
		t.Fatal("no slot")
	}
	return &kernel{slot: &slots[n], number: n, turn: turn}
}

// The kernel begins when what it sent up has left, and not a packet before.
func TestTakesOver(t *testing.T) {
	slots := make([]offload.Slot, offload.MaxSlots)
	turns := New(slots, 3)
	k := begin(t, turns, slots, 9, 0)
	if turns.Idle() {
		t.Error("idle with a turn under way")
	}
	turns.Count(make([]byte, 14)) // sent up before the entry was there: bears no mark
	turns.Flush()
	a, b := k.packet(), k.packet()
	if a == nil || b == nil {
		t.Fatal("the kernel forwards while packets are under way")
	}
	turns.Count(a)
	if k.packet() == nil {
		t.Fatal("the kernel forwards before the first was flushed")
	}
	turns.Flush()
	if c := k.packet(); c == nil {
		t.Fatal("the kernel forwards with packets under way")
	}
	for range 3 {
		turns.Count(b)
	}
	turns.Flush()
	if _, how := turns.Next(1); how != None || turns.Idle() {
		t.Error("the turn ends before the kernel has begun")
	}
	if k.packet() != nil {
		t.Error("the kernel does not begin though nothing is under way")
	}
	if _, how := turns.Next(2); how != None || !turns.Idle() {
		t.Error("the slot is still in use")
	}
}

// A lost frame ends the turn in time, the next counts anew, and marks of the first
// are not counted for the second.
func TestFails(t *testing.T) {
	slots := make([]offload.Slot, offload.MaxSlots)
	turns := New(slots, 0)
	k := begin(t, turns, slots, 9, 0)
	k.packet() // lost
	late := k.packet()
	if _, how := turns.Next(patience); how != None {
		t.Error("no patience")
	}
	if flow, how := turns.Next(patience + 1); how != Busy || flow != 9 || !turns.Idle() {
		t.Error("the turn has not failed")
	}
	k2 := begin(t, turns, slots, 9, 0)
	if k2.number != k.number || k2.turn == k.turn {
		t.Fatal("expected another turn of the same slot")
	}
	f := k2.packet()
	if !turns.Count(late) {
		t.Error("a mark is not seen")
	}
	turns.Flush()
	if k2.packet() == nil {
		t.Error("a mark of another turn counts")
	}
	turns.Count(f)
	turns.Count(f)
	turns.Flush()
	if k2.packet() != nil {
		t.Error("the second turn does not end")
	}
}

func TestSlots(t *testing.T) {
	slots := make([]offload.Slot, offload.MaxSlots)
	a, b := New(slots, 0), New(slots, 1)
	seen := map[uint16]bool{0: true}
	for _, turns := range []*Turns{a, b} {
		for flow := range uint32(Each) {
			n, _, ok := turns.Begin(flow, 0)
			if !ok || seen[n] {
				t.Fatalf("slot %d, %v", n, ok)
			}
			seen[n] = true
		}
		if _, _, ok := turns.Begin(Each, 0); ok {
			t.Error("more slots than there are")
		}
	}
	f := make([]byte, 14)
	offload.PutMark(f, b.first, 1)
	if a.Count(f); a.dirty != 0 {
		t.Error("counts another worker's mark")
	}
	if _, _, ok := New(slots[:10], 0).Begin(1, 0); ok {
		t.Error("uses slots that are not there")
	}
	a.End(5)
	if n, _, ok := a.Begin(Each, 0); !ok || n != a.first+5 {
		t.Error("the slot of a turn that was given up is not free")
	}
}

// A flow has one turn: when another begins, or its entry is another's, the end of the
// first concerns nobody, and what was counted in it is not told any more.
func TestOneTurn(t *testing.T) {
	slots := make([]offload.Slot, offload.MaxSlots)
	turns := New(slots, 0)
	k := begin(t, turns, slots, 9, 0)
	turns.Count(k.packet())
	again := begin(t, turns, slots, 9, patience)
	turns.Flush()
	if again.slot.Done != 0 {
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

// Why a turn has failed: no packet came, none was counted by the kernel, or some were.
func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		missed, counted bool
		want            Outcome
	}{{false, false, Rested}, {true, false, Left}, {false, true, Busy}, {true, true, Busy}} {
		slots := make([]offload.Slot, offload.MaxSlots)
		turns := New(slots, 0)
		turns.Begin(8, 0)
		k := begin(t, turns, slots, 9, 0)
		turns.End(8)
		if c.missed {
			turns.Miss(9)
		}
		turns.Miss(10)
		if c.counted {
			k.packet()
		}
		if flow, how := turns.Next(patience + 1); flow != 9 || how != c.want {
			t.Errorf("%+v: flow %d, outcome %d", c, flow, how)
		}
		turns.Begin(9, 0)
		if _, how := turns.Next(patience + 1); how != Rested {
			t.Errorf("%+v: the next turn begins with what the last saw: %d", c, how)
		}
	}
}
