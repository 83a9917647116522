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
	for entries := 1; entries < 5000; entries += 7 {
		tab, _ := newTable(t, entries)
		if tab.Cap() != (Size{entries, entries}) {
			t.Fatalf("memory for %d entries holds %v", entries, tab.Cap())
		}
		if want := int(tab.four.homes+tab.six.homes) + 2*(window-1); tab.Slots() != want {
			t.Fatalf("%d slots for %d entries, want %d", tab.Slots(), entries, want)
		}
	}
	// What the documentation promises.
	const mib = 1 << 20
	for _, c := range []struct {
		size Size
		most int
	}{{Size{2 << 20, 64}, 256e6}, {Size{64, 2 << 20}, 512e6}, {Size{2 << 20, 64}, 235 * mib}, {Size{64, 2 << 20}, 406 * mib}, {Size{1 << 18, 1 << 16}, 43 * mib}} {
		if n := MemorySize(c.size); n > c.most || n < c.most*3/4 {
			t.Errorf("%v entries take %d MiB, want at most %d", c.size, n/mib, c.most/mib)
		}
	}
}

func TestBadMemory(t *testing.T) {
	size := Size{10, 10}
	for _, n := range []int{0, 10, headerSize, MemorySize(size) - 1, MemorySize(size) + 64} {
		if _, err := New(make([]byte, n), size, 0, seed); err == nil {
			t.Errorf("made a table of %d bytes", n)
		}
		if _, err := Adopt(make([]byte, n), size, 0); err == nil {
			t.Errorf("adopted %d bytes", n)
		}
	}
	for _, size := range []Size{{0, 10}, {10, 0}, {maxCells, 10}, {10, maxCells}} {
		if _, err := New(make([]byte, 1<<16), size, 0, seed); err == nil || !strings.Contains(err.Error(), "entries") {
			t.Errorf("made a table of %v: %v", size, err)
		}
	}
	if _, err := New(make([]byte, MemorySize(size)+1)[1:], size, 0, seed); err == nil || !strings.Contains(err.Error(), "cache line") {
		t.Errorf("made a table across cache lines: %v", err)
	}
}

// Used memory becomes an empty table again.
func TestNewOnUsedMemory(t *testing.T) {
	tab, mem := newTable(t, 50)
	for n := range uint32(50) {
		insert(t, tab, key(n))
	}
	tab, err := New(mem, Size{50, 50}, 4, seed+1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, tab, nil)
	again, err := Adopt(mem, Size{50, 50}, 4)
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
		{"older layout", func(h *header) { h.version, h.lineSize = 1, 128 }, "layout version 1 with 128-byte cells, this program knows version 3 with 64"},
		{"newer layout", func(h *header) { h.version = 4 }, "layout version 4 with 64-byte cells"},
		{"other window", func(h *header) { h.window = 64 }, "layout"},
		{"other size", func(h *header) { h.four-- }, "cells, the memory has"},
		{"other size of IPv6", func(h *header) { h.six-- }, "cells, the memory has"},
		{"other worker", func(h *header) { h.worker = 1 }, "belongs to worker 1, not 3"},
	} {
		_, mem := newTable(t, 50)
		c.change((*header)(unsafe.Pointer(&mem[0])))
		if _, err := Adopt(mem, Size{50, 50}, 3); err == nil || !strings.Contains(err.Error(), c.says) {
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
	spoil(4, func(e *Entry) { e.ends++ }) // its home is elsewhere
	spoil(6, func(e *Entry) { e.Used = 0 })
	spoil(5, func(e *Entry) { e.ends++ }) // IPv6: not the hash of its addresses
	spoil(10, func(e *Entry) { tab.six.wide(kept[key(10)]).src[3]++ })
	slot := kept[key(7)]
	delete(kept, tab.Key(slot+1))
	*tab.Entry(slot + 1) = *tab.Entry(slot) // twice
	again, err := Adopt(mem, Size{1000, 1000}, 3)
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
		four, six := mem[headerSize:][:32*lineSize], mem[headerSize+cells(20)*lineSize:][:64*lineSize] // where the entries are
		for ; len(patches) >= 3; patches = patches[3:] {
			into := four
			if patches[0]&1 != 0 {
				into = six
			}
			into[int(binary.LittleEndian.Uint16(patches)/2)%len(into)] = patches[2]
		}
		tab, err := Adopt(mem, Size{20, 20}, 3)
		if err != nil {
			t.Fatal(err)
		}
		twin := map[Key]uint32{}
		for slot := range uint32(tab.Slots()) {
			if e := tab.Entry(slot); e.Used != slotEmpty {
				twin[tab.Key(slot)] = slot
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
	mem, _, err := store.Private().Memory("", MemorySize(Size{64, 64})) // off the heap, where -race looks
	if err != nil {
		t.Fatal(err)
	}
	defer store.Free(mem)
	tab, err := New(mem, Size{64, 64}, 0, seed)
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
				tab.Count(slot, e, 1, 60)
			} else {
				tab.Delete(slot)
			}
		} else if slot, ok := tab.Insert(&k); ok {
			tab.Entry(slot).Action = ActionForward
		}
	}
}

// whole fails unless e is an entry that key made.
func whole(t *testing.T, e *Record) {
	k := e.Key()
	n := uint32(k.Sport)
	if k != key(n) || e.Proto != packet.ProtoTCP {
		t.Errorf("torn: %+v, want %+v", k, key(n))
	}
}
