package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/packet"
)

func TestMemorySize(t *testing.T) {
	for entries := 1; entries < 5000; entries++ {
		tab, _ := newTable(t, entries)
		if tab.Cap() != entries {
			t.Fatalf("memory for %d entries holds %d", entries, tab.Cap())
		}
		if tab.Slots() < int(tab.homes)+window-1 || tab.Slots() > maxCells {
			t.Fatalf("%d slots for %d entries", tab.Slots(), entries)
		}
	}
	// What the documentation promises.
	if mib := MemorySize(262_144) * 10 >> 20; mib != 427 {
		t.Errorf("262,144 entries take %d/10 MiB", mib)
	}
	if mib := MemorySize(2_097_152) >> 20; mib != 341 {
		t.Errorf("2,097,152 entries take %d MiB", mib)
	}
}

func TestBadMemory(t *testing.T) {
	for _, n := range []int{0, 10, headerSize, MemorySize(1) - cellSize} {
		if _, err := New(make([]byte, n), 0, seed); err == nil {
			t.Errorf("made a table of %d bytes", n)
		}
		if _, err := Adopt(make([]byte, n), 0); err == nil {
			t.Errorf("adopted %d bytes", n)
		}
	}
	if _, err := New(make([]byte, MemorySize(10)+1)[1:], 0, seed); err == nil || !strings.Contains(err.Error(), "cache line") {
		t.Errorf("made a table across cache lines: %v", err)
	}
}

// Used memory becomes an empty table again.
func TestNewOnUsedMemory(t *testing.T) {
	tab, mem := newTable(t, 50)
	for n := range uint32(50) {
		insert(t, tab, key(n))
	}
	tab, err := New(mem, 4, seed+1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, tab, nil)
	again, err := Adopt(mem, 4)
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, nil)
}

// A successor refuses what it does not understand and says why.
func TestAdoptRefuses(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*header)
		says   string
	}{
		{"zero memory", func(h *header) { *h = header{} }, "holds no flow table"},
		{"other magic", func(h *header) { h.magic++ }, "holds no flow table"},
		{"newer layout", func(h *header) { h.version = 2 }, "layout version 2 with 128-byte cells, this program knows version 1 with 128"},
		{"other cells", func(h *header) { h.cellSize = 64 }, "layout version 1 with 64-byte cells"},
		{"other window", func(h *header) { h.window = 64 }, "layout"},
		{"other size", func(h *header) { h.cells-- }, "cells, the memory has"},
		{"other worker", func(h *header) { h.worker = 1 }, "belongs to worker 1, not 3"},
	} {
		_, mem := newTable(t, 50)
		c.change((*header)(unsafe.Pointer(&mem[0])))
		if _, err := Adopt(mem, 3); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error is %v, want %q", c.what, err, c.says)
		}
	}
}

// A successor keeps what lookups will find and what was decided, and nothing else.
func TestAdoptCleans(t *testing.T) {
	tab, mem := newTable(t, 1000)
	kept := map[Key]uint32{}
	for n := range uint32(500) {
		k := key(n)
		kept[k] = insert(t, tab, k)
	}
	spoil := func(n uint32, how func(e *Entry)) {
		k := key(n)
		how(tab.Entry(kept[k]))
		delete(kept, k)
	}
	spoil(1, func(e *Entry) { e.Action = ActionNone })
	spoil(2, func(e *Entry) { e.Action = 77 })
	spoil(3, func(e *Entry) { e.Used = 2 })
	spoil(4, func(e *Entry) { e.Src[3]++ }) // its home is elsewhere
	spoil(5, func(e *Entry) { e.Used = 0 })
	slot := kept[key(6)]
	delete(kept, tab.Entry(slot+1).Key())
	tab.cells[slot+1] = *tab.Entry(slot) // twice
	again, err := Adopt(mem, 3)
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, kept)
	for n := range uint32(400) { // and works on
		k := key(10_000 + n)
		kept[k] = insert(t, again, k)
	}
	same(t, again, kept)
}

// FuzzAdopt hands a successor a table with bytes changed: each three of patches
// are an offset and a value.
func FuzzAdopt(f *testing.F) {
	for n := range uint64(20) {
		r := rand.New(rand.NewPCG(n, 2))
		patches := make([]byte, 9*n)
		for i := range patches {
			patches[i] = byte(r.Uint32())
		}
		f.Add(patches)
	}
	f.Fuzz(func(t *testing.T, patches []byte) {
		old, mem := newTable(t, 20)
		for i := range uint32(20) {
			insert(t, old, key(i))
		}
		cells := mem[headerSize:][:32*cellSize] // where the entries are
		for ; len(patches) >= 3; patches = patches[3:] {
			cells[int(binary.LittleEndian.Uint16(patches))%len(cells)] = patches[2]
		}
		tab, err := Adopt(mem, 3)
		if err != nil {
			t.Fatal(err)
		}
		twin := map[Key]uint32{}
		for slot := range uint32(tab.Slots()) {
			if e := tab.Entry(slot); e.Used != slotEmpty {
				twin[e.Key()] = slot
			}
		}
		same(t, tab, twin)
		for slot := range uint32(tab.Slots()) {
			tab.Delete(slot)
		}
		same(t, tab, nil)
	})
}

// Other goroutines read while the worker works: what they get is one entry, not
// parts of two. Run it with -race.
func TestSnapshotWhileWorking(t *testing.T) {
	mem, _, err := store.Private().Memory("", MemorySize(64)) // off the heap, where -race looks
	if err != nil {
		t.Fatal(err)
	}
	defer store.Free(mem)
	tab, err := New(mem, 0, seed)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	go func() {
		n := 0
		for round := 0; round < 200 || n < 1000 && round < 100_000; round++ {
			for slot := range uint32(tab.Slots()) {
				if e, ok := tab.Snapshot(slot); ok {
					n++
					whole(t, &e)
				}
			}
		}
		done <- n
	}()
	r := rand.New(rand.NewPCG(3, 4))
	for {
		select {
		case n := <-done:
			if n == 0 {
				t.Error("nothing was ever seen")
			}
			return
		default:
		}
		k := key(r.Uint32N(128))
		if slot, ok := tab.Lookup(&k); ok {
			if e := tab.Entry(slot); r.IntN(2) == 0 {
				e.Packets++
			} else {
				tab.Delete(slot)
			}
		} else if slot, ok := tab.Insert(&k); ok {
			tab.Entry(slot).Action = ActionForward
		}
	}
}

// whole fails unless e is an entry that key made.
func whole(t *testing.T, e *Entry) {
	k := e.Key()
	n := uint32(k.Sport)
	if k != key(n) || e.Used != slotUsed || e.Proto != packet.ProtoTCP {
		t.Errorf("torn: %+v, want %+v", k, key(n))
	}
}
