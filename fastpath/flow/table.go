package flow

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Table is a hash table of entries in memory handed in: open addressing with
// linear probing from a key's home. Entries never move, because indices in
// other tables and descriptors name their slots. reach remembers how far each
// home's keys are spread, so a removed entry needs no tombstone: a lookup stops
// where no key of that home can follow.
type Table struct {
	// Set once by New or Adopt.
	cells   []Entry
	secrets [5]uint64 // derived from the seed
	homes   uint64
	limit   int

	// Owned by the worker.
	reach  []uint8 // of each home: 1 + the largest distance of its keys
	cursor int     // Scan's

	// Written by the worker, read by anyone.
	used atomic.Int64
}

// New makes mem an empty table. mem is zero or was a flow table before. The
// seed keeps senders from aiming at one home: it must be random.
func New(mem []byte, worker int, seed uint64) (*Table, error) {
	head, cells, err := view(mem)
	if err != nil {
		return nil, err
	}
	if head.magic != 0 {
		clear(cells)
	}
	*head = header{
		version: layoutVersion, cellSize: uint32(cellSize), window: window,
		cells: uint32(len(cells)), worker: uint32(worker), seed: seed,
	}
	atomic.StoreUint32(&head.magic, magic) // last: without it nobody adopts
	return open(head, cells), nil
}

// Adopt takes over a table that a predecessor of worker left in mem, whenever
// it stopped. Entries that it had not decided are removed.
func Adopt(mem []byte, worker int) (*Table, error) {
	head, cells, err := view(mem)
	if err != nil {
		return nil, err
	}
	want := header{magic, layoutVersion, uint32(cellSize), window, uint32(len(cells)), uint32(worker), head.seed}
	switch {
	case head.magic != magic:
		return nil, errors.New("flow memory: holds no flow table")
	case head.version != layoutVersion || head.cellSize != want.cellSize || head.window != window:
		return nil, fmt.Errorf("flow memory: layout version %d with %d-byte cells, this program knows version %d with %d",
			head.version, head.cellSize, layoutVersion, cellSize)
	case head.cells != want.cells:
		return nil, fmt.Errorf("flow memory: header names %d cells, the memory has %d", head.cells, len(cells))
	case head.worker != want.worker:
		return nil, fmt.Errorf("flow memory: belongs to worker %d, not %d", head.worker, worker)
	}
	t := open(head, cells)
	for slot := range cells {
		t.adopt(slot)
	}
	return t, nil
}

func open(head *header, cells []Entry) *Table {
	homes := len(cells) - window + 1
	return &Table{
		cells: cells, secrets: secrets(head.seed),
		homes: uint64(homes), limit: homes * 3 / 4,
		reach: make([]uint8, homes),
	}
}

// adopt counts the entry of slot, or removes it if no lookup would find it or
// nobody decided it.
func (t *Table) adopt(slot int) {
	e := &t.cells[slot]
	if e.Used == slotEmpty {
		return
	}
	k := e.Key()
	home := t.home(t.Hash(&k))
	distance := slot - home
	_, twice := t.Lookup(&k)
	if e.Used != slotUsed || e.Action == ActionNone || e.Action > ActionDrop || distance < 0 || distance >= window || twice {
		*e = Entry{}
		return
	}
	t.reach[home] = max(t.reach[home], uint8(distance+1))
	t.used.Add(1)
}

// Len returns the number of entries in use. Any goroutine may call it.
func (t *Table) Len() int { return int(t.used.Load()) }

// Cap returns the number of entries that fit: three quarters of the homes.
func (t *Table) Cap() int { return t.limit }

// Slots returns the number of cells; slots are smaller.
func (t *Table) Slots() int { return len(t.cells) }

// Entry returns the cell of a slot. It stays where it is until it is deleted.
func (t *Table) Entry(slot uint32) *Entry { return &t.cells[slot] }

