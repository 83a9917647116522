package flow

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
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

// NewMemory returns zeroed memory for a table of entries that other processes
// can map through fd and nobody can shrink. The caller closes fd and hands mem
// to FreeMemory; the memory lives as long as any process has either.
func NewMemory(entries int) (fd int, mem []byte, err error) {
	if entries < 1 || entries > maxCells/2 {
		return -1, nil, fmt.Errorf("flow memory: %d entries, want 1 to %d", entries, maxCells/2)
	}
	fd, err = unix.MemfdCreate("vragent-flow", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, fmt.Errorf("flow memory: memfd_create: %w", err)
	}
	if err = unix.Ftruncate(fd, int64(MemorySize(entries))); err != nil {
		err = fmt.Errorf("flow memory: ftruncate: %w", err)
	} else if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		err = fmt.Errorf("flow memory: seal: %w", err)
	} else {
		mem, err = MapMemory(fd)
	}
	if err != nil {
		return -1, nil, errors.Join(err, unix.Close(fd))
	}
	return fd, mem, nil
}

// MapMemory maps the flow memory behind fd.
func MapMemory(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("flow memory: fstat: %w", err)
	}
	if st.Size < int64(MemorySize(1)) || st.Size > headerSize+int64(maxCells*cellSize) {
		return nil, fmt.Errorf("flow memory: descriptor has %d bytes, no flow table has", st.Size)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 {
		return nil, errors.New("flow memory: descriptor is not a memfd sealed against shrinking")
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("flow memory: mmap %d bytes: %w", st.Size, err)
	}
	return mem, nil
}

// FreeMemory unmaps what NewMemory or MapMemory returned. No table may use it any more.
func FreeMemory(mem []byte) error {
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("flow memory: munmap: %w", err)
	}
	return nil
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
