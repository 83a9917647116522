package lpm

import (
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/gaissmai/bart"

	"github.com/vragent/vragent/fastpath/packet"
)

// oracle says what a table of the same prefixes has to answer: it looks at each.
type oracle map[netip.Prefix]Value

func (o oracle) sorted() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(o), func(a, b netip.Prefix) int {
		if a.Addr().Is4() != b.Addr().Is4() {
			return a.Addr().BitLen() - b.Addr().BitLen()
		}
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
}

// covering is the longest prefix that holds p.
func (o oracle) covering(p netip.Prefix) (v Value, length int, ok bool) {
	length = -1
	for q, value := range o {
		if q.Bits() <= p.Bits() && q.Bits() > length && q.Contains(p.Addr()) {
			v, length, ok = value, q.Bits(), true
		}
	}
	return v, max(0, length), ok
}

func (o oracle) check(t *testing.T, table *Table, asked []netip.Addr) {
	t.Helper()
	if table.Len() != len(o) {
		t.Fatalf("%d prefixes, want %d", table.Len(), len(o))
	}
	want := o.sorted()
	for p, v := range table.All() {
		if len(want) == 0 || p != want[0] || v != o[p] {
			t.Fatalf("All has %v (%d), want the first of %v", p, v, want)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		t.Fatalf("All lacks %v", want)
	}
	for _, a := range asked {
		host := netip.PrefixFrom(a, a.BitLen())
		to := packet.AddrFrom(a)
		v, length, ok := table.Lookup(&to)
		if wv, wl, wok := o.covering(host); v != wv || length != wl || ok != wok {
			t.Fatalf("%v: %d, %d bits, %v; want %d, %d, %v", a, v, length, ok, wv, wl, wok)
		}
		for _, n := range []int{0, a.BitLen() / 3, a.BitLen() - 7, a.BitLen() - 1, a.BitLen()} {
			p, _ := a.Prefix(n)
			v, length, ok := table.Covering(p)
			if wv, wl, wok := o.covering(p); v != wv || length != wl || ok != wok {
				t.Fatalf("covering %v: %d, %d bits, %v; want %d, %d, %v", p, v, length, ok, wv, wl, wok)
			}
			got, ok := table.Get(p)
			if want, wok := o[p]; got != want || ok != wok {
				t.Fatalf("get %v: %d, %v; want %d, %v", p, got, ok, want, wok)
			}
		}
	}
	if words := table.words(t); words != table.mem.used {
		t.Fatalf("%d words are in use, %d can be reached", table.mem.used, words)
	}
}

// words counts what can be reached, and checks that no node could be left out.
func (table *Table) words(t *testing.T) (n int) {
	var visit func(s slot, f int)
	visit = func(s slot, f int) {
		if s.leaf() {
			n += int(sizes[class(leafWords[f])])
			return
		}
		node := table.mem.line(s.at())
		n += nodeWords
		held := 0
		for _, l := range []list{children(node), prefixes(node)} {
			if l.taken != 0 {
				held += bits.OnesCount64(l.taken)
				n += int(sizes[class(bits.OnesCount64(l.taken))])
			}
		}
		if held < 2 {
			t.Fatalf("a node at depth %d holds %d", node[nodeDepth], held)
		}
		for c := range uint(64) {
			if l := children(node); l.taken>>c&1 != 0 {
				visit(slot(table.mem.at(l.place(c))), f)
			}
		}
	}
	for f, root := range table.roots {
		if root != 0 {
			visit(root, f)
		}
	}
	return n
}

// near is an address that shares many leading bits with others of its kind.
func near(r *rand.Rand) netip.Addr {
	switch r.IntN(6) {
	case 0:
		return netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	case 1, 2:
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(256))})
	case 3:
		b := [16]byte{0: byte(r.Uint32()), 7: byte(r.Uint32()), 8: byte(r.Uint32()), 15: byte(r.Uint32())}
		return netip.AddrFrom16(b)
	default:
		return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(r.IntN(4)), 8: byte(r.IntN(4) << 6), 15: byte(r.IntN(256))})
	}
}

// Versions change as a map does, and older ones stay as they were.
func TestVersions(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, all := new(Table), oracle{}
		for range 40 {
			old, before := table, maps.Clone(all)
			table = table.Clone()
			growing := r.IntN(3)
			asked := []netip.Addr{near(r), near(r), near(r)}
			for range r.IntN(60) {
				if growing == 0 && len(all) > 0 {
					p := all.sorted()[r.IntN(len(all))]
					table.Delete(p)
					delete(all, p)
					continue
				}
				a := near(r)
				p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
				if asked = append(asked, a); r.IntN(4) == 0 {
					table.Delete(p)
					delete(all, p)
				} else {
					v := Value(r.Uint64() & MaxValue)
					table.Insert(p, v)
					all[p] = v
				}
			}
			all.check(t, table, asked)
			before.check(t, old, asked)
		}
		for p := range all {
			table.Delete(p)
		}
		oracle{}.check(t, table, nil)
	}
}

