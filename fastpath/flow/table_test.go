package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
)

const seed = 0x5eed

// key returns one of many keys; equal n, equal key.
func key(n uint32) Key {
	k := Key{KeyNH: 1 + n%3, Tuple: packet.Tuple{Sport: uint16(n), Dport: 80, Proto: packet.ProtoTCP}}
	k.Src = packet.AddrFrom4([]byte{198, 51, byte(n >> 24), byte(n >> 16)})
	k.Dst = packet.AddrFrom4([]byte{203, 0, 113, 1})
	if n%5 == 0 {
		k.Src, k.Dst = packet.Addr{0x20, 1, 0x0d, 0xb8, 15: byte(n >> 24)}, packet.Addr{0x20, 1, 0x0d, 0xb8, 14: byte(n >> 16), 15: 1}
	}
	return k
}

func newTable(t testing.TB, entries int) (*Table, []byte) {
	t.Helper()
	mem := make([]byte, MemorySize(entries))
	tab, err := New(mem, 3, seed)
	if err != nil {
		t.Fatal(err)
	}
	return tab, mem
}

// insert puts a decided entry for k into tab.
func insert(t testing.TB, tab *Table, k Key) uint32 {
	t.Helper()
	slot, ok := tab.Insert(&k)
	if !ok {
		t.Fatalf("no room for %v", k)
	}
	tab.Entry(slot).Action = ActionForward
	return slot
}

func TestInsertLookupDelete(t *testing.T) {
	tab, _ := newTable(t, 100)
	k := key(7)
	if _, ok := tab.Lookup(&k); ok || tab.Len() != 0 || tab.Cap() != 100 {
		t.Fatalf("a new table has %d of %d entries", tab.Len(), tab.Cap())
	}
	slot := insert(t, tab, k)
	e := tab.Entry(slot)
	if e.Key() != k || e.Translated() != k.Tuple || e.Reverse != NoReverse || e.Member() != -1 || e.Label() != 0 || e.Packets != 0 {
		t.Errorf("a new entry is %+v", e)
	}
	if at, ok := tab.Lookup(&k); !ok || at != slot || tab.Len() != 1 || !tab.Used(slot) {
		t.Errorf("found at %d, %v, want %d", at, ok, slot)
	}
	e.Packets = 5
	if at, ok := tab.Insert(&k); !ok || at != slot || tab.Entry(at).Packets != 5 || tab.Len() != 1 {
		t.Error("inserting it again did something")
	}
	// Each part of the key counts.
	for i, change := range []func(*Key){
		func(k *Key) { k.KeyNH++ }, func(k *Key) { k.Src[15]++ }, func(k *Key) { k.Src[0]++ }, func(k *Key) { k.Dst[15]++ },
		func(k *Key) { k.Dst[0]++ }, func(k *Key) { k.Sport++ }, func(k *Key) { k.Dport++ }, func(k *Key) { k.Proto++ },
	} {
		other := k
		change(&other)
		if _, ok := tab.Lookup(&other); ok {
			t.Errorf("change %d of the key is ignored", i)
		}
	}
	tab.Delete(slot)
	tab.Delete(slot)
	if _, ok := tab.Lookup(&k); ok || tab.Len() != 0 || tab.Used(slot) || *e != (Entry{}) {
		t.Error("it was not deleted")
	}
}

