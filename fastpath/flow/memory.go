package flow

import (
	"errors"
	"fmt"
	"unsafe"
)

// Layout of a table's memory: one page of header, the IPv4 cells of one cache line,
// the IPv6 cells of two, and then what is cold of all of them. Cell i of a family may
// hold keys whose home is i-window+1 to i; its last window-1 cells are nobody's home,
// so that no probe wraps around.
const (
	lineSize   = int(unsafe.Sizeof(Entry{}))
	coldSize   = int(unsafe.Sizeof(Cold{}))
	headerSize = 4096
	// window is how far from its home a key may be. At full load an insertion
	// meets a full window about once in ten thousand times.
	window = 255
	// maxCells is what the 24 bits of an Index can name.
	maxCells = 1 << 24

	magic         = 0x56524654 // "VRFT"
	layoutVersion = 3
)

// Size says how many entries of each family a table holds.
type Size struct{ Four, Six int }

// header is the first bytes of a table's memory, in host byte order. A
// successor takes a table over only if all of it is what it expects.
type header struct {
	magic, version   uint32
	lineSize, window uint32
	four, six        uint32 // cells
	worker, _        uint32
	seed             uint64
}

// cells returns how many cells there are for entries: a third more, so that probes
// stay short, and the last window.
func cells(entries int) int { return (entries*4+2)/3 + window - 1 }

// MemorySize returns the bytes of memory for a table: 117 for each IPv4 entry, 203
// for each of IPv6, and 64 KiB. 2,097,152 entries of IPv4 take 234 MiB, of IPv6
// 405 MiB.
func MemorySize(size Size) int {
	four, six := cells(size.Four), cells(size.Six)
	return headerSize + (four+2*six)*lineSize + (four+six)*coldSize
}

// carve returns the header of mem, and a table of its cells.
func carve(mem []byte, size Size) (*header, *Table, error) {
	four, six := cells(size.Four), cells(size.Six)
	if size.Four < 1 || size.Six < 1 || four+six > maxCells {
		return nil, nil, fmt.Errorf("flow memory: %d and %d entries, want at least one of each family and at most %d cells", size.Four, size.Six, maxCells)
	}
	if len(mem) != MemorySize(size) {
		return nil, nil, fmt.Errorf("flow memory: %d bytes, want %d", len(mem), MemorySize(size))
	}
	base := unsafe.Pointer(&mem[0])
	if uintptr(base)%64 != 0 {
		return nil, nil, errors.New("flow memory: does not start at a cache line")
	}
	lines := unsafe.Slice((*Entry)(unsafe.Add(base, headerSize)), four+2*six)
	t := &Table{
		four: newPart(lines[:four], 0),
		six:  newPart(lines[four:], 1),
		cold: unsafe.Slice((*Cold)(unsafe.Add(base, headerSize+len(lines)*lineSize)), four+six),
	}
	t.six.first = uint32(four)
	return (*header)(base), t, nil
}

// wide returns the second line of a slot's cell.
func (p *part) wide(slot uint32) *wide {
	return (*wide)(unsafe.Pointer(&p.lines[(slot-p.first)<<1+1]))
}
