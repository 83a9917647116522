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
	four walk[steerKey4, steerEntry]
	six  walk[steerKey6, steerEntry6]
}

// walk goes once through a map.
type walk[K, V any] struct {
	at     ebpf.MapBatchCursor
	keys   []K
	values []V
	n, i   int
	last   bool
}

// next returns the next entry, nil at the end.
func (w *walk[K, V]) next(m *ebpf.Map) (*K, *V, error) {
	if w.keys == nil {
		w.keys, w.values = make([]K, batch), make([]V, batch)
	}
	for w.i == w.n {
		if w.last {
			return nil, nil, nil
		}
		var err error
		w.i = 0
		w.n, err = m.BatchLookup(&w.at, w.keys, w.values, nil)
		w.last = errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !w.last {
			w.n = 0
			return nil, nil, fmt.Errorf("read the kernel's flow cache: %w", err)
		}
	}
	w.i++
	return &w.keys[w.i-1], &w.values[w.i-1], nil
}

// Read fills into with flows that are in the cache, and their counters; 0 is the end.
// Flows that come or go meanwhile may be missing.
func (c *Cache) Read(cur *Cursor, into []offload.Record) (n int, err error) {
	if c.capacity == 0 {
		return 0, nil
	}
	for ; n < len(into); n++ {
		k, e, err := cur.four.next(c.maps.Cache4)
		if err != nil {
			return n, err
		}
		if k != nil {
			into[n] = record4(k, e)
			continue
		}
		k6, e6, err := cur.six.next(c.maps.Cache6)
		if k6 == nil || err != nil {
			return n, err
		}
		into[n] = record6(k6, e6)
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
	h := steerHop{Id: n.ID, Ifindex: n.Ifindex, Src: binary.NativeEndian.Uint32(n.Src[:]), Dst: binary.NativeEndian.Uint32(n.Dst[:]), Room: uint32(n.MTU)}
	for i := range h.Eth {
		h.Eth[i] = binary.NativeEndian.Uint32(n.Eth[4*i:])
	}
	switch n.Kind {
	case offload.Pod:
		h.Kind = steerHopKindHOP_POD
	case offload.Host:
		h.Kind = steerHopKindHOP_HOST
	case offload.Tunnel:
		h.Kind, h.Outer = steerHopKindHOP_TUNNEL, packet.TunnelLen
		if n.Encap == offload.GRE {
			h.Gre, h.Outer = 1, greLen
		}
		h.Room -= h.Outer
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
	return errors.Join(
		readAll(c.maps.Cache4, func(*steerKey4, *steerEntry) { c.count++ }),
		readAll(c.maps.Cache6, func(*steerKey6, *steerEntry6) { c.count++ }),
	)
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
