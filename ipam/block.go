// Package ipam hands out single addresses of blocks leased to a node. The
// caller owns a Pool and its clock and serialises calls; nothing is stored here:
// after a restart the caller Takes again what its ledger says is in use. It does
// not lease blocks and does not know who an address is for.
package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Quarantine is how long a freed address rests while others are free: caches
// and flows elsewhere may still lead to its last owner.
const Quarantine = time.Minute

// maxBlockBits bounds a block to 65,536 addresses.
const maxBlockBits = 16

// Block is one leased prefix. The first address of a block is never handed out:
// the first of the first block is the subnet-router anycast address in IPv6
// (RFC 4291 section 2.6.1) and in IPv4 one that some hosts refuse, and so the
// capacity of a block does not depend on where it lies. A block of a single
// address has no first one to spare. The last address is an ordinary one:
// pods have /32 addresses, which know no broadcast.
type Block struct {
	prefix   netip.Prefix
	reserved int // offsets below it are not handed out
	used     []bool
	count    int
	cursor   int               // where the next search begins (next fit delays reuse)
	freed    map[int]time.Time // when an offset was freed; entries outlive their quarantine until reused
}

// NewBlock makes an empty block. The search for free addresses begins at the
// offset start, modulo the size: a caller that lost its memory of freed
// addresses gives a varying one.
func NewBlock(prefix netip.Prefix, start int) (*Block, error) {
	if !prefix.IsValid() || prefix != prefix.Masked() {
		return nil, fmt.Errorf("block %v: not a prefix without host bits", prefix)
	}
	bits := prefix.Addr().BitLen() - prefix.Bits()
	if bits > maxBlockBits {
		return nil, fmt.Errorf("block %v: more than %d addresses", prefix, 1<<maxBlockBits)
	}
	size := 1 << bits
	b := &Block{prefix: prefix, used: make([]bool, size), freed: map[int]time.Time{}}
	if size > 1 {
		b.reserved = 1
	}
	if start < 0 {
		start = -(start + 1)
	}
	b.cursor = start % size
	return b, nil
}

// Prefix is what the block covers.
func (b *Block) Prefix() netip.Prefix { return b.prefix }

// Used counts the addresses in use.
func (b *Block) Used() int { return b.count }

// Free counts the addresses that can be handed out, resting ones included.
func (b *Block) Free() int { return len(b.used) - b.reserved - b.count }

// Has reports whether a is in use.
func (b *Block) Has(a netip.Addr) bool {
	i, ok := b.offset(a)
	return ok && b.used[i]
}

// allocate takes the next free address that has rested; with resting set, also
// the one that has rested longest when there is no other.
func (b *Block) allocate(now time.Time, resting bool) (netip.Addr, bool) {
	oldest, at := -1, time.Time{}
	for n := range len(b.used) {
		i := (b.cursor + n) % len(b.used)
		if i < b.reserved || b.used[i] {
			continue
		}
		when, was := b.freed[i]
		if !was || now.Sub(when) >= Quarantine {
			return b.use(i), true
		}
		if oldest < 0 || when.Before(at) {
			oldest, at = i, when
		}
	}
	if oldest < 0 || !resting {
		return netip.Addr{}, false
	}
	return b.use(oldest), true
}

// take claims one address, reserved ones included. It reports false if a is in
// use or not of this block.
func (b *Block) take(a netip.Addr) bool {
	i, ok := b.offset(a)
	if !ok || b.used[i] {
		return false
	}
	b.used[i] = true
	b.count++
	delete(b.freed, i)
	return true
}

func (b *Block) use(i int) netip.Addr {
	b.used[i] = true
	b.count++
	delete(b.freed, i)
	b.cursor = (i + 1) % len(b.used)
	return b.addr(i)
}

func (b *Block) free(a netip.Addr, now time.Time) bool {
	i, ok := b.offset(a)
	if !ok || !b.used[i] {
		return false
	}
	b.used[i] = false
	b.count--
	b.freed[i] = now
	return true
}

// offset is the distance of a from the start of the block.
func (b *Block) offset(a netip.Addr) (int, bool) {
	if !b.prefix.Contains(a) {
		return 0, false
	}
	return int(low32(a) - low32(b.prefix.Addr())), true
}

func (b *Block) addr(i int) netip.Addr {
	raw := b.prefix.Addr().AsSlice()
	tail := raw[len(raw)-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+uint32(i))
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// low32 is the last four bytes; a block never spans more than 16 bits.
func low32(a netip.Addr) uint32 {
	raw := a.AsSlice()
	return binary.BigEndian.Uint32(raw[len(raw)-4:])
}