// Lookup finds the entry of k.
func (t *Table) Lookup(k *Key) (slot uint32, ok bool) {
	home := t.home(t.Hash(k))
	return t.find(k, home)
}

func (t *Table) find(k *Key, home int) (slot uint32, ok bool) {
	cells := t.cells[home : home+int(t.reach[home])]
	for i := range cells {
		e := &cells[i]
		if e.Sport == k.Sport && e.Dport == k.Dport && e.KeyNH == k.KeyNH &&
			e.Src == k.Src && e.Dst == k.Dst && e.Proto == k.Proto && e.Used == slotUsed {
			return uint32(home + i), true
		}
	}
	return 0, false
}

// Insert makes an entry for k: nothing decided, nothing translated, no reverse.
// Set its Action last: a successor drops entries without one. The entry of a
// key that is there already is returned as it is. ok is false when the table is
// at its limit or k's window is full; see Victim.
func (t *Table) Insert(k *Key) (slot uint32, ok bool) {
	home := t.home(t.Hash(k))
	if slot, ok = t.find(k, home); ok {
		return slot, true
	}
	if t.Len() >= t.limit {
		return 0, false
	}
	cells := t.cells[home : home+window]
	for i := range cells {
		if cells[i].Used != slotEmpty {
			continue
		}
		cells[i] = Entry{
			Src: k.Src, Dst: k.Dst, KeyNH: k.KeyNH, Sport: k.Sport, Dport: k.Dport, Proto: k.Proto, Used: slotUsed,
			Reverse: NoReverse, LabelECMP: noMember,
			NatSrc: k.Src, NatDst: k.Dst, NatSport: k.Sport, NatDport: k.Dport,
		}
		t.reach[home] = max(t.reach[home], uint8(i+1))
		t.used.Add(1)
		return uint32(home + i), true
	}
	return 0, false
}

// Delete removes the entry of a slot. An empty slot stays empty.
func (t *Table) Delete(slot uint32) {
	e := &t.cells[slot]
	if e.Used == slotEmpty {
		return
	}
	k := e.Key()
	home := t.home(t.Hash(&k))
	*e = Entry{}
	t.used.Add(-1)
	if int(slot)-home+1 == int(t.reach[home]) {
		t.shrink(home)
	}
}

// shrink lowers the reach of home to the last key that still lives there.
func (t *Table) shrink(home int) {
	n := int(t.reach[home])
	for ; n > 0; n-- {
		e := &t.cells[home+n-1]
		if e.Used == slotEmpty {
			continue
		}
		if k := e.Key(); t.home(t.Hash(&k)) == home {
			break
		}
	}
	t.reach[home] = uint8(n)
}

// Scan shows the entries in the next n cells to visit, which may delete them
// and others, and goes on there when called again. It starts over at the end.
func (t *Table) Scan(n int, visit func(slot uint32, e *Entry)) {
	for range min(n, len(t.cells)) {
		slot := t.cursor
		if t.cursor++; t.cursor == len(t.cells) {
			t.cursor = 0
		}
		if e := &t.cells[slot]; e.Used != slotEmpty {
			visit(uint32(slot), e)
		}
	}
}

// victimWindow is how many cells are searched for a victim: the first ones of
// the key's window, so that its place serves the key.
const victimWindow = 64

// Victim returns the entry that has to go so that k can be inserted: the first
// of the lowest rank, and among those the one not seen for longest. Established
// TCP never goes. ok is false when there is none.
func (t *Table) Victim(k *Key) (slot uint32, ok bool) {
	home := t.home(t.Hash(k))
	best := rankKeep
	var seen uint32
	for i := home; i < home+victimWindow; i++ {
		e := &t.cells[i]
		r := e.rank()
		// int32: ticks wrap around.
		if r < best || r == best && r != rankKeep && int32(e.LastSeen-seen) < 0 {
			best, seen, slot = r, e.LastSeen, uint32(i)
		}
	}
	return slot, best != rankKeep
}
