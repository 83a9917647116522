package steer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
)

// Cache is the kernel's flow cache (cache.h). Like all of steering it is pinned: it
// forwards while no process lives, and a successor reads what is in it. Its methods
// are safe for any goroutine; those of the memory it lends (Slots) say who writes what.
type Cache struct {
	// Set once by Open.
	maps        steerMaps
	capacity    int
	limits      []string
	generations []uint64       // mapped: by id of a next hop
	slots       []offload.Slot // mapped; 0 is none
	mapped      [][]byte       // both, to be unmapped

	mu    sync.Mutex
	count int                  // entries; guarded by mu
	hops  map[uint32]uint32    // id to position in the array; guarded by mu
	free  []uint32             // positions; guarded by mu
	peers map[[4]byte]struct{} // guarded by mu
}

// newCache opens the cache on loaded maps, which may hold a predecessor's flows. A
// capacity of 0 is a cache that takes none.
func newCache(maps steerMaps, capacity int, limits []string) (*Cache, error) {
	c := &Cache{maps: maps, capacity: capacity, limits: limits, hops: map[uint32]uint32{}, peers: map[[4]byte]struct{}{}}
	if capacity == 0 {
		return c, nil
	}
	if err := errors.Join(c.mapMemory(), c.readHops(), c.readPeers(), c.readCount()); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *Cache) mapMemory() error {
	for _, m := range []*ebpf.Map{c.maps.Generations, c.maps.Slots} {
		size := int(m.MaxEntries() * m.ValueSize())
		b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map a BPF map into memory: %w", err)
		}
		c.mapped = append(c.mapped, b)
	}
	// A mapping begins at a page: both types are aligned, and the kernel's layout is theirs.
	c.generations = unsafe.Slice((*uint64)(unsafe.Pointer(&c.mapped[0][0])), offload.MaxScope)
	c.slots = unsafe.Slice((*offload.Slot)(unsafe.Pointer(&c.mapped[1][0])), offload.MaxSlots)
	return nil
}

func (c *Cache) close() error {
	var err error
	for _, b := range c.mapped {
		err = errors.Join(err, unix.Munmap(b))
	}
	c.mapped, c.generations, c.slots = nil, nil, nil
	return err
}

// Limits are sentences about what this kernel cannot do.
func (c *Cache) Limits() []string { return c.limits }

// Cap is how many flows there is room for, of both families, 0 when there is no cache.
func (c *Cache) Cap() int { return c.capacity }

// Len is how many flows are in the cache.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Slots are those of package offload; the first is never used. The memory is valid
// until the Steer is closed, and all turns in it continue a predecessor's.
func (c *Cache) Slots() []offload.Slot { return c.slots }

// Put makes the kernel forward a flow, from now on or, with a Handover, once nothing of
// it is under way. A flow that is there is changed and keeps its counters.
func (c *Cache) Put(f *offload.Flow) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.put(f); err != nil {
		return fmt.Errorf("offload %v: %w", f.Key, err)
	}
	return nil
}

func (c *Cache) put(f *offload.Flow) error {
	if c.capacity == 0 {
		return offload.ErrFull
	}
	at, ok := c.hops[f.NH]
	if !ok {
		return offload.ErrNextHop
	}
	v4 := f.Src.Is4()
	if f.Scope >= offload.MaxScope || f.Handover >= offload.MaxSlots || v4 != f.Dst.Is4() || v4 != f.To.Src.Is4() || v4 != f.To.Dst.Is4() ||
		f.Proto != packet.ProtoTCP && f.Proto != packet.ProtoUDP || f.From&^offload.FromLabel >= 1<<23 {
		return offload.ErrUnsupported
	}
	cell := c.cell(&f.Key)
	entry := entryOf(f, at)
	old, there, err := cell.read()
	switch {
	case err != nil:
		return err
	case there:
		entry.Packets, entry.Bytes = old.Packets, old.Bytes
	case c.count >= c.capacity:
		return offload.ErrFull
	}
	if err := cell.write(&entry, &f.To); err != nil {
		return err
	}
	if !there {
		c.count++
	}
	return nil
}

// Delete takes a flow out and returns its last counters: the next packet goes up. A
// flow that is not there has none.
func (c *Cache) Delete(k offload.Key) (offload.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return offload.Stats{}, nil
	}
	cell := c.cell(&k)
	e, there, err := cell.take()
	if err != nil {
		return offload.Stats{}, fmt.Errorf("take %v out of the kernel's flow cache: %w", k, err)
	}
	if there {
		c.count--
	}
	return statsOf(&e), nil
}

// SetGeneration says which generation of a scope is good: flows of all others go up.
// The kernel sees it at once.
func (c *Cache) SetGeneration(scope, gen uint32) {
	if int(scope) < len(c.generations) {
		atomic.StoreUint64(&c.generations[scope], uint64(gen))
	}
}

// Generation is what SetGeneration said last, 0 at first.
func (c *Cache) Generation(scope uint32) uint32 {
	if int(scope) < len(c.generations) {
		return uint32(atomic.LoadUint64(&c.generations[scope]))
	}
	return 0
}

// cell is where a flow is in the map of its family.
type cell struct {
	m    *ebpf.Map
	four *steerKey4 // nil: it is IPv6
	six  steerKey6
}

