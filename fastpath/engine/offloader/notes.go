package offloader

import "encoding/binary"

// Notes are memory that outlives the process: how much of each flow in the cache its
// worker has heard of, so that a successor goes on counting there and not anew. A note
// is
//
//	8 bytes  1 + the index of the worker's entry; 0: no note
//	8 bytes  packets
//	8 bytes  bytes
//
// What a worker had not read when it died is noted and not counted: a second's worth.
type Notes []byte

// NoteSize is what a flow in the cache needs of it.
const NoteSize = 24 // bytes

// noNote is the place of a flow for which there was none.
const noNote = -1

func (n Notes) len() int { return len(n) / NoteSize }

func (n Notes) word(at, i int) []byte { return n[at*NoteSize+8*i:][:8] }

func (n Notes) set(at int, index uint32, packets, bytes uint64) {
	if at == noNote {
		return
	}
	binary.NativeEndian.PutUint64(n.word(at, 1), packets)
	binary.NativeEndian.PutUint64(n.word(at, 2), bytes)
	binary.NativeEndian.PutUint64(n.word(at, 0), uint64(index)+1)
}

func (n Notes) clear(at int) {
	if at != noNote {
		binary.NativeEndian.PutUint64(n.word(at, 0), 0)
	}
}

func (n Notes) get(at int) (index uint32, packets, bytes uint64, ok bool) {
	w := binary.NativeEndian.Uint64(n.word(at, 0))
	return uint32(w - 1), binary.NativeEndian.Uint64(n.word(at, 1)), binary.NativeEndian.Uint64(n.word(at, 2)), w != 0
}

// note finds a place for what is told of k.
func (o *Offloader) note(k *kept) {
	k.note = noNote
	if n := len(o.free); n > 0 {
		k.note, o.free = o.free[n-1], o.free[:n-1]
	}
	o.Notes.set(k.note, k.index, 0, 0)
}

// forget gives the place of k back.
func (o *Offloader) forget(k *kept) {
	if k.note != noNote {
		o.Notes.clear(k.note)
		o.free = append(o.free, k.note)
	}
}

// noted lists the notes that a predecessor left by index; the rest is free.
func (o *Offloader) noted() map[uint32]int {
	all := map[uint32]int{}
	for at := range o.Notes.len() {
		if index, _, _, ok := o.Notes.get(at); ok {
			if _, twice := all[index]; !twice {
				all[index] = at
				continue
			}
		}
		o.Notes.clear(at)
		o.free = append(o.free, at)
	}
	return all
}
