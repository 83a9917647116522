package store

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shm is a directory on a tmpfs that every Linux has.
func shm(t *testing.T) string {
	t.Helper()
	if on, err := onTmpfs("/dev/shm"); err != nil || !on {
		t.Skipf("needs a tmpfs on /dev/shm: %v", err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "flows")
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// memory maps until the end of the test.
func memory(t *testing.T, s *Store, name string, size int) (mem []byte, kept bool) {
	t.Helper()
	mem, kept, err := s.Memory(name, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Free(mem); err != nil {
			t.Error(err)
		}
	})
	if len(mem) != size {
		t.Errorf("%d bytes, want %d", len(mem), size)
	}
	return mem, kept
}

// What one process wrote the next one finds; what does not fit it does not.
func TestSuccessor(t *testing.T) {
	dir := shm(t)
	s := open(t, dir)
	old, kept := memory(t, s, "a", 10_000)
	if kept || bytes.Count(old, []byte{0}) != len(old) {
		t.Error("new memory is not empty")
	}
	copy(old, "hello")

	next := open(t, dir)
	if mem, kept := memory(t, next, "a", 10_000); !kept || string(mem[:5]) != "hello" {
		t.Errorf("kept %v, found %q", kept, mem[:5])
	}
	if mem, kept := memory(t, next, "a", 20_000); kept || mem[0] != 0 {
		t.Errorf("memory of another size is kept: %v, %q", kept, mem[:5])
	}
	if string(old[:5]) != "hello" { // and did not fault
		t.Error("who had the old memory lost it")
	}
	if err := next.Drop("a"); err != nil {
		t.Fatal(err)
	}
	if _, kept := memory(t, next, "a", 20_000); kept {
		t.Error("what was dropped is kept")
	}
	memory(t, next, "b", 5000)
	if names, err := next.Names(); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names %v, %v", names, err)
	}
	st, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if err := Remove(dir); err != nil {
		t.Errorf("again: %v", err)
	}
}

// Where there is no tmpfs one is mounted, and taken away.
func TestMounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "flows")
	if on, err := onTmpfs(filepath.Dir(dir)); err != nil || on || os.Geteuid() != 0 {
		t.Skipf("needs root, and temporary files on a disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := open(t, dir)
	mem, _, err := s.Memory("a", 5000)
	if err != nil {
		t.Fatal(err)
	}
	mem[0] = 7
	if again, kept := memory(t, open(t, dir), "a", 5000); !kept || again[0] != 7 {
		t.Error("a second open does not find what the first left")
	}
	if err := Free(mem); err != nil {
		t.Fatal(err)
	}
}

// A tmpfs that is too small says so, and nothing half made stays.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := open(t, dir)
	if _, _, err := s.Memory("a", 1<<20); err == nil || !strings.Contains(err.Error(), "1048576 bytes for "+dir+"/a: no space left") {
		t.Errorf("error %v", err)
	}
	if names, _ := s.Names(); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestPrivate(t *testing.T) {
	s := Private()
	mem, kept := memory(t, s, "a", 5000)
	mem[0] = 7
	if again, keptToo := memory(t, s, "a", 5000); kept || keptToo || again[0] != 0 {
		t.Error("private memory is found again")
	}
	if names, err := s.Names(); err != nil || len(names) != 0 || s.Drop("a") != nil {
		t.Errorf("names %v, %v", names, err)
	}
	if _, err := Open("/dev/null/x"); err == nil {
		t.Error("opened a store in no directory")
	}
}
