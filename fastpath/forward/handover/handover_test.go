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
	if _, failed := turns.Next(1); failed || turns.Idle() {
		t.Error("the turn ends before the kernel has begun")
	}
	if k.packet() != nil {
		t.Error("the kernel does not begin though nothing is under way")
	}
	if _, failed := turns.Next(2); failed || !turns.Idle() {
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
	if _, failed := turns.Next(patience); failed {
		t.Error("no patience")
	}
	if flow, failed := turns.Next(patience + 1); !failed || flow != 9 || !turns.Idle() {
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
		for range Each {
			n, _, ok := turns.Begin(1, 0)
			if !ok || seen[n] {
				t.Fatalf("slot %d, %v", n, ok)
			}
			seen[n] = true
		}
		if _, _, ok := turns.Begin(1, 0); ok {
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
	a.Cancel(5)
	if n, _, ok := a.Begin(1, 0); !ok || n != 5 {
		t.Error("a cancelled slot is not free")
	}
}
