package offload

import (
	"testing"
	"unsafe"

	"github.com/vragent/vragent/fastpath/packet"
)

// TestSlot: a turn is taken when the kernel says so of that turn, and of no other.
func TestSlot(t *testing.T) {
	if size := unsafe.Sizeof(Slot{}); size != 64 {
		t.Fatalf("a slot has %d bytes; cache.h knows 64", size)
	}
	var s Slot
	first := s.Begin()
	s.Up += 3 // the kernel
	s.Sent(2)
	if s.Taken() || s.Done != 2 {
		t.Errorf("taken too early: %+v", s)
	}
	second := s.Begin()
	if first == 0 || second == 0 || first == second {
		t.Errorf("turns %d, %d", first, second)
	}
	if s.Up != 0 || s.Done != 0 {
		t.Errorf("a turn begins with %+v", s)
	}
	s.Active = uint32(first) // late
	if s.Taken() {
		t.Error("taken by the turn before")
	}
	if s.Active = uint32(second); !s.Taken() {
		t.Error("not taken")
	}
	s.Turn = 0xffff
	if turn := s.Begin(); turn != 1 {
		t.Errorf("after the last turn comes %d", turn)
	}
}

func TestMark(t *testing.T) {
	f := make([]byte, 14)
	if slot, turn := Mark(f); slot != 0 || turn != 0 {
		t.Errorf("no mark reads as %d, %d", slot, turn)
	}
	PutMark(f, 0x1234, 0x5678)
	if slot, turn := Mark(f); slot != 0x1234 || turn != 0x5678 {
		t.Errorf("mark reads as %#x, %#x", slot, turn)
	}
}

func TestKeyString(t *testing.T) {
	k := Key{From: 7, Tuple: packet.Tuple{Sport: 1, Dport: 2, Proto: packet.ProtoUDP}}
	if got := k.String(); got != "vif 7 [::]:1 > [::]:2 UDP" {
		t.Error(got)
	}
	k.From = FromLabel | 16
	if got := k.String(); got != "label 16 [::]:1 > [::]:2 UDP" {
		t.Error(got)
	}
}
