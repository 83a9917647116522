// Package lpm is a table of IP prefixes that answers with the longest one that
// holds an address (longest prefix match, RFC 1812 5.2.4.3).
//
// It is a tree bitmap (Eatherton, Varghese and Dittia, 2004): a multibit trie of
// six bits a level whose nodes say in one word which of their 64 children exist
// and in another which of the 63 prefixes that end within them do, and keep both
// packed. Nodes with one child and no prefix, and those below which there is one
// prefix only, are left out. All of it lies in pages without pointers: the garbage
// collector need not look at it, however many routes there are, and a change
// copies pages instead of changing those that others may be reading.
package lpm

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
)

// Value is what a prefix leads to: 55 bits of the caller's.
type Value uint64

// MaxValue is the largest Value.
const MaxValue = 1<<55 - 1

// Table is one version of a set of prefixes, of both families. The zero Table is
// empty. Any number of goroutines may read one that nobody changes; none of its
// reading methods but All allocates.
type Table struct {
	mem   memory
	roots [families]slot
	size  int
}

const (
	ip4 = iota
	ip6
	families
)

// stride is how many bits of an address a node decides.
const stride = 6

// A slot is where a trie goes on: nowhere (0), at a leaf or at a node. Its upper
// bits are the number of the first word, bit 0 says that it is a leaf.
type slot uint64

func (s slot) leaf() bool { return s&1 != 0 }
func (s slot) at() uint32 { return uint32(s >> 1) }

// Words of a leaf: a prefix that is alone below its slot. One of IPv4 has two.
const (
	leafEntry = iota
	leafHi
	leafLo
)

var leafWords = [families]int{ip4: 2, ip6: 4}

// Words of a node, which is a line. Nodes are at depths that are multiples of stride.
const (
	nodeChildren = iota // bitmap
	nodePrefixes        // bitmap, by prefixAt
	nodeLists           // number of the first child's word, and in the upper half of the first entry's
	nodeDepth           // bits of the path
	nodeHi              // the path: what all addresses below have in common
	nodeLo
	nodeWords = 1 << lineBits
)

// An entry is a prefix's length (8 bits) and Value, and bit 63.
type entry uint64

func newEntry(length int, v Value) entry { return 1<<63 | entry(v)<<8 | entry(length) }

func (e entry) length() int  { return int(uint8(e)) }
func (e entry) value() Value { return Value(e << 1 >> 9) }

// key is an address, the most significant bit first. One of IPv4 is in the upper
// half of hi.
type key struct{ hi, lo uint64 }

func keyOf(a *packet.Addr) (key, int) {
	if a.Is4() {
		return key{hi: uint64(binary.BigEndian.Uint32(a[12:])) << 32}, ip4
	}
	return key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}, ip6
}

func prefixKey(a netip.Addr) (key, int) {
	if a.Is4() {
		b := a.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}, ip4
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}, ip6
}

// addr is the address that k is in family f.
func (k key) addr(f int) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	if f == ip4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

// common is how many leading bits k and o share.
func (k key) common(o key) int {
	if x := k.hi ^ o.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(k.lo^o.lo)
}

// chunk is the stride bits of k that follow the first depth. Masks spare the
// compiler tests for shifts by more than a word.
func (k key) chunk(depth int) uint {
	w := k.lo << (depth & 63)
	if depth < 64 {
		w = k.hi<<(depth&63) | k.lo>>1>>(^depth&63)
	}
	return uint(w >> (64 - stride))
}

// with is k with the stride bits that follow the first depth, all zero so far.
func (k key) with(depth int, chunk uint) key {
	c := uint64(chunk) << (64 - stride)
	if depth < 64 {
		return key{k.hi | c>>depth, k.lo | c<<(64-depth)}
	}
	return key{k.hi, k.lo | c>>(depth-64)}
}

// first is the first n bits of k, and zeros.
func (k key) first(n int) key {
	if n < 64 {
		return key{hi: k.hi &^ (^uint64(0) >> n)}
	}
	return key{k.hi, k.lo &^ (^uint64(0) >> (n - 64))}
}

// prefixAt is the place in a node's bitmap of the prefix that is the first length bits,
// 0 to 5, of chunk: longer ones have higher places.
func prefixAt(chunk uint, length int) uint {
	return 1<<length | chunk>>(stride-length)
}

// holding[chunk/2] is the bitmap of the prefixes within a node that hold chunk, by
// prefixAt. The last bit of a chunk makes no difference: those that end there are
// in the node below.
var holding = [1 << (stride - 1)]uint64{
	0x0000000100010116, 0x0000000200010116, 0x0000000400020116, 0x0000000800020116,
	0x0000001000040216, 0x0000002000040216, 0x0000004000080216, 0x0000008000080216,
	0x0000010000100426, 0x0000020000100426, 0x0000040000200426, 0x0000080000200426,
	0x0000100000400826, 0x0000200000400826, 0x0000400000800826, 0x0000800000800826,
	0x000100000100104a, 0x000200000100104a, 0x000400000200104a, 0x000800000200104a,
	0x001000000400204a, 0x002000000400204a, 0x004000000800204a, 0x008000000800204a,
	0x010000001000408a, 0x020000001000408a, 0x040000002000408a, 0x080000002000408a,
	0x100000004000808a, 0x200000004000808a, 0x400000008000808a, 0x800000008000808a,
}

