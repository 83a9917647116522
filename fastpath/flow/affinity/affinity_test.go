package affinity

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

func client(n int) packet.Addr {
	return packet.AddrFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
}

func want(t *testing.T, tab *Table, tag, member, seen uint64) {
	t.Helper()
	if m, s, ok := tab.Find(tag); !ok || m != member || s != seen {
		t.Errorf("client %#x: member %d since %d, %v; want %d since %d", tag, m, s, ok, member, seen)
	}
}

func TestTable(t *testing.T) {
	tab := New()
	a, b := Tag(client(1), 5), Tag(client(1), 6)
	if _, _, ok := tab.Find(a); ok {
		t.Error("an empty table knows a client")
	}
	tab.Put(a, 100, 1000)
	tab.Put(b, 200, 1001)
	want(t, tab, a, 100, 1000)
	tab.Put(a, 100, 2000) // again
	want(t, tab, a, 100, 2000)
	tab.Put(a, 101, 3000) // another
	want(t, tab, a, 101, 3000)
	want(t, tab, b, 200, 1001)
	if Anew(a, 1) == Anew(a, 2) || Anew(a, 1) != Anew(a, 1) {
		t.Error("later choices do not depend on the time")
	}
}

// A full bucket loses who came longest ago; the table holds nearly what it is made for.
func TestBounded(t *testing.T) {
	tab := New()
	now := uint64(0)
	const clients = 2 * Clients
	for n := range clients {
		now++
		tab.Put(Tag(client(n), 1), uint64(n), now)
	}
	known := 0
	for n := range clients {
		if m, _, ok := tab.Find(Tag(client(n), 1)); ok {
			known++
			if m != uint64(n) {
				t.Fatalf("client %d has member %d", n, m)
			}
		}
	}
	if known < Clients*99/100 || known > Clients {
		t.Errorf("%d clients are known, want about %d", known, Clients)
	}
	last := 0
	for n := clients - Clients/2; n < clients; n++ {
		if _, _, ok := tab.Find(Tag(client(n), 1)); ok {
			last++
		}
	}
	if last < Clients/2*98/100 {
		t.Errorf("of the last %d clients %d are known", Clients/2, last)
	}
}

// First choices spread evenly over composites and clients that differ by little.
func TestTagSpreads(t *testing.T) {
	const members = 7
	for name, tag := range map[string]func(int) uint64{
		"clients":    func(n int) uint64 { return Tag(client(n), 3) },
		"composites": func(n int) uint64 { return Tag(client(3), uint32(n)) },
		"times":      func(n int) uint64 { return Anew(Tag(client(3), 3), uint64(n)) },
	} {
		var share [members]int
		for n := range 70_000 {
			share[tag(n)%members]++
		}
		for m, n := range share {
			if n < 9500 || n > 10_500 {
				t.Errorf("%s: member %d has %d of 70000", name, m, n)
			}
		}
	}
}

func words(n int) []byte { return make([]byte, n) }

// A successor knows what the predecessor knew, but for what that was writing.
func TestOpen(t *testing.T) {
	mem := words(Size)
	tab, kept, err := Open(mem)
	if err != nil || kept {
		t.Fatalf("kept %v, %v", kept, err)
	}
	a, b := Tag(client(1), 5), Tag(client(2), 5)
	tab.Put(a, 100, 1000)
	tab.Put(b, 200, 1000)
	tab.place(b).seen.Store(writing)
	if tab.Put(b, 201, 1001); tab.place(b).seen.Load() != writing {
		t.Error("two write at once")
	}
	tab, kept, err = Open(mem)
	if err != nil || !kept {
		t.Fatalf("kept %v, %v", kept, err)
	}
	want(t, tab, a, 100, 1000)
	if _, _, ok := tab.Find(b); ok {
		t.Error("half of a write is believed")
	}
	tab.Put(b, 202, 1002)
	want(t, tab, b, 202, 1002)

	mem[4]++ // another version
	if tab, kept, err = Open(mem); err != nil || kept {
		t.Errorf("another layout is kept: %v, %v", kept, err)
	}
	if _, _, ok := tab.Find(a); ok {
		t.Error("another layout is believed")
	}
	for _, n := range []int{8, Size - 8, Size + 8} {
		if _, _, err := Open(words(n)); err == nil {
			t.Errorf("opened %d bytes", n)
		}
	}
	if _, _, err := Open(words(Size + 8)[1 : Size+1]); err == nil {
		t.Error("opened what is not aligned")
	}
}

// Workers write and read at once: a client's member is always one that somebody chose
// for that client. Run it with -race.
func TestWorkersAtOnce(t *testing.T) {
	tab := New()
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w, 1))
			for now := range uint64(50_000) {
				n := r.IntN(64)
				tag := Tag(client(n), 9)&^(0x1fff<<40) | 7<<40 // all in one bucket
				if m, _, ok := tab.Find(tag); ok && m>>8 != uint64(n) {
					t.Errorf("client %d has client %d's member", n, m>>8)
					return
				}
				tab.Put(tag, uint64(n)<<8|uint64(r.IntN(3)), now+1)
			}
		})
	}
	wg.Wait()
}

func TestDoesNotAllocate(t *testing.T) {
	tab := New()
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		tag := Tag(client(n), 1)
		tab.Find(tag)
		tab.Put(tag, 1, uint64(n))
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkFindAndPut(b *testing.B) {
	tab := New()
	tags := make([]uint64, 1000)
	for i := range tags {
		tags[i] = Tag(client(i), 1)
	}
	for i := range b.N {
		tag := tags[i%len(tags)]
		tab.Find(tag)
		tab.Put(tag, 1, uint64(i)+1)
	}
}
