package flow

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/packet"
)

// Table is a hash table of entries in memory handed in: open addressing with
// linear probing from a key's home, in two parts, because an IPv6 cell is twice as
// large. Entries never move, because indices in other tables and descriptors name
// their slots: those of IPv4 come first. The reach of a home is how far its keys are
// spread, 1 + the largest distance, so a removed entry needs no tombstone: a lookup
// stops where no key of that home can follow. It stands in the cell that the home is.
type Table struct {
	// Set once by New or Adopt.
	four, six part
	cold      []Cold    // by slot
	secrets   [8]uint64 // derived from the seed

	// Owned by the worker.
	cursor uint32 // Scan's
}

// part holds the entries of one family.
type part struct {
	// Set once by newPart.
	lines []Entry // a cell is one of them, or two
	shift uint8   // 1: two
	first uint32  // slot of the first cell
	homes uint64
	limit int

	// Written by the worker, read by anyone.
	used atomic.Int64
}

func newPart(lines []Entry, shift uint8) part {
	homes := len(lines)>>shift - window + 1
	return part{lines: lines, shift: shift, homes: uint64(homes), limit: homes * 3 / 4}
}

// New makes mem an empty table. mem is zero or was a flow table before. The
// seed keeps senders from aiming at one home: it must be random.
func New(mem []byte, size Size, worker int, seed uint64) (*Table, error) {
	head, t, err := carve(mem, size)
	if err != nil {
		return nil, err
	}
	if head.magic != 0 {
		clear(mem[headerSize:])
	}
	*head = t.header(worker, seed)
	head.magic = 0
	atomic.StoreUint32(&head.magic, magic) // last: without it nobody adopts
	t.secrets = secrets(seed)
	return t, nil
}

// header is what the header of t's memory holds.
func (t *Table) header(worker int, seed uint64) header {
	return header{
		magic: magic, version: layoutVersion, lineSize: uint32(lineSize), window: window,
		four: uint32(t.four.cells()), six: uint32(t.six.cells()), worker: uint32(worker), seed: seed,
	}
}

// Adopt takes over a table that a predecessor of worker left in mem, whenever
// it stopped. Entries that it had not decided are removed.
func Adopt(mem []byte, size Size, worker int) (*Table, error) {
	head, t, err := carve(mem, size)
	if err != nil {
		return nil, err
	}
	want := t.header(worker, head.seed)
	switch {
	case head.magic != magic:
		return nil, errors.New("flow memory: holds no flow table")
	case head.version != layoutVersion || head.lineSize != want.lineSize || head.window != window:
		return nil, fmt.Errorf("flow memory: layout version %d with %d-byte cells, this program knows version %d with %d",
			head.version, head.lineSize, layoutVersion, lineSize)
	case head.four != want.four || head.six != want.six:
		return nil, fmt.Errorf("flow memory: header names %d and %d cells, the memory has %d and %d", head.four, head.six, want.four, want.six)
	case head.worker != want.worker:
		return nil, fmt.Errorf("flow memory: belongs to worker %d, not %d", head.worker, worker)
	}
	t.secrets = secrets(head.seed)
	for slot := range uint32(t.Slots()) {
		t.Entry(slot).reach = 0
	}
	for slot := range uint32(t.Slots()) {
		t.adopt(slot)
	}
	return t, nil
}

// adopt counts the entry of slot, or removes it if no lookup would find it or
// nobody decided it.
func (t *Table) adopt(slot uint32) {
	e := t.Entry(slot)
	if e.Used == slotEmpty {
		return
	}
	k := t.Key(slot)
	p := t.place(&k)
	part := t.part(slot)
	distance := int(slot-part.first) - int(p.home)
	_, twice := t.Find(&k.Tuple, &p)
	if e.Used != slotUsed || e.Action == ActionNone || e.Action > ActionDrop || p.six != t.isSix(slot) || p.ends != e.ends ||
		distance < 0 || distance >= window || twice {
		t.wipe(slot)
		return
	}
	home := part.line(p.home)
	home.reach = max(home.reach, uint8(distance+1))
	part.used.Add(1)
}

