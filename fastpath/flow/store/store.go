// Package store keeps memory that outlives its process: mapped files of a tmpfs, in
// huge pages where the kernel has them. Whoever holds the lock of the run directory owns all of it. It does not know what
// is in the memory, nor whether that is still of use.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Store is a directory of memories. They end with the machine at the latest.
type Store struct {
	dir string // "": with the process
}

// Open opens the store in dir, which is on a tmpfs: that of the directory it is in,
// or else one that is mounted there, as the bpffs of the pins is.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	on, err := onTmpfs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", dir, err)
	}
	if !on {
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("vragent", dir, "tmpfs", flags, "mode=0700"); err != nil {
			return nil, fmt.Errorf("store: mount a tmpfs on %s: %w", dir, err)
		}
	}
	return &Store{dir}, nil
}

// Private is a store whose memories end with the process.
func Private() *Store { return &Store{} }

func onTmpfs(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, err
	}
	return st.Type == unix.TMPFS_MAGIC, nil
}

// Memory maps size bytes: what a predecessor left under name, if it is just as
// large, or else zeroes. All of it is allocated, so that a tmpfs that is full says
// so here and not by a fault later, and mapped: a fault costs more than a flow's set-up.
func (s *Store) Memory(name string, size int) (mem []byte, kept bool, err error) {
	if s.dir == "" {
		if mem, err = mapHuge(-1, size, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
			return nil, false, fmt.Errorf("store: %w", err)
		}
		return mem, false, nil
	}
	f, kept, err := s.open(name, int64(size))
	if err != nil {
		return nil, false, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	if mem, err = mapHuge(int(f.Fd()), size, unix.MAP_SHARED); err != nil {
		return nil, false, fmt.Errorf("store: %s: %w", name, err)
	}
	return mem, kept, nil
}

// open opens a file of that size. One of another size is replaced, not cut: a
// process that has it mapped would fall.
func (s *Store) open(name string, size int64) (f *os.File, kept bool, err error) {
	path := filepath.Join(s.dir, name)
	if f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0); err == nil {
		if st, err := f.Stat(); err == nil && st.Size() == size && st.Mode().IsRegular() {
			return f, true, nil
		}
		_ = f.Close()
	}
	if err := s.Drop(name); err != nil {
		return nil, false, err
	}
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, false, err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return nil, false, errors.Join(fmt.Errorf("%d bytes for %s: %w", size, path, err), f.Close(), s.Drop(name))
	}
	return f, false, nil
}

// Drop forgets what is under name. Who has it mapped keeps it.
func (s *Store) Drop(name string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Names lists what there is.
func (s *Store) Names() (names []string, err error) {
	if s.dir == "" {
		return nil, nil
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names, nil
}

// Remove takes the store in dir off the node, and the tmpfs if one is mounted there.
func Remove(dir string) error {
	on, err := onTmpfs(dir)
	if errors.Is(err, unix.ENOENT) || err == nil && !on {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove store %s: %w", dir, err)
	}
	s := &Store{dir}
	names, err := s.Names()
	for _, name := range names {
		err = errors.Join(err, s.Drop(name))
	}
	if uerr := unix.Unmount(dir, 0); uerr != nil && !errors.Is(uerr, unix.EINVAL) { // EINVAL: dir is no mount point
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", dir, uerr))
	}
	return errors.Join(err, os.Remove(dir))
}
