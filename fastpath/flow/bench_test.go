package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/packet"
)

func BenchmarkLookup(b *testing.B) {
	for _, size := range []struct {
		name    string
		entries int
	}{{"16K", 16 << 10}, {"256K", 256 << 10}, {"2M", 2 << 20}} {
		mem, _, err := store.Private().Memory("", MemorySize(Size{size.entries, 1}))
		if err != nil {
			b.Fatal(err)
		}
		tab, err := New(mem, Size{size.entries, 1}, 0, seed)
		if err != nil {
			b.Fatal(err)
		}
		keys := make([]Key, 0, size.entries)
		for n := uint32(0); tab.Len() < size.entries; n++ {
			if k := benchKey(n); len(keys) < cap(keys) {
				if _, ok := tab.Insert(&k); ok {
					keys = append(keys, k)
				}
			}
		}
		r := rand.New(rand.NewPCG(5, 6))
		for _, percent := range []int{100, 50} {
			for percent*size.entries/100 < tab.Len() {
				k := keys[len(keys)-1]
				slot, _ := tab.Lookup(&k)
				tab.Delete(slot)
				keys = keys[:len(keys)-1]
			}
			r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			b.Run(fmt.Sprintf("%s/full%d/hit", size.name, percent), func(b *testing.B) { benchLookup(b, tab, keys, true) })
			absent := make([]Key, 1<<16)
			for i := range absent {
				absent[i] = benchKey(1<<31 + uint32(i))
			}
			b.Run(fmt.Sprintf("%s/full%d/miss", size.name, percent), func(b *testing.B) { benchLookup(b, tab, absent, false) })
		}
		if err := store.Free(mem); err != nil {
			b.Fatal(err)
		}
	}
}

func benchLookup(b *testing.B, tab *Table, keys []Key, want bool) {
	b.ReportAllocs()
	at := 0
	for range b.N {
		if _, ok := tab.Lookup(&keys[at]); ok != want {
			b.Fatal("wrong answer")
		}
		if at++; at == len(keys) {
			at = 0
		}
	}
}

func benchKey(n uint32) Key {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return Key{KeyNH: 5, Tuple: packet.Tuple{Src: packet.AddrFrom4(b[:]), Dst: packet.AddrFrom4([]byte{203, 0, 113, 1}), Sport: uint16(n >> 3), Dport: 80, Proto: packet.ProtoTCP}}
}

// BenchmarkChurn is a new flow and the end of an old one in a table that is full.
func BenchmarkChurn(b *testing.B) {
	tab, _ := newTable(b, 256<<10)
	slots := make([]uint32, 0, tab.Cap().Four)
	for n := uint32(0); tab.Len() < tab.Cap().Four; n++ {
		k := benchKey(n)
		if slot, ok := tab.Insert(&k); ok {
			slots = append(slots, slot)
		}
	}
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(5, 6))
	for i := range b.N {
		at := r.IntN(len(slots))
		tab.Delete(slots[at])
		k := benchKey(1<<30 + uint32(i))
		slot, ok := tab.Insert(&k)
		for !ok {
			k.Dport++
			slot, ok = tab.Insert(&k)
		}
		slots[at] = slot
	}
}
