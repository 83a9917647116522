package lpm

import (
	"math/bits"
	"net/netip"
)

// Clone returns a second version of t, at the cost of copying a few words: it shares
// t's pages until it changes them. t must not be changed any more.
func (t *Table) Clone() *Table {
	c := *t
	c.mem = t.mem.share()
	return &c
}

// Insert makes p, which is masked, lead to v.
func (t *Table) Insert(p netip.Prefix, v Value) {
	k, f := prefixKey(p.Addr())
	t.insert(place{family: f}, k, newEntry(p.Bits(), v))
}

// A place is where a slot is kept: in the word of a node's list of children, or, if
// that is 0, in the root of the family.
type place struct {
	family int
	word   uint32
}

func (t *Table) slot(p place) slot {
	if p.word == 0 {
		return t.roots[p.family]
	}
	return slot(t.mem.at(p.word))
}

func (t *Table) setSlot(p place, s slot) {
	if p.word == 0 {
		t.roots[p.family] = s
	} else {
		t.mem.set(p.word, uint64(s))
	}
}

// insert puts e, of prefix k, at p or below.
func (t *Table) insert(p place, k key, e entry) {
	for {
		s := t.slot(p)
		if s == 0 {
			t.setSlot(p, t.newLeaf(p.family, k, e))
			t.size++
			return
		}
		var depth, shared int
		if s.leaf() {
			there, at := t.leaf(s)
			depth, shared = there.length(), min(k.common(at), e.length())
			if shared >= depth && e.length() == depth {
				t.mem.set(s.at()+leafEntry, uint64(e))
				return
			}
			shared = min(shared, depth)
		} else {
			n := t.mem.line(s.at())
			depth, shared = int(n[nodeDepth]), min(k.common(pathOf(n)), e.length())
			if shared >= depth {
				if e.length() < depth+stride {
					t.setPrefix(s.at(), k, e)
					return
				}
				p = t.child(p.family, s.at(), k)
				continue
			}
		}
		t.split(p, s, k.first(shared-shared%stride), shared-shared%stride)
	}
}

// split puts a node for path, of depth bits, between p and s, which was there.
func (t *Table) split(p place, s slot, path key, depth int) {
	at := t.mem.alloc(nodeWords)
	*t.mem.edit(at) = line{nodeDepth: uint64(depth), nodeHi: path.hi, nodeLo: path.lo}
	t.setSlot(p, slot(at)<<1)
	if !s.leaf() {
		n := t.mem.line(s.at())
		t.setChildren(at, t.mem.insert(list{}, pathOf(n).chunk(depth), uint64(s)))
		return
	}
	e, k := t.leaf(s)
	if e.length() < depth+stride {
		t.mem.release(s.at(), leafWords[p.family])
		t.size--
		t.setPrefix(at, k, e)
		return
	}
	t.setChildren(at, t.mem.insert(list{}, k.chunk(depth), uint64(s)))
}

// child returns the place of the child of the node at word i on the way to k, which it
// makes if there is none.
func (t *Table) child(family int, i uint32, k key) place {
	n := t.mem.line(i)
	c := k.chunk(int(n[nodeDepth]))
	if n[nodeChildren]>>c&1 == 0 {
		t.setChildren(i, t.mem.insert(children(n), c, 0))
		n = t.mem.line(i)
	}
	return place{family, children(n).place(c)}
}

// setPrefix stores e, whose prefix is k and ends within the node at word i.
func (t *Table) setPrefix(i uint32, k key, e entry) {
	n := t.mem.line(i)
	depth := int(n[nodeDepth])
	at := prefixAt(k.chunk(depth), e.length()-depth)
	if l := prefixes(n); l.taken>>at&1 != 0 {
		t.mem.set(l.place(at), uint64(e))
		return
	}
	t.setPrefixes(i, t.mem.insert(prefixes(n), at, uint64(e)))
	t.size++
}

