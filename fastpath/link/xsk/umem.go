// Package xsk is the link over AF_XDP: rings shared with the kernel over one
// memory of chunks. A Socket and its four rings belong to one worker; the UMEM is
// shared by all of them. It attaches no programs: package steer sends it frames.
package xsk

import (
	"fmt"

	"github.com/vragent/vragent/fastpath/frame"
	"golang.org/x/sys/unix"
)

// UMEM is the memory packets live in, of all workers.
type UMEM struct {
	// Memory is valid until Close.
	Memory frame.Memory
}

// NewUMEM maps memory for that many chunks, of all workers together. It is backed
// by a memfd, so it shows by name in /proc/PID/maps, and is populated at once: the
// kernel pins it anyway.
func NewUMEM(chunks int) (*UMEM, error) {
	size := chunks * frame.ChunkSize
	fd, err := unix.MemfdCreate("vragent-frames", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create packet memory: %w", err)
	}
	defer unix.Close(fd) // the mapping keeps it
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("create packet memory of %d bytes: %w", size, err)
	}
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map packet memory of %d bytes: %w", size, err)
	}
	return &UMEM{Memory: m}, nil
}

// Close unmaps the memory. All sockets over it are closed before.
func (u *UMEM) Close() error {
	if err := unix.Munmap(u.Memory); err != nil {
		return fmt.Errorf("unmap packet memory: %w", err)
	}
	u.Memory = nil
	return nil
}
