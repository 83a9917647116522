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
	size := Size{entries, entries}
	mem := make([]byte, MemorySize(size))
	tab, err := New(mem, size, 3, seed)
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
	if _, ok := tab.Lookup(&k); ok || tab.Len() != 0 || tab.Cap() != (Size{100, 100}) {
		t.Fatalf("a new table has %d of %v entries", tab.Len(), tab.Cap())
	}
	slot := insert(t, tab, k)
	e := tab.Entry(slot)
	r := tab.Record(slot)
	if r.Key() != k || tab.Key(slot) != k || r.Translated() != k.Tuple || tab.Translated(slot) != k.Tuple || r.Reverse != NoReverse || r.Member() != -1 || e.Label() != 0 || r.Packets != 0 {
		t.Errorf("a new entry is %+v", e)
	}
	if at, ok := tab.Lookup(&k); !ok || at != slot || tab.Len() != 1 || !tab.Used(slot) {
		t.Errorf("found at %d, %v, want %d", at, ok, slot)
	}
	tab.Count(slot, e, 5, 300)
	if at, ok := tab.Insert(&k); !ok || at != slot || tab.Packets(at) != 5 || tab.Len() != 1 {
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
	if _, ok := tab.Lookup(&k); ok || tab.Len() != 0 || tab.Used(slot) || *e != (Entry{reach: e.reach}) || e.reach != 0 {
		t.Error("it was not deleted")
	}
}

// hashOf is the whole hash of a key: what its home is made of.
func hashOf(tab *Table, k *Key) uint64 {
	p := tab.place(k)
	return tab.hash(&p)
}

// Each part of a key is spread over the whole hash, and the seed matters.
func TestHash(t *testing.T) {
	tab, _ := newTable(t, 100)
	other, err := New(make([]byte, MemorySize(Size{100, 100})), Size{100, 100}, 3, seed+1)
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
	note(hashOf(tab, &base))
	note(hashOf(other, &base))
	for bit := range 8 * 16 {
		for i := range 2 {
			k := base
			[]*packet.Addr{&k.Src, &k.Dst}[i][bit/8] ^= 1 << (bit % 8)
			note(hashOf(tab, &k))
		}
	}
	for bit := range 32 {
		k := base
		k.KeyNH ^= 1 << bit
		note(hashOf(tab, &k))
		k = base
		ports := uint32(1) << bit
		k.Sport, k.Dport = uint16(ports>>16), uint16(ports)
		note(hashOf(tab, &k))
	}
	for proto := 1; proto < 256; proto++ {
		k := base
		k.Proto = uint8(proto)
		note(hashOf(tab, &k))
	}
}

// Up to its capacity a table takes (nearly) every flow, and keeps its probes short.
func TestFillToCapacity(t *testing.T) {
	for _, six := range []bool{false, true} {
		const entries = 100_000
		tab, _ := newTable(t, entries)
		refused, probes := 0, 0
		for n := uint32(0); tab.Len() < entries; n++ {
			k := family(n*2654435761, six)
			slot, ok := tab.Insert(&k)
			if !ok {
				refused++
				continue
			}
			probes += int(slot-tab.part(slot).first-tab.place(&k).home) + 1
		}
		if refused > entries/1000 {
			t.Errorf("%d of %d flows met a full window", refused, entries)
		}
		// Linear probing at load 3/4 finds a key in (1+1/(1-0.75))/2 = 2.5 probes (Knuth 6.4).
		if mean := float64(probes) / entries; mean > 2.7 {
			t.Errorf("%.2f probes in the mean", mean)
		}
		k := family(1<<31, six)
		if _, ok := tab.Insert(&k); ok || tab.Len() != entries {
			t.Error("the table takes more than its capacity")
		}
		if !tab.Full(six) || tab.Full(!six) {
			t.Errorf("full: %v, the other family: %v", tab.Full(six), tab.Full(!six))
		}
		if k = family(1<<31, !six); insert(t, tab, k) == 0 {
			t.Error("the other family has no room of its own")
		}
	}
}

