package frame

import "github.com/vragent/vragent/fastpath/ring"

// Pool is one worker's free chunks. It is the home of a fixed range of them. A
// chunk may be given back at any worker: a foreign one travels home over a ring
// between the two, which holds as many as the home has chunks and so never fills.
type Pool struct {
	// Set once by NewPools.
	first, last uint64               // the chunks at home here: first <= addr < last
	base, span  uint64               // where the chunks of all workers begin; bytes at home with each
	outbound    []*ring.SPSC[uint64] // by home; nil for ourselves
	inbound     []*ring.SPSC[uint64] // by sender; nil for ourselves
	large       *Pool                // of buffers of LargeSize; nil: there are none

	// Owned by the worker.
	free []uint64 // a stack: the chunk last used is the one still in the cache
}

// NewPools returns a full pool for each worker. Worker i is home of the chunks
// [i*chunks, (i+1)*chunks).
func NewPools(chunks, workers int) []*Pool { return newPools(0, ChunkSize, chunks, workers) }

// AddLarge gives each worker so many buffers of LargeSize besides, behind the chunks
// of all, and returns the size of the memory that holds both, in bytes.
func AddLarge(pools []*Pool, each int) int {
	base := (uint64(len(pools))*pools[0].span + LargeSize - 1) &^ (LargeSize - 1)
	for i, large := range newPools(base, LargeSize, each, len(pools)) {
		pools[i].large = large
	}
	return int(base) + LargeSize*each*len(pools)
}

// newPools returns pools of buffers of size bytes, a power of two, from base on.
func newPools(base, size uint64, chunks, workers int) []*Pool {
	span := uint64(chunks) * size
	pools := make([]*Pool, workers)
	for i := range pools {
		first := base + uint64(i)*span
		p := &Pool{first: first, last: first + span, base: base, span: span}
		p.outbound = make([]*ring.SPSC[uint64], workers)
		p.inbound = make([]*ring.SPSC[uint64], workers)
		p.free = make([]uint64, 0, chunks)
		for addr := p.last; addr > first; addr -= size {
			p.free = append(p.free, addr-size)
		}
		pools[i] = p
	}
	for from := range pools {
		for to := range pools {
			if from != to {
				r := ring.New[uint64](chunks)
				pools[from].outbound[to] = r
				pools[to].inbound[from] = r
			}
		}
	}
	return pools
}

// Get returns the address of a free chunk's first byte. It reports false when
// all of this worker's chunks are in use.
func (p *Pool) Get() (addr uint64, ok bool) {
	if len(p.free) == 0 && !p.collect() {
		return 0, false
	}
	n := len(p.free) - 1
	addr = p.free[n]
	p.free = p.free[:n]
	return addr, true
}

// collect takes in the chunks other workers sent home.
func (p *Pool) collect() bool {
	for _, r := range p.inbound {
		if r != nil {
			n := len(p.free)
			p.free = p.free[:n+r.PopAll(p.free[n:cap(p.free)])]
		}
	}
	return len(p.free) > 0
}

// GetLarge is Get for a buffer of LargeSize.
func (p *Pool) GetLarge() (addr uint64, ok bool) {
	if p.large == nil {
		return 0, false
	}
	return p.large.Get()
}

// Put gives back the chunk or large buffer that contains addr, whoever is its home.
// One given back twice would be two packets at once; the pool panics when it can tell.
func (p *Pool) Put(addr uint64) {
	addr = Base(addr)
	if addr < p.first || addr >= p.last {
		p.putForeign(addr)
		return
	}
	p.put(addr)
}

// putForeign takes what is no chunk of this worker.
func (p *Pool) putForeign(addr uint64) {
	if l := p.large; l != nil && addr >= l.base {
		if addr &^= LargeSize - 1; addr >= l.first && addr < l.last {
			l.put(addr)
			return
		}
		p = l
	}
	if !p.outbound[(addr-p.base)/p.span].Push(addr) {
		panic("frame: a chunk of another worker was given back twice")
	}
}

func (p *Pool) put(addr uint64) {
	if len(p.free) == cap(p.free) {
		panic("frame: a chunk was given back twice")
	}
	p.free = append(p.free, addr)
}

// Len returns how many chunks Get can return now.
func (p *Pool) Len() int {
	n := len(p.free)
	for _, r := range p.inbound {
		if r != nil {
			n += r.Len()
		}
	}
	return n
}

// Cap returns how many chunks have their home here.
func (p *Pool) Cap() int { return cap(p.free) }
