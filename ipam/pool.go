package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// Pool is all blocks a node has of one network and one family.
type Pool struct {
	blocks  []*Block // in address order
	retired []*Block // lease ended while addresses were in use
}

// Add adds a leased block. Adding one again does nothing; one whose lease had
// ended comes back with its addresses in use.
func (p *Pool) Add(b *Block) {
	if p.find(b.prefix) >= 0 {
		return
	}
	if i := slices.IndexFunc(p.retired, func(r *Block) bool { return r.prefix == b.prefix }); i >= 0 {
		b = p.retired[i]
		p.retired = slices.Delete(p.retired, i, i+1)
	}
	p.blocks = append(p.blocks, b)
	slices.SortFunc(p.blocks, func(x, y *Block) int { return x.prefix.Addr().Compare(y.prefix.Addr()) })
}

// Remove ends a lease: nothing more is handed out of the block; addresses in
// use stay in use until freed.
func (p *Pool) Remove(prefix netip.Prefix) {
	i := p.find(prefix)
	if i < 0 {
		return
	}
	if p.blocks[i].count > 0 {
		p.retired = append(p.retired, p.blocks[i])
	}
	p.blocks = slices.Delete(p.blocks, i, i+1)
}

// Blocks lists the leased blocks in address order. The caller must not change them.
func (p *Pool) Blocks() []*Block { return p.blocks }

// Allocate takes a free address: one that has rested if there is any, else the
// one that has rested longest in the first block that has one.
func (p *Pool) Allocate(now time.Time) (netip.Addr, bool) {
	for _, resting := range []bool{false, true} {
		for _, b := range p.blocks {
			if a, ok := b.allocate(now, resting); ok {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// Take claims one address. It reports false if it is in use or of no block.
func (p *Pool) Take(a netip.Addr) bool {
	for _, b := range p.blocks {
		if b.take(a) {
			return true
		}
	}
	return false
}

// Release frees an address. It reports false if it was not in use.
func (p *Pool) Release(a netip.Addr, now time.Time) bool {
	for _, b := range p.blocks {
		if b.free(a, now) {
			return true
		}
	}
	for i, b := range p.retired {
		if b.free(a, now) {
			if b.count == 0 {
				p.retired = slices.Delete(p.retired, i, i+1)
			}
			return true
		}
	}
	return false
}

// Free counts the addresses that can be handed out.
func (p *Pool) Free() int {
	n := 0
	for _, b := range p.blocks {
		n += b.Free()
	}
	return n
}

func (p *Pool) find(prefix netip.Prefix) int {
	return slices.IndexFunc(p.blocks, func(b *Block) bool { return b.prefix == prefix })
}

// Has reports whether a is in use.
func (p *Pool) Has(a netip.Addr) bool {
	has := func(b *Block) bool { return b.Has(a) }
	return slices.ContainsFunc(p.blocks, has) || slices.ContainsFunc(p.retired, has)
}

// InUse lists the addresses in use, also those of blocks whose lease has ended.
func (p *Pool) InUse() (out []netip.Addr) {
	for _, b := range slices.Concat(p.blocks, p.retired) {
		for i, used := range b.used {
			if used {
				out = append(out, b.addr(i))
			}
		}
	}
	return out
}
