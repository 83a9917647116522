package steer

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// rounds are the workers' rounds, in memory shared with the programs (share.h).
type rounds struct{ mapped []byte }

func mapRounds(m *ebpf.Map) (*rounds, error) {
	b, err := unix.Mmap(m.FD(), 0, int(m.MaxEntries()*m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the workers' rounds into memory: %w", err)
	}
	return &rounds{b}, nil
}

// of returns the number of a worker's round: a mapping begins at a page, so it is aligned.
func (r *rounds) of(worker int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.mapped[worker*int(unsafe.Sizeof(steerRound{}))]))
}

// close unmaps them; a second call does nothing.
func (r *rounds) close() error {
	if r.mapped == nil {
		return nil
	}
	b := r.mapped
	r.mapped = nil
	return unix.Munmap(b)
}