// upTo[length] is the bitmap of the prefixes within a node of at most length bits.
var upTo = [stride]uint64{1<<2 - 1, 1<<4 - 1, 1<<8 - 1, 1<<16 - 1, 1<<32 - 1, 1<<64 - 1}

// Len returns the number of prefixes.
func (t *Table) Len() int { return t.size }

// Lookup returns the value and the length in bits of the longest prefix that holds a,
// and whether there is one.
func (t *Table) Lookup(a *packet.Addr) (v Value, length int, ok bool) {
	k, f := keyOf(a)
	e := t.longest(t.roots[f], k)
	return e.value(), e.length(), e != 0
}

func (t *Table) longest(s slot, k key) entry {
	var in *line    // the last node that has a prefix of k
	var held uint64 // bitmap of those
	for depth := 0; s != 0; depth += stride {
		n := t.mem.line(s.at())
		if s.leaf() {
			if e, p := leafIn(n, s); k.common(p) >= e.length() {
				return e
			}
			break
		}
		if skipped := int(n[nodeDepth]); skipped != depth { // bits were left out
			if depth = skipped; k.common(pathOf(n)) < depth {
				break
			}
		}
		c := k.chunk(depth)
		if h := n[nodePrefixes] & holding[c/2]; h != 0 {
			in, held = n, h
		}
		if n[nodeChildren]>>(c&63)&1 == 0 {
			break
		}
		s = slot(t.mem.at(children(n).place(c)))
	}
	if in == nil {
		return 0
	}
	return t.last(in, held)
}

// last returns the longest of those prefixes of node n that held has.
func (t *Table) last(n *line, held uint64) entry {
	return entry(t.mem.at(prefixes(n).place(uint(bits.Len64(held) - 1))))
}

// leaf returns what is at s. The lower half of an IPv4 key is undefined: no prefix
// is so long that it would matter.
func (t *Table) leaf(s slot) (entry, key) { return leafIn(t.mem.line(s.at()), s) }

func leafIn(n *line, s slot) (entry, key) {
	i := s.at() & lineMask
	return entry(n[i]), key{n[(i+leafHi)&lineMask], n[(i+leafLo)&lineMask]}
}

func pathOf(n *line) key    { return key{n[nodeHi], n[nodeLo]} }
func children(n *line) list { return list{n[nodeChildren], uint32(n[nodeLists])} }
func prefixes(n *line) list { return list{n[nodePrefixes], uint32(n[nodeLists] >> 32)} }

// Get returns the value of exactly p, which is masked; an invalid one has none.
func (t *Table) Get(p netip.Prefix) (Value, bool) {
	e := t.covering(p)
	if e == 0 || e.length() != p.Bits() {
		return 0, false
	}
	return e.value(), true
}

// Covering returns the value and the length of the longest prefix that holds all of p,
// which is masked: p itself if it is there.
func (t *Table) Covering(p netip.Prefix) (v Value, length int, ok bool) {
	e := t.covering(p)
	return e.value(), e.length(), e != 0
}

func (t *Table) covering(p netip.Prefix) (best entry) {
	k, f := prefixKey(p.Addr())
	for s := t.roots[f]; s != 0; {
		if s.leaf() {
			if e, at := t.leaf(s); e.length() <= p.Bits() && k.common(at) >= e.length() {
				return e
			}
			return best
		}
		n := t.mem.line(s.at())
		depth := int(n[nodeDepth])
		if p.Bits() < depth || k.common(pathOf(n)) < depth {
			return best
		}
		c := k.chunk(depth)
		if held := n[nodePrefixes] & holding[c/2] & upTo[min(p.Bits()-depth, stride-1)]; held != 0 {
			best = t.last(n, held)
		}
		if p.Bits()-depth < stride || n[nodeChildren]>>c&1 == 0 {
			return best
		}
		s = slot(t.mem.at(children(n).place(c)))
	}
	return best
}

// All yields the prefixes and their values, IPv4 first, in the order of their
// addresses, shorter ones first.
func (t *Table) All() iter.Seq2[netip.Prefix, Value] {
	return func(yield func(netip.Prefix, Value) bool) {
		for f, root := range t.roots {
			if root != 0 && !t.walk(root, f, yield) {
				return
			}
		}
	}
}

func (t *Table) walk(s slot, f int, yield func(netip.Prefix, Value) bool) bool {
	say := func(k key, e entry) bool {
		return yield(netip.PrefixFrom(k.addr(f), e.length()), e.value())
	}
	if s.leaf() {
		e, k := t.leaf(s)
		return say(k, e)
	}
	n := t.mem.line(s.at())
	depth := int(n[nodeDepth])
	for c := range uint(1 << stride) {
		here := pathOf(n).with(depth, c)
		// The prefixes that begin with this chunk: as long as its trailing zeros allow.
		for length := max(0, stride-bits.TrailingZeros64(uint64(c)|1<<stride)); length < stride; length++ {
			if at := prefixAt(c, length); n[nodePrefixes]>>at&1 != 0 && !say(here, entry(t.mem.at(prefixes(n).place(at)))) {
				return false
			}
		}
		if n[nodeChildren]>>c&1 != 0 && !t.walk(slot(t.mem.at(children(n).place(c))), f, yield) {
			return false
		}
	}
	return true
}
