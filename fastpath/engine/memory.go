package engine

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/flow/store"
)

// flowMemory is what the workers remember: a flow table each, and which backends
// serve which clients. It lies in files beside the socket, which outlive the process
// however it ends, so that a successor takes it over.
type flowMemory struct {
	store   *store.Store
	mems    [][]byte
	tables  []*flow.Table
	clients *affinity.Table
	adopted int   // flows a predecessor left
	private error // why the memory ends with the process; nil: it does not
}

// workerFile begins the names of the flow tables' files.
const workerFile = "worker-"

// openFlowMemory takes over what a predecessor left in dir, if it fits: as many
// workers, as many entries, the same layout. Flows are decided anew else. Where no
// file can be, the memory ends with the process.
func openFlowMemory(dir string, workers int, size flow.Size, log *slog.Logger) (*flowMemory, error) {
	s, err := store.Open(dir)
	if err == nil {
		var m *flowMemory
		if m, err = newFlowMemory(s, workers, size, log); err == nil {
			return m, nil
		}
	}
	log.Warn("flows will not outlive this process", "error", err)
	m, perr := newFlowMemory(store.Private(), workers, size, log)
	if perr != nil {
		return nil, perr
	}
	m.private = err
	return m, nil
}

// limits says what an operator should know.
func (m *flowMemory) limits() []string {
	if m.private == nil {
		return nil
	}
	return []string{fmt.Sprintf("flows do not outlive the fast path: %v", m.private)}
}

func newFlowMemory(s *store.Store, workers int, size flow.Size, log *slog.Logger) (*flowMemory, error) {
	m := &flowMemory{store: s}
	err := m.openClients()
	if err == nil {
		if aerr := m.adopt(workers, size); aerr != nil {
			log.Warn("flows of the predecessor are not taken over", "error", aerr)
		}
		if len(m.tables) == 0 {
			err = m.create(workers, size)
		}
	}
	if err != nil { // nobody may find old flows after others have been decided
		return nil, errors.Join(err, m.drop(), m.close())
	}
	return m, nil
}

func (m *flowMemory) memory(name string, size int) (mem []byte, kept bool, err error) {
	if mem, kept, err = m.store.Memory(name, size); err == nil {
		m.mems = append(m.mems, mem)
	}
	return mem, kept, err
}

func (m *flowMemory) openClients() error {
	mem, _, err := m.memory("clients", affinity.Size)
	if err == nil {
		m.clients, _, err = affinity.Open(mem)
	}
	return err
}

// adopt takes a predecessor's tables over, all or none. No tables and no error mean
// that there is none.
func (m *flowMemory) adopt(workers int, size flow.Size) error {
	files, err := m.files()
	if err != nil || len(files) == 0 {
		return err
	}
	if len(files) != workers {
		return fmt.Errorf("it had %d workers, now there are %d", len(files), workers)
	}
	var tables []*flow.Table
	flows := 0
	for i := range workers {
		mem, kept, err := m.memory(file(i), flow.MemorySize(size))
		if err != nil {
			return err
		}
		if !kept {
			return fmt.Errorf("the table of worker %d is not there, or not for %d entries of IPv4 and %d of IPv6", i, size.Four, size.Six)
		}
		t, err := flow.Adopt(mem, size, i)
		if err != nil {
			return err
		}
		tables = append(tables, t)
		flows += t.Len()
	}
	m.tables, m.adopted = tables, flows
	return nil
}

// create makes empty tables in new files. What adopt has mapped of old ones stays
// mapped until the end; that is once at most.
func (m *flowMemory) create(workers int, size flow.Size) error {
	if err := m.drop(); err != nil {
		return err
	}
	for i := range workers {
		mem, _, err := m.memory(file(i), flow.MemorySize(size))
		if err != nil {
			return err
		}
		var seed [8]byte
		_, _ = rand.Read(seed[:]) // never fails
		t, err := flow.New(mem, size, i, binary.NativeEndian.Uint64(seed[:]))
		if err != nil {
			return err
		}
		m.tables = append(m.tables, t)
	}
	return nil
}

// drop removes all files of flow tables.
func (m *flowMemory) drop() error {
	files, err := m.files()
	for _, name := range files {
		err = errors.Join(err, m.store.Drop(name))
	}
	return err
}

func file(worker int) string { return fmt.Sprint(workerFile, worker) }

// files lists the flow tables that there are.
func (m *flowMemory) files() (files []string, err error) {
	names, err := m.store.Names()
	for _, name := range names {
		if strings.HasPrefix(name, workerFile) {
			files = append(files, name)
		}
	}
	return files, err
}

func (m *flowMemory) close() error {
	var errs []error
	for _, mem := range m.mems {
		errs = append(errs, store.Free(mem))
	}
	m.mems, m.tables, m.clients = nil, nil, nil
	return errors.Join(errs...)
}
