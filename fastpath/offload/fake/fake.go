// Package fake is a kernel's flow cache in memory, for tests: it takes what package
// steer takes, and forwards as the kernel's half would. A Cache is for one goroutine
// at a time. It looks at tuples and flags, not at packets.
package fake

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
)

// Cache behaves as the kernel's.
type Cache struct {
	Size  int            // entries that fit
	Slots []offload.Slot // shared with the workers

	Flows       map[offload.Key]*offload.Record
	Generations map[uint32]uint32
	NextHops    map[uint32]offload.NextHop
	Peers       []packet.Addr
	Refuse      error // of every Put

	over map[offload.Key]struct{} // flows whose entries Begins has ended
}

// New returns an empty cache.
func New(size int) *Cache {
	return &Cache{
		Size: size, Slots: make([]offload.Slot, offload.MaxSlots), Flows: map[offload.Key]*offload.Record{},
		Generations: map[uint32]uint32{}, NextHops: map[uint32]offload.NextHop{}, over: map[offload.Key]struct{}{},
	}
}

// Put implements offloader.Flows.
func (c *Cache) Put(f *offload.Flow) error {
	switch _, known := c.NextHops[f.NH]; {
	case c.Refuse != nil:
		return c.Refuse
	case !known:
		return offload.ErrNextHop
	case c.Flows[f.Key] == nil && len(c.Flows) >= c.Size:
		return offload.ErrFull
	}
	r := &offload.Record{Flow: *f}
	if old := c.Flows[f.Key]; old != nil {
		r.Stats = old.Stats
	}
	c.Flows[f.Key] = r
	delete(c.over, f.Key)
	return nil
}

// Delete implements offloader.Flows.
func (c *Cache) Delete(k offload.Key) (s offload.Stats, err error) {
	if r := c.Flows[k]; r != nil {
		s = r.Stats
	}
	delete(c.Flows, k)
	delete(c.over, k)
	return s, nil
}

// Begins shows the kernel a packet that begins a connection anew: what is there of the
// one before ends.
func (c *Cache) Begins(k offload.Key) {
	if c.Flows[k] != nil {
		c.over[k] = struct{}{}
	}
}

// Records implements offloader.Flows.
func (c *Cache) Records(visit func(*offload.Record)) error {
	for _, r := range slices.SortedFunc(maps.Values(c.Flows), func(a, b *offload.Record) int { return int(a.Index) - int(b.Index) }) {
		seen := *r
		visit(&seen)
	}
	return nil
}

// Cap implements offloader.Flows.
func (c *Cache) Cap() int { return c.Size }

// SetGeneration implements offloader.Network.
func (c *Cache) SetGeneration(scope, gen uint32) { c.Generations[scope] = gen }

// SetNextHops implements offloader.Network.
func (c *Cache) SetNextHops(set []offload.NextHop) error {
	for _, h := range set {
		c.NextHops[h.ID] = h
	}
	return nil
}

// RemoveNextHops implements offloader.Network.
func (c *Cache) RemoveNextHops(ids []uint32) error {
	for _, id := range ids {
		delete(c.NextHops, id)
	}
	return nil
}

// SetPeers implements offloader.Network.
func (c *Cache) SetPeers(peers []packet.Addr) error {
	c.Peers = peers
	return nil
}

// Forward shows the kernel a packet of size bytes that could be a flow's. It returns
// the flow if the kernel forwards it; else the packet goes up in frame, whose
// Ethernet source is set as the kernel does.
func (c *Cache) Forward(k offload.Key, size int, frame []byte) *offload.Record {
	clear(frame[6:12])
	r := c.Flows[k]
	_, over := c.over[k]
	if r == nil || over || c.Generations[r.Scope] != r.Gen || c.NextHops[r.NH].ID != r.NH || !c.ours(r, frame) {
		return nil
	}
	r.Packets++
	r.Bytes += uint64(size)
	return r
}

// ours is the kernel's part of a hand-over; see offload.Slot.
func (c *Cache) ours(r *offload.Record, frame []byte) bool {
	if r.Handover == 0 {
		return true
	}
	s := &c.Slots[r.Handover]
	switch {
	case uint16(atomic.LoadUint32(&s.Turn)) != r.Turn:
		return false
	case s.Up != 0 && s.Done == uint64(r.Turn)<<32|s.Up:
		atomic.StoreUint32(&s.Active, uint32(r.Turn))
		r.Handover = 0
		return true
	}
	s.Up++
	offload.PutMark(frame, offload.Mark{Slot: r.Handover, Turn: r.Turn})
	return false
}

// Down takes a frame that a worker sends down. It returns the vif it leaves by; ok is false for a
// fence, which leaves nowhere.
func (c *Cache) Down(frame []byte) (vif uint32, ok bool) {
	if f, is := offload.ParseFence(frame); is {
		if s := &c.Slots[f.Slot]; s.Turn == uint32(f.Turn) && (f.Down == 0 || s.Passed == uint64(f.Turn)<<32|uint64(f.Down)) {
			s.Done = uint64(f.Turn)<<32 | uint64(f.Up)
		}
		return 0, false
	}
	vif, m, marked := offload.ParseDown(frame[6:])
	if !marked {
		return binary.BigEndian.Uint32(frame[8:]), true
	}
	s := &c.Slots[m.Slot]
	if turn := uint64(s.Turn); turn&offload.TurnBits == uint64(m.Turn) {
		if s.Passed>>32 != turn {
			s.Passed = turn << 32
		}
		s.Passed++
	}
	return vif, true
}

// String lists the flows, sorted.
func (c *Cache) String() string {
	s := ""
	_ = c.Records(func(r *offload.Record) {
		s += fmt.Sprintf("%v, by %d, %d packets\n", r.Key, r.NH, r.Packets)
	})
	return s
}