// family is a key of one family; equal n, equal key.
func family(n uint32, six bool) Key {
	if six {
		return Key{KeyNH: 1, Tuple: packet.Tuple{Src: packet.Addr{0x20, 1, 12: byte(n >> 24), 13: byte(n >> 16)}, Dst: packet.Addr{0x20, 2}, Sport: uint16(n), Dport: 80, Proto: packet.ProtoTCP}}
	}
	return Key{KeyNH: 1, Tuple: packet.Tuple{Src: packet.AddrFrom4([]byte{198, 51, byte(n >> 24), byte(n >> 16)}), Dst: packet.AddrFrom4([]byte{203, 0, 113, 1}), Sport: uint16(n), Dport: 80, Proto: packet.ProtoTCP}}
}

// eachFamily runs a test with n keys that share home 400 of a table of their family;
// first is the slot of that home.
func eachFamily(t *testing.T, n int, run func(t *testing.T, tab *Table, keys []Key, first uint32)) {
	for name, six := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			tab, _ := newTable(t, 1000)
			var keys []Key
			for i := uint32(0); len(keys) < n; i++ {
				if k := family(i*2654435761, six); tab.place(&k).home == 400 {
					keys = append(keys, k)
				}
			}
			first := uint32(400)
			if six {
				first += tab.six.first
			}
			run(t, tab, keys, first)
		})
	}
}

// A key whose window is full is refused although the table has room; the victim
// makes room for it.
func TestFullWindow(t *testing.T) { eachFamily(t, window+1, testFullWindow) }

