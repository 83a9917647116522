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
	if s.Taken() {
		t.Errorf("taken too early: %+v", s)
	}
	second := s.Begin()
	if first == 0 || second == 0 || first == second {
		t.Errorf("turns %d, %d", first, second)
	}
	if s.Up != 0 {
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
	if m := MarkOf(f); m != (Mark{}) {
		t.Errorf("no mark reads as %+v", m)
	}
	want := Mark{0x123, 0x5678}
	PutMark(f, want)
	if m := MarkOf(f); m != want {
		t.Errorf("mark reads as %+v", m)
	}
	source := want.Down(0xabcd)
	vif, m, ok := ParseDown(source[:])
	if want.Turn &= TurnBits; vif != 0xabcd || m != want || !ok || source[0]&3 != 2 {
		t.Errorf("down it is %+v, to %#x: % x", m, vif, source)
	}
	if _, _, ok := ParseDown([]byte{2, 0x56, 0, 0, 0, 1}); ok {
		t.Error("a frame without a mark reads as one with")
	}
}

func TestFence(t *testing.T) {
	want := Fence{Mark: Mark{0x123, 0x5678}, Down: 0x01020304, Up: 0xa0b0c0d0}
	f := make([]byte, FenceLen)
	want.Put(f)
	if got, ok := ParseFence(f); got != want || !ok {
		t.Errorf("reads as %+v %v", got, ok)
	}
	if _, _, ok := ParseDown(f[6:]); ok {
		t.Error("reads as a marked frame")
	}
	if _, ok := ParseFence(make([]byte, FenceLen)); ok {
		t.Error("no fence reads as one")
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