func (c *Cache) cell(k *offload.Key) cell {
	from := k.From&^offload.FromLabel<<8 | uint32(k.Proto) | k.From&offload.FromLabel
	if k.Src.Is4() {
		return cell{m: c.maps.Cache4, four: &steerKey4{From: from, Src: word(&k.Src), Dst: word(&k.Dst), Sport: port(k.Sport), Dport: port(k.Dport)}}
	}
	return cell{m: c.maps.Cache6, six: steerKey6{From: from, Src: words(&k.Src), Dst: words(&k.Dst), Sport: port(k.Sport), Dport: port(k.Dport)}}
}

// read, take and write look an entry up, delete it, and put it there.
func (c *cell) read() (steerEntry, bool, error) { return c.get((*ebpf.Map).Lookup) }
func (c *cell) take() (steerEntry, bool, error) { return c.get((*ebpf.Map).LookupAndDelete) }

func (c *cell) get(by func(m *ebpf.Map, key, value any) error) (e steerEntry, there bool, err error) {
	var e6 steerEntry6
	if c.four != nil {
		err = by(c.m, c.four, &e)
	} else {
		err = by(c.m, &c.six, &e6)
		e = e6.E
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return steerEntry{}, false, nil
	}
	return e, err == nil, err
}

func (c *cell) write(e *steerEntry, to *packet.Tuple) error {
	if c.four != nil {
		return c.m.Put(c.four, e)
	}
	return c.m.Put(&c.six, &steerEntry6{E: *e, Src: words(&to.Src), Dst: words(&to.Dst)})
}

// bottom is a label stack entry without its label: S bit and TTL (RFC 3032).
const bottom = 1<<8 | 64

func entryOf(f *offload.Flow, at uint32) steerEntry {
	e := steerEntry{
		Src: word(&f.To.Src), Dst: word(&f.To.Dst), Sport: port(f.To.Sport), Dport: port(f.To.Dport),
		Verdict: steerVerdictVERDICT_FORWARD, Entropy: port(f.Entropy), Label: long(f.Push<<12 | bottom),
		Nh: f.NH, NhAt: at, Scope: f.Scope, Gen: f.Gen, Index: f.Index, Handover: f.Handover, Turn: f.Turn,
	}
	if f.Src != f.To.Src || f.Dst != f.To.Dst {
		e.Translation |= steerTranslationADDRESSES
		e.AddressesSum = difference(words(&f.Src), words(&f.Dst), words(&f.To.Src), words(&f.To.Dst))
	}
	if f.Sport != f.To.Sport || f.Dport != f.To.Dport {
		e.Translation |= steerTranslationPORTS
	}
	return e
}

// difference is what a sum over 16-bit words gains (RFC 1071) when addresses change. The
// order of bytes does not matter to it.
func difference(src, dst, toSrc, toDst [4]uint32) uint32 {
	var sum uint64
	for i := range src {
		sum += uint64(^src[i]) + uint64(^dst[i]) + uint64(toSrc[i]) + uint64(toDst[i])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum)
}

// record4 and record6 are what a map holds, as a flow.
func record4(k *steerKey4, e *steerEntry) offload.Record {
	return recordOf(k.From, packet.Tuple{Src: addr4(k.Src), Dst: addr4(k.Dst), Sport: port(k.Sport), Dport: port(k.Dport)},
		packet.Tuple{Src: addr4(e.Src), Dst: addr4(e.Dst)}, e)
}

func record6(k *steerKey6, e *steerEntry6) offload.Record {
	return recordOf(k.From, packet.Tuple{Src: addr(k.Src), Dst: addr(k.Dst), Sport: port(k.Sport), Dport: port(k.Dport)},
		packet.Tuple{Src: addr(e.Src), Dst: addr(e.Dst)}, &e.E)
}

func recordOf(from uint32, tuple, to packet.Tuple, e *steerEntry) offload.Record {
	tuple.Proto = uint8(from)
	to.Proto, to.Sport, to.Dport = tuple.Proto, port(e.Sport), port(e.Dport)
	return offload.Record{Stats: statsOf(e), Flow: offload.Flow{
		Key: offload.Key{From: from&^offload.FromLabel>>8 | from&offload.FromLabel, Tuple: tuple}, To: to,
		NH: e.Nh, Push: long(e.Label) >> 12, Entropy: port(e.Entropy), Scope: e.Scope, Gen: e.Gen, Index: e.Index,
		Handover: e.Handover, Turn: e.Turn,
	}}
}

func statsOf(e *steerEntry) offload.Stats {
	return offload.Stats{Packets: e.Packets, Bytes: e.Bytes}
}

// words is an address as the kernel's words, addr undoes it.
func words(a *packet.Addr) (w [4]uint32) {
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(a[4*i:])
	}
	return w
}

// word and addr4 are the same for IPv4.
func word(a *packet.Addr) uint32 { return binary.NativeEndian.Uint32(a[12:]) }

func addr4(w uint32) packet.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return packet.AddrFrom4(b[:])
}

func addr(w [4]uint32) (a packet.Addr) {
	for i := range w {
		binary.NativeEndian.PutUint32(a[4*i:], w[i])
	}
	return a
}

// port and long change between the order of the wire and this machine's: programs are
// built for little-endian ones alone.
func port(p uint16) uint16 { return bits.ReverseBytes16(p) }
func long(l uint32) uint32 { return bits.ReverseBytes32(l) }