// Each part of a key is spread over the whole hash, and the seed matters.
func TestHash(t *testing.T) {
	tab, _ := newTable(t, 100)
	other, err := New(make([]byte, MemorySize(100)), 3, seed+1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	note := func(h uint64) {
		if seen[h] {
			t.Errorf("hash %#x twice", h)
		}
		seen[h] = true
	}
	base := Key{}
	note(tab.Hash(&base))
	note(other.Hash(&base))
	for bit := range 8 * 16 {
		for i := range 2 {
			k := base
			[]*packet.Addr{&k.Src, &k.Dst}[i][bit/8] ^= 1 << (bit % 8)
			note(tab.Hash(&k))
		}
	}
	for bit := range 32 {
		k := base
		k.KeyNH ^= 1 << bit
		note(tab.Hash(&k))
		k = base
		ports := uint32(1) << bit
		k.Sport, k.Dport = uint16(ports>>16), uint16(ports)
		note(tab.Hash(&k))
	}
	for proto := 1; proto < 256; proto++ {
		k := base
		k.Proto = uint8(proto)
		note(tab.Hash(&k))
	}
}

// Up to its capacity a table takes (nearly) every flow, and keeps its probes short.
func TestFillToCapacity(t *testing.T) {
	const entries = 100_000
	tab, _ := newTable(t, entries)
	refused, probes := 0, 0
	for n := uint32(0); tab.Len() < entries; n++ {
		k := key(n * 2654435761)
		slot, ok := tab.Insert(&k)
		if !ok {
			refused++
			continue
		}
		probes += int(slot) - tab.home(tab.Hash(&k)) + 1
	}
	if refused > entries/1000 {
		t.Errorf("%d of %d flows met a full window", refused, entries)
	}
	// Linear probing at load 3/4 finds a key in (1+1/(1-0.75))/2 = 2.5 probes (Knuth 6.4).
	if mean := float64(probes) / entries; mean > 2.7 {
		t.Errorf("%.2f probes in the mean", mean)
	}
	k := key(1 << 31)
	if _, ok := tab.Insert(&k); ok || tab.Len() != entries {
		t.Error("the table takes more than its capacity")
	}
}

// crowded returns a table and n keys that share one home.
func crowded(t *testing.T, n int) (*Table, []Key) {
	tab, _ := newTable(t, 1000)
	var keys []Key
	for i := uint32(0); len(keys) < n; i++ {
		if k := key(i * 2654435761); tab.home(tab.Hash(&k)) == 400 {
			k.Proto = packet.ProtoTCP
			keys = append(keys, k)
		}
	}
	return tab, keys
}

// A key whose window is full is refused although the table has room; the victim
// makes room for it.
func TestFullWindow(t *testing.T) {
	tab, keys := crowded(t, window+1)
	for _, k := range keys[:window] {
		insert(t, tab, k)
	}
	last := keys[window]
	if _, ok := tab.Insert(&last); ok {
		t.Fatal("the window holds more than it can")
	}
	for i := range window {
		e := tab.Entry(uint32(400 + i))
		e.TCP, e.LastSeen = SYN, uint32(1000-i)
	}
	slot, ok := tab.Victim(&last)
	if !ok || slot != 400+victimWindow-1 {
		t.Fatalf("victim is %d, %v", slot, ok)
	}
	tab.Delete(slot)
	if at := insert(t, tab, last); at != slot {
		t.Errorf("inserted at %d, want %d", at, slot)
	}
	for _, k := range keys {
		if at, ok := tab.Lookup(&k); ok != (k != keys[victimWindow-1]) {
			t.Errorf("%v: %d, %v", k, at, ok)
		}
	}
}

// The victim is dead before embryonic before not TCP, and the oldest of those;
// never established.
func TestVictim(t *testing.T) {
	tab, keys := crowded(t, 7)
	slots := make([]uint32, len(keys))
	for i, k := range keys {
		slots[i] = insert(t, tab, k)
		tab.Entry(slots[i]).TCP = SYN | SYNr | EST | ESTr
	}
	want := func(slot uint32, there bool) {
		t.Helper()
		if got, ok := tab.Victim(&keys[0]); ok != there || ok && got != slot {
			t.Errorf("victim is %d, %v, want %d, %v", got, ok, slot, there)
		}
	}
	set := func(i int, proto uint8, s TCPState, seen uint32) {
		e := tab.Entry(slots[i])
		e.Proto, e.TCP, e.LastSeen = proto, s, seen
	}
	want(0, false)
	set(1, packet.ProtoUDP, 0, 10)
	want(slots[1], true)
	set(2, packet.ProtoUDP, 0, 9)
	want(slots[2], true)
	set(3, packet.ProtoTCP, SYN, 30)
	want(slots[3], true)
	set(4, packet.ProtoTCP, SYN, ^uint32(0)-5) // before the ticks wrapped
	want(slots[4], true)
	set(5, packet.ProtoTCP, EST|ESTr|FIN|FINr, 50)
	want(slots[5], true)
	set(6, packet.ProtoTCP, RST, 49)
	want(slots[6], true)
}

func TestScan(t *testing.T) {
	tab, _ := newTable(t, 500)
	want := map[uint32]bool{}
	for n := range uint32(300) {
		want[insert(t, tab, key(n))] = true
	}
	for round := range 3 {
		seen := map[uint32]int{}
		for left := tab.Slots(); left > 0; left -= 100 {
			tab.Scan(min(100, left), func(slot uint32, e *Entry) {
				seen[slot]++
				if e != tab.Entry(slot) {
					t.Error("slot and entry differ")
				}
				if round == 1 && slot%2 == 0 {
					tab.Delete(slot)
				}
			})
		}
		if len(seen) != len(want) {
			t.Errorf("round %d saw %d entries, want %d", round, len(seen), len(want))
		}
		for slot, n := range seen {
			if n != 1 || !want[slot] {
				t.Errorf("round %d saw slot %d %d times", round, slot, n)
			}
			if round == 1 && slot%2 == 0 {
				delete(want, slot)
			}
		}
	}
	n := 0
	tab.Scan(1<<30, func(uint32, *Entry) { n++ })
	if n != tab.Len() {
		t.Errorf("a long scan saw %d of %d", n, tab.Len())
	}
}

// FuzzTable compares with a Go map: what is there is found where it was put.
func FuzzTable(f *testing.F) {
	for n := range uint64(20) {
		r := rand.New(rand.NewPCG(n, 1))
		ops := make([]byte, 2000)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		f.Add(uint8(1+n*7), ops)
	}
	f.Fuzz(func(t *testing.T, entries uint8, ops []byte) {
		tab, mem := newTable(t, 1+int(entries))
		twin := map[Key]uint32{}
		for len(ops) >= 3 {
			k := key(uint32(binary.LittleEndian.Uint16(ops)) % 512)
			slot, there := twin[k]
			at, ok := tab.Lookup(&k)
			if ok != there || ok && at != slot {
				t.Fatalf("%v: found %d, %v, want %d, %v", k, at, ok, slot, there)
			}
			if op := ops[2]; op < 140 {
				if at, ok = tab.Insert(&k); ok {
					tab.Entry(at).Action = ActionNAT
					twin[k] = at
				} else if there || len(twin) < tab.Cap() {
					t.Fatalf("%v is refused with %d of %d entries", k, len(twin), tab.Cap())
				}
			} else if there {
				tab.Delete(slot)
				delete(twin, k)
			}
			ops = ops[3:]
		}
		same(t, tab, twin)
		again, err := Adopt(mem, 3)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, twin)
	})
}

