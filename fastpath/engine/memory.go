package engine

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/flow"
)

// flowMemory is the flow tables' memory: one memfd per worker, which the agent
// holds as well, so that a successor takes the flows over.
type flowMemory struct {
	fds     []int
	mems    [][]byte
	tables  []*flow.Table
	adopted int // flows a predecessor left
}

// newFlowMemory makes empty tables.
func newFlowMemory(workers, entries int) (*flowMemory, error) {
	m := &flowMemory{}
	for i := range workers {
		fd, mem, err := flow.NewMemory(entries)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.fds, m.mems = append(m.fds, fd), append(m.mems, mem)
		var seed [8]byte
		_, _ = rand.Read(seed[:]) // never fails
		t, err := flow.New(mem, i, binary.NativeEndian.Uint64(seed[:]))
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.tables = append(m.tables, t)
	}
	return m, nil
}

// adoptFlowMemory takes over what a predecessor left. It owns fds from here on,
// also when it refuses: another number of workers, another size, another layout.
func adoptFlowMemory(fds []int, workers, entries int) (*flowMemory, error) {
	m := &flowMemory{fds: fds}
	err := m.adopt(workers, entries)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *flowMemory) adopt(workers, entries int) error {
	if len(m.fds) != workers {
		return fmt.Errorf("flow memory of %d workers, now there are %d", len(m.fds), workers)
	}
	for i, fd := range m.fds {
		mem, err := flow.MapMemory(fd)
		if err != nil {
			return err
		}
		m.mems = append(m.mems, mem)
		if len(mem) != flow.MemorySize(entries) {
			return fmt.Errorf("flow memory of %d bytes, %d entries need %d", len(mem), entries, flow.MemorySize(entries))
		}
		t, err := flow.Adopt(mem, i)
		if err != nil {
			return err
		}
		m.tables = append(m.tables, t)
		m.adopted += t.Len()
	}
	return nil
}

// same reports whether fds are descriptors of this very memory.
func (m *flowMemory) same(fds []int) bool {
	if len(fds) != len(m.fds) {
		return false
	}
	for i := range fds {
		var a, b unix.Stat_t
		if unix.Fstat(fds[i], &a) != nil || unix.Fstat(m.fds[i], &b) != nil || a.Dev != b.Dev || a.Ino != b.Ino {
			return false
		}
	}
	return true
}

func (m *flowMemory) close() error {
	var errs []error
	for _, mem := range m.mems {
		errs = append(errs, flow.FreeMemory(mem))
	}
	closeAll(m.fds)
	m.fds, m.mems, m.tables = nil, nil, nil
	return errors.Join(errs...)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