// Len returns the number of entries in use. Any goroutine may call it.
func (t *Table) Len() int { return int(t.four.used.Load() + t.six.used.Load()) }

// Cap returns the number of entries of each family that fit: three quarters of the homes.
func (t *Table) Cap() Size { return Size{t.four.limit, t.six.limit} }

// Full says that there is no room for another entry of a family, wherever it belongs.
func (t *Table) Full(six bool) bool {
	part := &t.four
	if six {
		part = &t.six
	}
	return int(part.used.Load()) >= part.limit
}

// Slots returns the number of cells; slots are smaller.
func (t *Table) Slots() int { return len(t.cold) }

// Six reports whether a slot is for IPv6.
func (t *Table) Six(slot uint32) bool { return t.isSix(slot) }

func (t *Table) isSix(slot uint32) bool { return slot >= t.six.first }

func (t *Table) part(slot uint32) *part {
	if t.isSix(slot) {
		return &t.six
	}
	return &t.four
}

func (p *part) cells() int { return len(p.lines) >> p.shift }

// line returns the first line of a cell, or its only one.
func (p *part) line(cell uint32) *Entry { return &p.lines[cell<<p.shift] }

// Entry returns the entry of a slot. It stays where it is until it is deleted.
func (t *Table) Entry(slot uint32) *Entry {
	if slot < t.six.first {
		return &t.four.lines[slot]
	}
	return &t.six.lines[(slot-t.six.first)<<1]
}

// Cold returns the rest of what is the worker's to write, of a slot.
func (t *Table) Cold(slot uint32) *Cold { return &t.cold[slot] }

// Lookup finds the entry of k.
func (t *Table) Lookup(k *Key) (slot uint32, ok bool) {
	var p Place
	t.Locate(k.KeyNH, &k.Tuple, &p)
	return t.Find(&k.Tuple, &p)
}

func (t *Table) place(k *Key) (p Place) {
	t.Locate(k.KeyNH, &k.Tuple, &p)
	return p
}

// Find is Lookup where the key, whose tuple is k, has been located.
func (t *Table) Find(k *packet.Tuple, p *Place) (slot uint32, ok bool) {
	if p.six {
		return t.findSix(k, p)
	}
	for slot, end := p.home, p.home+uint32(t.four.lines[p.home].reach); slot < end; slot++ {
		if e := &t.four.lines[slot]; e.ends == p.ends && p.matches(e) {
			return slot, true
		}
	}
	return 0, false
}

func (t *Table) findSix(k *packet.Tuple, p *Place) (slot uint32, ok bool) {
	for cell, end := p.home, p.home+uint32(t.six.line(p.home).reach); cell < end; cell++ {
		e := t.six.line(cell)
		if e.ends != p.ends || !p.matches(e) {
			continue
		}
		if w := t.six.wide(t.six.first + cell); w.src == k.Src && w.dst == k.Dst {
			return t.six.first + cell, true
		}
	}
	return 0, false
}

// Insert makes an entry for k: nothing decided, nothing translated, no reverse.
// Set its Action last: a successor drops entries without one. The entry of a
// key that is there already is returned as it is. ok is false when the part is
// at its limit or k's window is full; see Victim.
func (t *Table) Insert(k *Key) (slot uint32, ok bool) {
	var p Place
	t.Locate(k.KeyNH, &k.Tuple, &p)
	if slot, ok = t.Find(&k.Tuple, &p); ok {
		return slot, true
	}
	return t.Add(&k.Tuple, &p)
}

// Add is Insert where the key, whose tuple is k, has been located and not found.
func (t *Table) Add(k *packet.Tuple, p *Place) (slot uint32, ok bool) {
	if t.Full(p.six) {
		return 0, false
	}
	part := &t.four
	if p.six {
		part = &t.six
	}
	for i := range uint32(window) {
		if part.line(p.home+i).Used != slotEmpty {
			continue
		}
		slot = part.first + p.home + i
		t.begin(slot, k, p)
		home := part.line(p.home)
		home.reach = max(home.reach, uint8(i+1))
		part.used.Add(1)
		return slot, true
	}
	return 0, false
}