// same compares every entry, and what lookups rely on.
func same(t *testing.T, tab *Table, twin map[Key]uint32) {
	t.Helper()
	if tab.Len() != len(twin) {
		t.Fatalf("%d entries, want %d", tab.Len(), len(twin))
	}
	reach := make([]uint8, tab.homes)
	for k, slot := range twin {
		if at, ok := tab.Lookup(&k); !ok || at != slot || tab.Entry(at).Key() != k {
			t.Fatalf("%v: found at %d, %v, want %d", k, at, ok, slot)
		}
		home := tab.home(tab.Hash(&k))
		reach[home] = max(reach[home], uint8(int(slot)-home+1))
	}
	for home, want := range reach {
		if tab.reach[home] != want {
			t.Fatalf("home %d reaches %d, want %d", home, tab.reach[home], want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	tab, _ := newTable(t, 1000)
	for n := range uint32(500) {
		insert(t, tab, key(n))
	}
	k, absent := key(7), key(1000)
	slot, _ := tab.Lookup(&k)
	index, sum := 0, 0
	for name, call := range map[string]func(){
		"Lookup": func() { tab.Lookup(&k); tab.Lookup(&absent) },
		"Insert and Delete": func() {
			n := key(2000 + uint32(index))
			if at, ok := tab.Insert(&n); ok {
				tab.Delete(at)
			}
			index++
		},
		"Entry":    func() { sum += int(tab.Entry(slot).Packets) },
		"Victim":   func() { tab.Victim(&k) },
		"Scan":     func() { tab.Scan(64, func(uint32, *Entry) { sum++ }) },
		"Snapshot": func() { tab.Snapshot(slot) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
