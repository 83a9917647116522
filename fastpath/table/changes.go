package table

import "github.com/vragent/vragent/fastpath/packet"

// NHChanges calls visit for every next hop that is not in t as it was in old: was
// is nil for a new one, is for one that is gone. Versions share the pages in which
// nothing changed, so that a small change of large tables is found quickly.
func (t *Tables) NHChanges(old *Tables, visit func(id NextHopID, was, is *NH)) {
	changes(&old.nhs, &t.nhs, func(i uint32, was, is *NH) { visit(NextHopID(i), was, is) })
}

// VifChanges is NHChanges for vifs.
func (t *Tables) VifChanges(old *Tables, visit func(id VifID, was, is *VifEntry)) {
	changes(&old.vifs, &t.vifs, func(i uint32, was, is *VifEntry) { visit(VifID(i), was, is) })
}

// LabelChanges is NHChanges for labels that led somewhere: to another next hop, or
// nowhere, now.
func (t *Tables) LabelChanges(old *Tables, visit func(l Label)) {
	changes(&old.labels, &t.labels, func(i uint32, was, _ NextHopID) {
		if was != 0 {
			visit(Label(i))
		}
	})
}

// changes calls visit for every index at which two versions of an array differ.
func changes[T comparable](was, is *array[T], visit func(i uint32, was, is T)) {
	for p := range max(len(was.pages), len(is.pages)) {
		if p < len(was.pages) && p < len(is.pages) && was.pages[p] == is.pages[p] {
			continue
		}
		for i := uint32(p << pageBits); i < uint32((p+1)<<pageBits); i++ {
			if a, b := was.get(i), is.get(i); a != b {
				visit(i, a, b)
			}
		}
	}
}

// Peers lists the addresses tunnel packets are accepted from, in no order.
func (t *Tables) Peers() []packet.Addr { return t.peers.list() }

// SamePeers says that t accepts tunnel packets from whom old did: the set is
// rebuilt whenever it changes, and shared otherwise.
func (t *Tables) SamePeers(old *Tables) bool {
	a, b := t.peers.slots, old.peers.slots
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