// begin makes the entry of a slot that of the key at p, whose tuple is k.
func (t *Table) begin(slot uint32, k *packet.Tuple, p *Place) {
	e := t.Entry(slot)
	*e = Entry{
		ends: p.ends, KeyNH: p.KeyNH, Sport: p.Sport, Dport: p.Dport, Proto: p.Proto, Used: slotUsed, reach: e.reach,
		natEnds: p.ends, natSport: k.Sport, natDport: k.Dport, LabelECMP: noMember,
	}
	t.cold[slot] = Cold{Reverse: NoReverse, Life: t.cold[slot].Life}
	if p.six {
		*t.six.wide(slot) = wide{k.Src, k.Dst, k.Src, k.Dst}
	}
}

// Linked returns the entry of a slot if its other direction is peer.
func (t *Table) Linked(slot, peer uint32) *Entry {
	if int(slot) >= t.Slots() {
		return nil
	}
	if e := t.Entry(slot); e.Used != slotEmpty && t.Cold(slot).Reverse == peer {
		return e
	}
	return nil
}

// Delete removes the entry of a slot. An empty slot stays empty.
func (t *Table) Delete(slot uint32) {
	if t.Entry(slot).Used == slotEmpty {
		return
	}
	k := t.Key(slot)
	p := t.place(&k)
	part := t.part(slot)
	t.wipe(slot)
	part.used.Add(-1)
	if slot-part.first-p.home+1 == uint32(part.line(p.home).reach) {
		t.shrink(part, p.home)
	}
}

// wipe empties a cell; its reach is that of a home, not of the entry.
func (t *Table) wipe(slot uint32) {
	e := t.Entry(slot)
	*e = Entry{reach: e.reach}
	t.cold[slot] = Cold{Life: t.cold[slot].Life + 1}
	if t.isSix(slot) {
		*t.six.wide(slot) = wide{}
	}
}

// shrink lowers the reach of home to the last key that still lives there.
func (t *Table) shrink(part *part, home uint32) {
	n := uint32(part.line(home).reach)
	for ; n > 0; n-- {
		if part.line(home+n-1).Used == slotEmpty {
			continue
		}
		if k := t.Key(part.first + home + n - 1); t.place(&k).home == home {
			break
		}
	}
	part.line(home).reach = uint8(n)
}

// Scan shows the entries in the next n cells to visit, which may delete them
// and others, and goes on there when called again. It starts over at the end.
func (t *Table) Scan(n int, visit func(slot uint32, e *Entry)) {
	for range min(n, t.Slots()) {
		slot := t.cursor
		if t.cursor++; int(t.cursor) == t.Slots() {
			t.cursor = 0
		}
		if e := t.Entry(slot); e.Used != slotEmpty {
			visit(slot, e)
		}
	}
}

// victimWindow is how many cells are searched for a victim: the first ones of
// the key's window, so that its place serves the key; and for the last keys those in front
// of it, as only a table at its limit lacks room for them.
const victimWindow = 64

// Victim returns the entry that has to go so that the key at p can be inserted: the
// first of the lowest rank, and among those the one not seen for longest. Established
// TCP never goes. ok is false when there is none.
func (t *Table) Victim(p *Place) (slot uint32, ok bool) {
	part := &t.four
	if p.six {
		part = &t.six
	}
	// Behind the last home there are few entries: keys that live there have room, but in a full
	// table no victim. One in front of them serves as well.
	from := p.home
	if last := max(part.homes, victimWindow) - victimWindow; uint64(from) > last {
		from = uint32(last)
	}
	best := rankKeep
	var seen uint32
	for i := from; i < p.home+victimWindow; i++ {
		e := part.line(i)
		r := e.rank()
		// int32: ticks wrap around.
		if r < best || r == best && r != rankKeep && int32(e.LastSeen-seen) < 0 {
			best, seen, slot = r, e.LastSeen, part.first+i
		}
	}
	return slot, best != rankKeep
}