// What a table was grown to does not stay when most of it goes.
func TestShrinks(t *testing.T) {
	table, all := new(Table), oracle{}
	for i := range 20_000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)}), 26+i%7)
		table.Insert(p.Masked(), Value(i))
		all[p.Masked()] = Value(i)
	}
	pages := len(table.mem.pages)
	for p := range all {
		if len(all) == 100 {
			break
		}
		table.Delete(p)
		delete(all, p)
	}
	all.check(t, table, nil)
	if n := len(table.mem.pages); n > 8 {
		t.Errorf("100 of 20,000 prefixes are left in %d of %d pages", n, pages)
	}
}

func TestHolding(t *testing.T) {
	for chunk := range uint(1 << stride) {
		var want uint64
		for length := range stride {
			want |= 1 << prefixAt(chunk, length)
		}
		if got := holding[chunk/2]; got != want {
			t.Errorf("prefixes that hold %06b: %#016x, want %#016x", chunk, got, want)
		}
	}
}

func TestPagesHaveNoPointers(t *testing.T) {
	if k := reflect.TypeFor[page]().Elem().Elem().Kind(); k != reflect.Uint64 {
		t.Errorf("a page is made of %v", k)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 32, 10, 0, 0, 1, 1, 24, 10, 0, 0, 0, 2, 32, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		table, all := new(Table), oracle{}
		var asked []netip.Addr
		for ; len(in) >= 6; in = in[6:] {
			a := netip.AddrFrom4([4]byte(in[2:]))
			if in[0]&4 != 0 { // twelve bits of each end and two in the middle, to meet others
				a = netip.AddrFrom16([16]byte{0: 0xfd, 1: in[2], 7: in[3] & 3, 8: in[3] & 0xc0, 14: in[4], 15: in[5]})
			}
			p, _ := a.Prefix(int(in[1]) % (a.BitLen() + 1))
			switch in[0] & 3 {
			case 0, 1:
				table.Insert(p, Value(in[0]))
				all[p] = Value(in[0])
			case 2:
				table.Delete(p)
				delete(all, p)
			case 3:
				table = table.Clone()
			}
			asked = append(asked, a)
		}
		all.check(t, table, asked)
	})
}

// spread is n routes as a node may learn them: of pods, in blocks, and of networks.
func spread(n int) (all []netip.Prefix) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		x := uint32(i)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(x>>18), byte(x >> 10), byte(x >> 2), byte(x<<6) | byte(r.IntN(64))}), 32)
		if i%8 == 0 {
			p = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0}), 16+r.IntN(9)).Masked()
		}
		all = append(all, p)
	}
	return all
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{100, 100_000, 1_000_000} {
		all := spread(n)
		ours, theirs := new(Table), new(bart.Table[uint64])
		asked := make([]packet.Addr, 1<<16)
		for i, p := range all {
			ours.Insert(p, Value(i))
			theirs.Insert(p, uint64(i))
		}
		r := rand.New(rand.NewPCG(5, 6))
		for i := range asked {
			asked[i] = packet.AddrFrom(all[r.IntN(n)].Addr())
		}
		b.Run(fmt.Sprintf("lpm/%d", n), func(b *testing.B) {
			i, sum := 0, 0
			for b.Loop() {
				v, l, _ := ours.Lookup(&asked[i&(len(asked)-1)])
				i, sum = i+1, sum+int(v)+l
			}
		})
		b.Run(fmt.Sprintf("bart/%d", n), func(b *testing.B) {
			i, sum := 0, 0
			for b.Loop() {
				v, _ := theirs.Lookup(asked[i&(len(asked)-1)].Netip())
				i, sum = i+1, sum+int(v)
			}
		})
	}
}

func BenchmarkInsert(b *testing.B) {
	all := spread(250_000)
	b.Run("lpm", func(b *testing.B) {
		for b.Loop() {
			t := new(Table)
			for i, p := range all {
				t.Insert(p, Value(i))
			}
		}
	})
	b.Run("bart", func(b *testing.B) {
		for b.Loop() {
			t := new(bart.Table[uint64])
			for i, p := range all {
				t.Insert(p, uint64(i))
			}
		}
	})
	ours, theirs := new(Table), new(bart.Table[uint64])
	for i, p := range all {
		ours.Insert(p, Value(i))
		theirs.Insert(p, uint64(i))
	}
	b.Run("lpm/one", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			ours = ours.Clone()
			ours.Insert(all[i%len(all)], Value(i))
			i += 7919
		}
	})
	b.Run("bart/one", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			theirs = theirs.InsertPersist(all[i%len(all)], uint64(i))
			i += 7919
		}
	})
}
