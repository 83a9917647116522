package compile

import (
	"container/heap"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// Rest is how long a freed number is not given to something else: other nodes
// and flows may still use it with its old meaning.
const Rest = time.Minute

// spareAfterRestart numbers above the highest remembered one rest too when IDs
// are made: they may have been freed just before.
const spareAfterRestart = 64

// IDs gives things their numbers: the lowest that are free and have rested. A
// number stays with its key for as long as every compilation asks for it.
type IDs struct {
	spaces  map[string]*space
	changed map[record.IDKey]uint32 // since TakeChanges; 0: freed
	round   uint64
	now     time.Time
}

// space numbers one kind of things.
type space struct {
	last   uint32 // highest number allowed
	next   uint32 // lowest never given since the start
	byKey  map[string]*number
	rest   []rested // oldest first
	rested lowest
}

type number struct {
	n     uint32
	round uint64 // when it was last asked for
}

type rested struct {
	n     uint32
	since time.Time
}

// NewIDs takes over remembered numbers.
func NewIDs(stored []record.ID, now time.Time) *IDs {
	x := &IDs{spaces: map[string]*space{}, changed: map[record.IDKey]uint32{}, now: now}
	for name, bounds := range map[string][2]uint32{
		record.SpaceVif: {1, table.MaxID}, record.SpaceVRF: {1, table.MaxID}, record.SpaceNH: {1, table.MaxID},
		record.SpaceLabel: {table.MinLabel, table.MaxLabel},
	} {
		x.spaces[name] = &space{next: bounds[0], last: bounds[1], byKey: map[string]*number{}}
	}
	used := map[string]map[uint32]bool{}
	for _, id := range stored {
		s := x.spaces[id.Space]
		if s == nil || id.Number < s.next || id.Number > s.last || used[id.Space][id.Number] {
			x.changed[id.IDKey] = 0 // of another release, or taken: the key gets a new one
			continue
		}
		if used[id.Space] == nil {
			used[id.Space] = map[uint32]bool{}
		}
		used[id.Space][id.Number] = true
		s.byKey[id.Key] = &number{n: id.Number}
	}
	for name, taken := range used {
		x.spaces[name].restAll(taken, now)
	}
	return x
}

// restAll lets everything rest that may have been freed shortly before now.
func (s *space) restAll(taken map[uint32]bool, now time.Time) {
	highest := s.next
	for n := range taken {
		highest = max(highest, n)
	}
	for ; s.next <= min(highest+spareAfterRestart, s.last); s.next++ {
		if !taken[s.next] {
			s.rest = append(s.rest, rested{s.next, now})
		}
	}
}

// Get returns the number of a key, which gets one if it has none; 0 when there
// are none left.
func (x *IDs) Get(name, key string) uint32 {
	s := x.spaces[name]
	if k := s.byKey[key]; k != nil {
		k.round = x.round
		return k.n
	}
	n := s.take(x.now)
	if n != 0 {
		s.byKey[key] = &number{n, x.round}
		x.changed[record.IDKey{Space: name, Key: key}] = n
	}
	return n
}

// Lookup returns the number of a key, 0 if it has none.
func (x *IDs) Lookup(name, key string) uint32 {
	if k := x.spaces[name].byKey[key]; k != nil {
		return k.n
	}
	return 0
}

// Free gives up the number of a key.
func (x *IDs) Free(name, key string) {
	s := x.spaces[name]
	k := s.byKey[key]
	if k == nil {
		return
	}
	delete(s.byKey, key)
	s.rest = append(s.rest, rested{k.n, x.now})
	x.changed[record.IDKey{Space: name, Key: key}] = 0
}

// SetTime tells the time, which never goes back.
func (x *IDs) SetTime(now time.Time) {
	if now.After(x.now) {
		x.now = now
	}
}

// begin opens a round; sweep frees what was not asked for since.
func (x *IDs) begin() { x.round++ }

func (x *IDs) sweep() {
	for name, s := range x.spaces {
		var gone []string
		for key, k := range s.byKey {
			if k.round != x.round {
				gone = append(gone, key)
			}
		}
		slices.Sort(gone) // equal inputs give equal numbers later
		for _, key := range gone {
			x.Free(name, key)
		}
	}
}

// TakeChanges returns what is to be remembered since the last call; 0: forget.
func (x *IDs) TakeChanges() map[record.IDKey]uint32 {
	c := x.changed
	x.changed = map[record.IDKey]uint32{}
	return c
}

// Remember puts changes back that could not be written.
func (x *IDs) Remember(keys map[record.IDKey]uint32) {
	for k := range keys {
		x.changed[k] = x.Lookup(k.Space, k.Key)
	}
}

func (s *space) take(now time.Time) uint32 {
	for len(s.rest) > 0 && now.Sub(s.rest[0].since) >= Rest {
		heap.Push(&s.rested, s.rest[0].n)
		s.rest = s.rest[1:]
	}
	switch {
	case len(s.rested) > 0:
		return heap.Pop(&s.rested).(uint32)
	case s.next <= s.last:
		s.next++
		return s.next - 1
	case len(s.rest) > 0: // better too early than not at all
		n := s.rest[0].n
		s.rest = s.rest[1:]
		return n
	}
	return 0
}

// lowest is a heap of numbers.
type lowest []uint32

func (h lowest) Len() int           { return len(h) }
func (h lowest) Less(i, j int) bool { return h[i] < h[j] }
func (h lowest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lowest) Push(v any)        { *h = append(*h, v.(uint32)) }
func (h *lowest) Pop() any {
	old := *h
	v := old[len(old)-1]
	*h = old[:len(old)-1]
	return v
}

// Natural keys. What is stored under them outlives this program: they are part
// of the ledger's format.

func vifKey(k record.AttachmentKey) string   { return "pod/" + k.String() }
func encapKey(k record.AttachmentKey) string { return "encap/" + k.String() }
func vmiKey(uuid string) string              { return "vmi/" + uuid }
func vrfKey(network string) string           { return "vrf/" + network }

// PodIDs are the numbers of an attachment.
type PodIDs struct {
	Vif   table.VifID
	NH    table.NextHopID
	Label table.Label
}

// Pod gives an attachment its numbers; the label goes with the VMI.
func (x *IDs) Pod(k record.AttachmentKey, vmi string) PodIDs {
	return PodIDs{
		Vif:   table.VifID(x.Get(record.SpaceVif, vifKey(k))),
		NH:    table.NextHopID(x.Get(record.SpaceNH, encapKey(k))),
		Label: table.Label(x.Get(record.SpaceLabel, vmiKey(vmi))),
	}
}

// PodKnown returns the numbers an attachment has; zeros where it has none.
func (x *IDs) PodKnown(k record.AttachmentKey, vmi string) PodIDs {
	return PodIDs{
		Vif:   table.VifID(x.Lookup(record.SpaceVif, vifKey(k))),
		NH:    table.NextHopID(x.Lookup(record.SpaceNH, encapKey(k))),
		Label: table.Label(x.Lookup(record.SpaceLabel, vmiKey(vmi))),
	}
}

// FreePod gives up the numbers of an attachment, and with the last one of a
// VMI also its label.
func (x *IDs) FreePod(k record.AttachmentKey, vmi string, last bool) {
	x.Free(record.SpaceVif, vifKey(k))
	x.Free(record.SpaceNH, encapKey(k))
	if last {
		x.Free(record.SpaceLabel, vmiKey(vmi))
	}
}