func (t *Table) setChildren(i uint32, l list) {
	n := t.mem.edit(i)
	n[nodeChildren], n[nodeLists] = l.taken, n[nodeLists]&^(1<<32-1)|uint64(l.at)
}

func (t *Table) setPrefixes(i uint32, l list) {
	n := t.mem.edit(i)
	n[nodePrefixes], n[nodeLists] = l.taken, n[nodeLists]&(1<<32-1)|uint64(l.at)<<32
}

func (t *Table) newLeaf(family int, k key, e entry) slot {
	at := t.mem.alloc(leafWords[family])
	t.mem.set(at+leafEntry, uint64(e))
	t.mem.set(at+leafHi, k.hi)
	if family == ip6 {
		t.mem.set(at+leafLo, k.lo)
	}
	return slot(at)<<1 | 1
}

// Delete takes p, which is masked, away if it is there.
func (t *Table) Delete(p netip.Prefix) {
	k, f := prefixKey(p.Addr())
	if !t.remove(place{family: f}, k, p.Bits()) {
		return
	}
	t.size--
	switch {
	case t.size == 0:
		*t = Table{}
	case t.mem.sparse():
		t.rebuild()
	}
}

// remove takes the prefix that is the first length bits of k away from below p, and
// reports whether it was there.
func (t *Table) remove(p place, k key, length int) bool {
	parent := p // of the node that has p in its list, if one has
	for s := t.slot(p); s != 0; s = t.slot(p) {
		if s.leaf() {
			e, at := t.leaf(s)
			if e.length() != length || k.common(at) < length {
				return false
			}
			t.mem.release(s.at(), leafWords[p.family])
			t.drop(parent, p, k)
			return true
		}
		n := t.mem.line(s.at())
		depth := int(n[nodeDepth])
		if length < depth || k.common(pathOf(n)) < depth {
			return false
		}
		c := k.chunk(depth)
		if length < depth+stride {
			at := prefixAt(c, length-depth)
			if n[nodePrefixes]>>at&1 == 0 {
				return false
			}
			t.setPrefixes(s.at(), t.mem.remove(prefixes(n), at))
			t.collapse(p)
			return true
		}
		if n[nodeChildren]>>c&1 == 0 {
			return false
		}
		parent, p = p, place{p.family, children(n).place(c)}
	}
	return false
}

// drop empties place p, of the node at parent on the way to k.
func (t *Table) drop(parent, p place, k key) {
	if p.word == 0 {
		t.setSlot(p, 0)
		return
	}
	i := t.slot(parent).at()
	n := t.mem.line(i)
	t.setChildren(i, t.mem.remove(children(n), k.chunk(int(n[nodeDepth]))))
	t.collapse(parent)
}

// collapse replaces the node at p by what it holds, if that is one child or one prefix.
func (t *Table) collapse(p place) {
	i := t.slot(p).at()
	n := t.mem.line(i)
	if bits.OnesCount64(n[nodeChildren])+bits.OnesCount64(n[nodePrefixes]) > 1 {
		return
	}
	var left slot
	if l := children(n); l.taken != 0 {
		left = slot(t.mem.at(l.at))
		t.mem.release(l.at, 1)
	} else {
		l := prefixes(n)
		e := entry(t.mem.at(l.at))
		t.mem.release(l.at, 1)
		at := uint(bits.TrailingZeros64(l.taken))
		length := bits.Len(at) - 1
		chunk := at << (stride - length) & (1<<stride - 1)
		left = t.newLeaf(p.family, pathOf(n).with(int(n[nodeDepth]), chunk), e)
	}
	t.mem.release(i, nodeWords)
	t.setSlot(p, left)
}

// rebuild makes t anew, in as few pages as it needs.
func (t *Table) rebuild() {
	var fresh Table
	for p, v := range t.All() {
		fresh.Insert(p, v)
	}
	*t = fresh
}
