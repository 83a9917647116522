package flow

import (
	"errors"
	"fmt"
	"unsafe"
)

// Layout of a table's memory: one page of header, then cells. Cell i may hold
// keys whose home is i-window+1 to i; the last window-1 cells are nobody's home,
// so that no probe wraps around.
const (
	cellSize   = int(unsafe.Sizeof(Entry{}))
	headerSize = 4096
	// window is how far from its home a key may be. At full load an insertion
	// meets a full window about once in ten thousand times.
	window = 255
	// maxCells is what the 24 bits of an Index can name.
	maxCells = 1 << 24

	magic         = 0x56524654 // "VRFT"
	layoutVersion = 1
)

// header is the first bytes of a table's memory, in host byte order. A
// successor takes a table over only if all of it is what it expects.
type header struct {
	magic, version   uint32
	cellSize, window uint32
	cells, worker    uint32
	seed             uint64
}

// MemorySize returns the bytes of memory for a table of entries: 128 bytes for
// each, a third more so that probes stay short, 32 KiB for the last window and
// 4 KiB of header. 262,144 entries take 42.7 MiB, 2,097,152 take 341 MiB.
// A table also keeps a byte per cell on the heap.
func MemorySize(entries int) int {
	homes := (entries*4 + 2) / 3
	return headerSize + (homes+window-1)*cellSize
}

// view returns the header and the cells of mem.
func view(mem []byte) (*header, []Entry, error) {
	cells := (len(mem) - headerSize) / cellSize
	if cells <= window || cells > maxCells {
		return nil, nil, fmt.Errorf("flow memory: %d bytes, want %d to %d", len(mem), MemorySize(1), headerSize+maxCells*cellSize)
	}
	base := unsafe.Pointer(&mem[0])
	if uintptr(base)%64 != 0 {
		return nil, nil, errors.New("flow memory: does not start at a cache line")
	}
	return (*header)(base), unsafe.Slice((*Entry)(unsafe.Add(base, headerSize)), cells), nil
}