func testFullWindow(t *testing.T, tab *Table, keys []Key, first uint32) {
	for _, k := range keys[:window] {
		insert(t, tab, k)
	}
	last := keys[window]
	if _, ok := tab.Insert(&last); ok {
		t.Fatal("the window holds more than it can")
	}
	for i := range window {
		e := tab.Entry(first + uint32(i))
		e.TCP, e.LastSeen = SYN, uint32(1000-i)
	}
	slot, ok := victim(tab, &last)
	if !ok || slot != first+victimWindow-1 {
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
func victim(tab *Table, k *Key) (uint32, bool) {
	p := tab.place(k)
	return tab.Victim(&p)
}

func TestVictim(t *testing.T) { eachFamily(t, 7, testVictim) }

func testVictim(t *testing.T, tab *Table, keys []Key, _ uint32) {
	slots := make([]uint32, len(keys))
	for i, k := range keys {
		slots[i] = insert(t, tab, k)
		tab.Entry(slots[i]).TCP = SYN | SYNr | EST | ESTr
	}
	want := func(slot uint32, there bool) {
		t.Helper()
		if got, ok := victim(tab, &keys[0]); ok != there || ok && got != slot {
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
				} else if there || len(twin) < tab.Cap().Four && int(tab.six.used.Load()) < tab.Cap().Six {
					t.Fatalf("%v is refused with %d of %v entries", k, len(twin), tab.Cap())
				}
			} else if there {
				tab.Delete(slot)
				delete(twin, k)
			}
			ops = ops[3:]
		}
		same(t, tab, twin)
		again, err := Adopt(mem, tab.Cap(), 3)
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
	reach := map[*Entry]uint8{}
	for k, slot := range twin {
		if at, ok := tab.Lookup(&k); !ok || at != slot || tab.Key(at) != k {
			t.Fatalf("%v: found at %d, %v, want %d", k, at, ok, slot)
		}
		part, p := tab.part(slot), tab.place(&k)
		tab.Touch([]Place{p})
		if at, ok := tab.Find(&k.Tuple, &p); !ok || at != slot {
			t.Fatalf("%v: located at %d, %v, want %d", k, at, ok, slot)
		}
		home := part.line(p.home)
		reach[home] = max(reach[home], uint8(slot-part.first-p.home+1))
	}
	for slot := range uint32(tab.Slots()) {
		if e := tab.Entry(slot); e.reach != reach[e] {
			t.Fatalf("slot %d reaches %d, want %d", slot, e.reach, reach[e])
		}
	}
}

// FuzzRecord packs records into cells and takes them out again; other cells stay.
func FuzzRecord(f *testing.F) {
	f.Add(uint32(7), uint16(3), uint64(1<<47), []byte("seventy bytes of addresses, ports and whatever else a record may hold."))
	f.Add(uint32(10), uint16(0xffff), uint64(1<<32-1), []byte{0: 1, 63: 9})
	f.Fuzz(func(t *testing.T, n uint32, small uint16, large uint64, b []byte) {
		tab, _ := newTable(t, 20)
		k, other := key(n%1000), key(2000+n%1000)
		slot, beside := insert(t, tab, k), insert(t, tab, other)
		want := tab.Record(slot)
		untouched := tab.Record(beside)
		var nat [8]byte
		copy(nat[:], b)
		want.Action, want.Reason, want.NAT, want.Flags, want.TCP = Action(1+small%3), nat[0], NAT(nat[1]&15), Flags(nat[2]), TCPState(small)
		want.Reverse, want.NH, want.LabelECMP, want.LastSeen = n*3, n*5, n*7, n*11
		want.Scope, want.Gen, want.VRF, want.Packets, want.Bytes = n*13, n*17, n*19, large&(1<<48-1), large*3
		copy(want.NatSrc[12:], nat[:4])
		copy(want.NatDst[12:], nat[4:])
		want.NatSport, want.NatDport = small, uint16(n)
		tab.Set(slot, &want)
		if got := tab.Record(slot); got != want || tab.Key(slot) != k || tab.Translated(slot) != want.Translated() || tab.Packets(slot) != want.Packets {
			t.Errorf("set %+v, got %+v", want, got)
		}
		if got, ok := tab.Snapshot(slot); !ok || got != want {
			t.Errorf("set %+v, others see %+v", want, got)
		}
		tab.Count(slot, tab.Entry(slot), 3, 1000)
		if want.Packets = (want.Packets + 3) & (1<<48 - 1); tab.Packets(slot) != want.Packets || tab.Entry(slot).Bytes != want.Bytes+1000 {
			t.Errorf("%d packets, want %d", tab.Packets(slot), want.Packets)
		}
		if got := tab.Record(beside); got != untouched {
			t.Errorf("beside it, %+v became %+v", untouched, got)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	tab, _ := newTable(t, 1000)
	for n := range uint32(500) {
		insert(t, tab, key(n))
	}
	k, absent := key(7), key(1000)
	places := []Place{tab.place(&k), tab.place(&absent), {home: uint32(tab.four.homes) - 1}, {home: uint32(tab.six.homes) - 1, six: true}}
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
		"Record":   func() { sum += int(tab.Packets(slot)); tab.Record(slot) },
		"Victim":   func() { victim(tab, &k) },
		"Touch":    func() { sum += int(tab.Touch(places)) },
		"Scan":     func() { tab.Scan(64, func(uint32, *Entry) { sum++ }) },
		"Snapshot": func() { tab.Snapshot(slot) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestVictimOfEveryHome: in a table full of what may go, there is room for every key, wherever its
// home is: behind the last one there are hardly any entries to choose from.
func TestVictimOfEveryHome(t *testing.T) {
	for _, six := range []bool{false, true} {
		const entries = 10_000
		tab, _ := newTable(t, entries)
		n := uint32(0)
		next := func() Key { n++; return family(n*2654435761, six) }
		for tab.Len() < entries {
			k := next()
			if slot, ok := tab.Insert(&k); ok {
				*tab.Entry(slot) = begun(*tab.Entry(slot))
			}
		}
		part := tab.part(0)
		if six {
			part = &tab.six
		}
		seen := make(map[uint32]bool)
		for len(seen) < int(part.homes) {
			k := next()
			p := tab.place(&k)
			seen[p.home] = true
			slot, ok := tab.Victim(&p)
			if !ok {
				t.Fatalf("six %v, home %d of %d: no victim in a table full of them", six, p.home, part.homes)
			}
			tab.Delete(slot)
			if slot, ok = tab.Add(&k.Tuple, &p); !ok {
				t.Fatalf("six %v, home %d of %d: the victim's place does not serve", six, p.home, part.homes)
			}
			*tab.Entry(slot) = begun(*tab.Entry(slot))
		}
	}
}

// begun makes an entry one of a connection that has begun and is not answered.
func begun(e Entry) Entry {
	e.Action, e.TCP = ActionForward, SYN
	return e
}
