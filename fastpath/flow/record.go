package flow

import (
	"encoding/binary"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Record is all there is of one direction, as a value: what decisions are made of,
// workers tell each other and people read. It has more fields than a struct should:
// they are those of Entry and Cold.
type Record struct {
	Src, Dst     packet.Addr
	KeyNH        uint32
	Sport, Dport uint16
	Proto        uint8
	Action       Action
	Reason       uint8
	NAT          NAT
	Flags        Flags
	Life         uint8 // not written by Set
	TCP          TCPState
	Reverse      uint32
	NH           uint32
	LabelECMP    uint32
	LastSeen     uint32

	NatSrc, NatDst     packet.Addr
	NatSport, NatDport uint16
	Scope, Gen, VRF    uint32
	Holder             uint32
	Packets, Bytes     uint64
}

// Key returns the record's key.
func (r *Record) Key() Key {
	return Key{r.KeyNH, packet.Tuple{Src: r.Src, Dst: r.Dst, Sport: r.Sport, Dport: r.Dport, Proto: r.Proto}}
}

// Translated returns the packet's tuple after translation.
func (r *Record) Translated() packet.Tuple {
	return packet.Tuple{Src: r.NatSrc, Dst: r.NatDst, Sport: r.NatSport, Dport: r.NatDport, Proto: r.Proto}
}

// Label returns the label to push, 0: none.
func (r *Record) Label() table.Label { return table.Label(r.LabelECMP >> memberBits) }

// Member returns the position of the chosen ECMP member, -1: none.
func (r *Record) Member() int {
	if m := int(r.LabelECMP & noMember); m != noMember {
		return m
	}
	return -1
}

// Record returns all there is of a slot. Only the worker may call it; see Snapshot.
func (t *Table) Record(slot uint32) Record {
	c := cell{Entry: *t.Entry(slot), Cold: *t.Cold(slot), six: t.isSix(slot)}
	if c.six {
		c.wide = *t.six.wide(slot)
	}
	return c.record()
}

// Set writes everything but the key of a slot: its entry is of r's key. The Action
// comes last, as a successor drops entries without one. r is of the same Life.
func (t *Table) Set(slot uint32, r *Record) {
	e, c := t.Entry(slot), t.Cold(slot)
	*c = Cold{Reverse: r.Reverse, Scope: r.Scope, Gen: r.Gen, VRF: r.VRF, Holder: r.Holder, packets: uint16(r.Packets >> 32), Reason: r.Reason, Life: c.Life}
	e.NAT, e.Flags, e.TCP = r.NAT, r.Flags, r.TCP
	if t.isSix(slot) {
		w := t.six.wide(slot)
		w.natSrc, w.natDst = r.NatSrc, r.NatDst
	} else {
		e.natEnds = ends4(&r.NatSrc, &r.NatDst)
	}
	e.natSport, e.natDport = r.NatSport, r.NatDport
	e.NH, e.LabelECMP, e.LastSeen, e.View = r.NH, r.LabelECMP, r.LastSeen, 0
	e.packets, e.Bytes = uint32(r.Packets), r.Bytes
	e.Action = r.Action
}

// Key returns the key of a slot's entry.
func (t *Table) Key(slot uint32) Key {
	e := t.Entry(slot)
	k := Key{e.KeyNH, packet.Tuple{Sport: e.Sport, Dport: e.Dport, Proto: e.Proto}}
	if t.isSix(slot) {
		w := t.six.wide(slot)
		k.Src, k.Dst = w.src, w.dst
	} else {
		k.Src, k.Dst = split4(e.ends)
	}
	return k
}

// Translated returns what the tuple of a slot's packets becomes.
func (t *Table) Translated(slot uint32) packet.Tuple {
	var to packet.Tuple
	t.Translate(slot, t.Entry(slot), &to)
	return to
}

// Translate makes to what the tuple of e's packets, whose slot that is, becomes.
func (t *Table) Translate(slot uint32, e *Entry, to *packet.Tuple) {
	to.Sport, to.Dport, to.Proto = e.natSport, e.natDport, e.Proto
	if t.isSix(slot) {
		w := t.six.wide(slot)
		to.Src, to.Dst = w.natSrc, w.natDst
		return
	}
	put4(&to.Src, uint32(e.natEnds>>32))
	put4(&to.Dst, uint32(e.natEnds))
}

// Count adds what a slot's packets were.
func (t *Table) Count(slot uint32, e *Entry, packets, bytes uint64) {
	sum := uint64(e.packets) + packets
	e.packets = uint32(sum)
	e.Bytes += bytes
	if sum>>32 != 0 {
		t.cold[slot].packets += uint16(sum >> 32)
	}
}

// Every says that none of the bits of mask are set in the number of packets: so it is
// once in mask + 1 packets.
func (e *Entry) Every(mask uint32) bool { return e.packets&mask == 0 }

// Packets returns how many packets a slot has counted.
func (t *Table) Packets(slot uint32) uint64 {
	return uint64(t.Cold(slot).packets)<<32 | uint64(t.Entry(slot).packets)
}

// cell is a copy of all of a slot.
type cell struct {
	Entry
	wide
	Cold
	six bool
}

func (c *cell) record() Record {
	r := Record{
		KeyNH: c.KeyNH, Sport: c.Sport, Dport: c.Dport, Proto: c.Proto,
		Action: c.Action, Reason: c.Reason, NAT: c.NAT, Flags: c.Flags, Life: c.Life, TCP: c.TCP,
		Reverse: c.Reverse, NH: c.NH, LabelECMP: c.LabelECMP, LastSeen: c.LastSeen,
		NatSport: c.natSport, NatDport: c.natDport, Scope: c.Scope, Gen: c.Gen, VRF: c.VRF, Holder: c.Holder,
		Packets: uint64(c.Cold.packets)<<32 | uint64(c.Entry.packets), Bytes: c.Bytes,
	}
	if c.six {
		r.Src, r.Dst, r.NatSrc, r.NatDst = c.src, c.dst, c.natSrc, c.natDst
	} else {
		r.Src, r.Dst = split4(c.ends)
		r.NatSrc, r.NatDst = split4(c.natEnds)
	}
	return r
}

// ends4 puts two IPv4 addresses into a word.
func ends4(src, dst *packet.Addr) uint64 {
	return uint64(binary.BigEndian.Uint32(src[12:]))<<32 | uint64(binary.BigEndian.Uint32(dst[12:]))
}

// split4 takes them out again.
func split4(ends uint64) (src, dst packet.Addr) {
	put4(&src, uint32(ends>>32))
	put4(&dst, uint32(ends))
	return src, dst
}

// put4 makes a the IPv4 address v, in two words.
func put4(a *packet.Addr, v uint32) {
	binary.BigEndian.PutUint64(a[:8], 0)
	binary.BigEndian.PutUint64(a[8:], 0xffff<<32|uint64(v))
}
