// Package lease keeps on disk which blocks of addresses each node holds. The
// File owns its directory: a lock keeps a second controller out. It does not
// decide who gets what (controller/plan), and in a cluster IPBlocks stand in
// for it.
package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/vragent/vragent/controller/plan"
)

const (
	fileName = "leases.json"
	lockName = "lock"
	version  = 1
)

// File is the durable list of leases.
type File struct {
	// Set once by Open
	dir     string
	lock    *os.File
	changed chan struct{}

	// Guarded by mu
	mu     sync.Mutex
	leases []plan.Lease // as they are on disk
}

// document is the file's content.
type document struct {
	Version int     `json:"version"`
	Leases  []entry `json:"leases"`
}

type entry struct {
	Network string       `json:"network"`
	Node    string       `json:"node"`
	Prefix  netip.Prefix `json:"prefix"`
}

// Open takes the directory for this controller and reads the leases. A file
// that cannot be read as a whole is refused, never replaced: addresses that
// pods use would be given to others.
func Open(dir string) (*File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("state directory %s is in use by another controller: %w", dir, err)
	}
	f := &File{dir: dir, lock: lock, changed: make(chan struct{}, 1)}
	if f.leases, err = f.read(); err != nil {
		lock.Close()
		return nil, err
	}
	return f, nil
}

// Leases are those on disk. The list is not to be changed.
func (f *File) Leases() []plan.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leases
}

// Keep makes the leases of a plan durable: when it returns nil they are on disk,
// and what is given up is not.
func (f *File) Keep(out *plan.Output) error {
	if len(out.Leases.Create)+len(out.Leases.Delete) == 0 {
		return nil
	}
	leases := slices.DeleteFunc(slices.Clone(f.Leases()), func(l plan.Lease) bool { return slices.Contains(out.Leases.Delete, l) })
	leases = append(leases, out.Leases.Create...)
	if err := plan.CheckLeases(leases); err != nil {
		return fmt.Errorf("save block leases: %w", err)
	}
	if err := f.save(leases); err != nil {
		return err
	}
	f.mu.Lock()
	f.leases = leases
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default: // one is already waiting: it covers this change too
	}
	return nil
}

// Changes has a value when Leases may say something new.
func (f *File) Changes() <-chan struct{} { return f.changed }

// Problems has none: Keep says at once what is wrong.
func (f *File) Problems() []plan.Problem { return nil }

// Close lets the directory go.
func (f *File) Close() error { return f.lock.Close() }

func (f *File) path() string { return filepath.Join(f.dir, fileName) }

func (f *File) read() ([]plan.Lease, error) {
	b, err := os.ReadFile(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var leases []plan.Lease
		if leases, err = decode(b); err == nil {
			return leases, nil
		}
	}
	return nil, fmt.Errorf("block leases in %s cannot be used: %w; restore the file, or remove it only when no node is running pods", f.path(), err)
}

func decode(b []byte) ([]plan.Lease, error) {
	var doc document
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the end of the document")
	}
	if doc.Version != version {
		return nil, fmt.Errorf("version %d is not %d", doc.Version, version)
	}
	leases := make([]plan.Lease, len(doc.Leases))
	for i, e := range doc.Leases {
		leases[i] = plan.Lease(e)
	}
	return leases, plan.CheckLeases(leases)
}

// save replaces the list. When it returns nil, the new list is on disk; after
// an error it is the old one or the new one, whole either way.
func (f *File) save(leases []plan.Lease) error {
	doc := document{Version: version, Leases: make([]entry, len(leases))}
	for i, l := range leases {
		doc.Leases[i] = entry(l)
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err == nil {
		err = f.replace(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save block leases: %w", err)
	}
	return nil
}

// replace writes a new file beside the old one, syncs it, and renames.
func (f *File) replace(b []byte) error {
	t, err := os.CreateTemp(f.dir, fileName+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // fails once renamed, as it should
	defer t.Close()
	if _, err := t.Write(b); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), f.path()); err != nil {
		return err
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
