package steer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
)

// batch is how many entries are read from a map at one time. No bucket of a hash holds
// as many.
const batch = 1024

// Cursor goes once through the cache. Its zero value begins.
type Cursor struct {
	at     ebpf.MapBatchCursor
	keys   []steerKey
	values []steerEntry
	n, i   int
	last   bool
}

// Read fills into with flows that are in the cache, and their counters; 0 is the end.
// Flows that come or go meanwhile may be missing.
func (c *Cache) Read(cur *Cursor, into []offload.Record) (n int, err error) {
	if c.capacity == 0 {
		return 0, nil
	}
	if cur.keys == nil {
		cur.keys, cur.values = make([]steerKey, batch), make([]steerEntry, batch)
	}
	for n < len(into) {
		if cur.i == cur.n {
			if cur.last {
				break
			}
			cur.i = 0
			cur.n, err = c.maps.Cache.BatchLookup(&cur.at, cur.keys, cur.values, nil)
			cur.last = errors.Is(err, ebpf.ErrKeyNotExist)
			if err != nil && !cur.last {
				cur.n = 0
				return n, fmt.Errorf("read the kernel's flow cache: %w", err)
			}
			continue
		}
		e := &cur.values[cur.i]
		into[n] = offload.Record{Flow: flowOf(&cur.keys[cur.i], e), Stats: statsOf(e)}
		n, cur.i = n+1, cur.i+1
	}
	return n, nil
}

// SetNextHops adds next hops, and changes those that are there. Flows use the new
// ones from the next packet on.
func (c *Cache) SetNextHops(hops []offload.NextHop) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return nil
	}
	var all error // the others change all the same: what the kernel has of them is old
	for i := range hops {
		if err := c.setHop(&hops[i]); err != nil && all == nil {
			all = fmt.Errorf("offload next hop %d: %w", hops[i].ID, err)
		}
	}
	return all
}

func (c *Cache) setHop(n *offload.NextHop) error {
	h := steerHop{Id: n.ID, Ifindex: n.Ifindex, Src: binary.NativeEndian.Uint32(n.Src[:]), Dst: binary.NativeEndian.Uint32(n.Dst[:]), Room: uint32(n.MTU), Eth: [12]uint8(n.Eth[:])}
	switch n.Kind {
	case offload.Pod:
		h.Kind = steerHopKindHOP_POD
	case offload.Host:
		h.Kind = steerHopKindHOP_HOST
	case offload.Tunnel:
		h.Kind = steerHopKindHOP_TUNNEL
		h.Room -= packet.TunnelLen
		if n.Encap == offload.GRE {
			h.Gre = 1
			h.Room += packet.TunnelLen - greLen
		}
	default:
		return offload.ErrUnsupported
	}
	at, ok := c.hops[n.ID]
	if !ok {
		if len(c.free) == 0 {
			return offload.ErrFull
		}
		at = c.free[0] // free for longest: no program that began before it was given up still reads it
	}
	if err := c.maps.NextHops.Put(at, h); err != nil {
		return err
	}
	if !ok {
		c.free = c.free[1:]
		c.hops[n.ID] = at
	}
	return nil
}

// greLen is what MPLS over GRE puts in front of an IP packet.
const greLen = packet.IPv4Len + 4 + packet.MPLSLen // bytes

// RemoveNextHops forgets next hops: their flows go up.
func (c *Cache) RemoveNextHops(ids []uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		at, ok := c.hops[id]
		if !ok {
			continue
		}
		if err := c.maps.NextHops.Put(at, steerHop{}); err != nil {
			return fmt.Errorf("forget next hop %d of the kernel's flow cache: %w", id, err)
		}
		delete(c.hops, id)
		c.free = append(c.free, at)
	}
	return nil
}

// SetPeers says who may send tunnels: these and nobody else.
func (c *Cache) SetPeers(peers []packet.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return nil
	}
	want := make(map[[4]byte]struct{}, len(peers))
	for _, a := range peers {
		if a.Is4() { // tunnels run over IPv4
			want[a.As4()] = struct{}{}
		}
	}
	for a := range c.peers {
		if _, ok := want[a]; ok {
			continue
		}
		if err := remove(c.maps.Peers, a); err != nil {
			return fmt.Errorf("forget tunnel source %v: %w", a, err)
		}
		delete(c.peers, a)
	}
	for a := range want {
		if _, ok := c.peers[a]; ok {
			continue
		}
		if err := c.maps.Peers.Put(a, uint8(1)); err != nil {
			return fmt.Errorf("accept tunnel source %v in the kernel: %w", a, err)
		}
		c.peers[a] = struct{}{}
	}
	return nil
}

// readHops learns what a predecessor left in next_hops.
func (c *Cache) readHops() error {
	return readAll(c.maps.NextHops, func(at *uint32, h *steerHop) {
		if h.Kind == steerHopKindHOP_NONE {
			c.free = append(c.free, *at)
		} else {
			c.hops[h.Id] = *at
		}
	})
}

func (c *Cache) readPeers() error {
	return readAll(c.maps.Peers, func(a *[4]byte, _ *uint8) { c.peers[*a] = struct{}{} })
}

func (c *Cache) readCount() error {
	return readAll(c.maps.Cache, func(*steerKey, *steerEntry) { c.count++ })
}

// readAll calls each with all entries of a map.
func readAll[K, V any](m *ebpf.Map, each func(*K, *V)) error {
	keys, values := make([]K, batch), make([]V, batch)
	var at ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&at, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read the kernel's flow cache: %w", err)
		}
		for i := range n {
			each(&keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
}
