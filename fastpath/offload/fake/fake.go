// Package fake is a kernel's flow cache in memory, for tests: it takes what package
// steer takes, and forwards as the kernel's half would. A Cache is for one goroutine
// at a time. It looks at tuples and flags, not at packets.
package fake

import (
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
}

// New returns an empty cache.
func New(size int) *Cache {
	return &Cache{
		Size: size, Slots: make([]offload.Slot, offload.MaxSlots), Flows: map[offload.Key]*offload.Record{},
		Generations: map[uint32]uint32{}, NextHops: map[uint32]offload.NextHop{},
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
	return nil
}

// Delete implements offloader.Flows.
func (c *Cache) Delete(k offload.Key) (s offload.Stats, err error) {
	if r := c.Flows[k]; r != nil {
		s = r.Stats
	}
	delete(c.Flows, k)
	return s, nil
}

// Records implements offloader.Flows.
func (c *Cache) Records(visit func(*offload.Record)) error {
	keys := slices.SortedFunc(maps.Keys(c.Flows), func(a, b offload.Key) int { return int(c.Flows[a].Index) - int(c.Flows[b].Index) })
	for _, k := range keys {
		r := *c.Flows[k]
		visit(&r)
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
func (c *Cache) Forward(k offload.Key, size int, now uint64, frame []byte) *offload.Record {
	clear(frame[6:12])
	r := c.Flows[k]
	if r == nil || c.Generations[r.Scope] != r.Gen || c.NextHops[r.NH].ID != r.NH || !c.ours(r, frame) {
		return nil
	}
	r.Packets++
	r.Bytes += uint64(size)
	r.LastSeen = now
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
	case s.Up != 0 && s.Up == s.Done:
		atomic.StoreUint32(&s.Active, uint32(r.Turn))
		r.Handover = 0
		return true
	}
	s.Up++
	offload.PutMark(frame, r.Handover, r.Turn)
	return false
}

// String lists the flows, sorted.
func (c *Cache) String() string {
	s := ""
	_ = c.Records(func(r *offload.Record) {
		s += fmt.Sprintf("%v, by %d, %d packets\n", r.Key, r.NH, r.Packets)
	})
	return s
}
