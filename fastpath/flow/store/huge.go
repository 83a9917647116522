package store

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the pages that the kernel maps a large memory with, if that
// begins at a multiple of it. Flows lie anywhere in a table: with pages of 4 KiB, which
// are 57,000 for two million flows, each lookup would have the processor search for its
// page first, and in a virtual machine that takes longer than the lookup.
const hugePage = 2 << 20 // bytes, as on amd64 and on arm64 with pages of 4 KiB

// mapHuge maps size bytes of a file, or of none (-1).
func mapHuge(fd, size, flags int) ([]byte, error) {
	at, err := reserve(size)
	if err == nil {
		at, err = unix.MmapPtr(fd, 0, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED)
	}
	if err != nil {
		return nil, fmt.Errorf("mmap %d bytes: %w", size, err)
	}
	mem := unsafe.Slice((*byte)(at), size)
	// Memory without a file gets huge pages as it is mapped; that of a tmpfs is there
	// already, and is moved into some, whatever the tmpfs was mounted with (Linux 6.1). A
	// kernel that does none of this goes on with what there is.
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	if fd >= 0 {
		_ = unix.Madvise(mem, unix.MADV_COLLAPSE)
	}
	_ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE)
	return mem, nil
}

// reserve finds room for size bytes that begins at a huge page.
func reserve(size int) (unsafe.Pointer, error) {
	length := uintptr(size) + hugePage
	room, err := unix.MmapPtr(-1, 0, nil, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	page := uintptr(unix.Getpagesize())
	before := -uintptr(room) % hugePage
	behind := before + (uintptr(size)+page-1)&^(page-1)
	if before > 0 {
		err = unix.MunmapPtr(room, before)
	}
	if err == nil && behind < length {
		err = unix.MunmapPtr(unsafe.Add(room, behind), length-behind)
	}
	return unsafe.Add(room, before), err
}

// Free unmaps what Memory returned.
func Free(mem []byte) error {
	if err := unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))); err != nil {
		return fmt.Errorf("store: munmap: %w", err)
	}
	return nil
}
