package lease

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/controller/plan"
)

var some = []plan.Lease{
	{Network: "net", Node: "n1", Prefix: netip.MustParsePrefix("198.51.100.0/26")},
	{Network: "net", Node: "n2", Prefix: netip.MustParsePrefix("2001:db8::/122")},
}

func open(t *testing.T, dir string) (*File, []plan.Lease) {
	t.Helper()
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, f.Leases()
}

// keep is a plan that wants so.
func keep(f *File, create, giveUp []plan.Lease) error {
	return f.Keep(&plan.Output{Leases: plan.Leases{Create: create, Delete: giveUp}})
}

func TestLeasesSurvive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f, leases := open(t, dir)
	if len(leases) != 0 {
		t.Fatal(leases)
	}
	third := plan.Lease{Network: "net", Node: "n3", Prefix: netip.MustParsePrefix("198.51.100.64/26")}
	for _, change := range [][2][]plan.Lease{{some[:1]}, {{some[1], third}}, {nil, {third}}} {
		if err := keep(f, change[0], change[1]); err != nil {
			t.Fatal(err)
		}
		<-f.Changes()
	}
	if err := keep(f, nil, nil); err != nil || len(f.Changes()) != 0 {
		t.Error("a plan that changes nothing:", err)
	}
	if err := keep(f, []plan.Lease{{Network: "net", Node: "n4", Prefix: netip.MustParsePrefix("198.51.100.0/25")}}, nil); err == nil {
		t.Error("leases that overlap")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, leases = open(t, dir); !slices.Equal(leases, some) {
		t.Error(leases)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 { // the file and the lock, nothing half-written
		t.Error(entries, err)
	}
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func TestOneControllerAtATime(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "in use by another controller") {
		t.Error(err)
	}
}

func TestCorruptFilesAreRefusedAndKept(t *testing.T) {
	dir := t.TempDir()
	f, _ := open(t, dir)
	if err := keep(f, some, nil); err != nil {
		t.Fatal(err)
	}
	f.Close()
	path := filepath.Join(dir, fileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(good)
	for name, bad := range map[string]string{
		"empty":     "",
		"truncated": whole[:len(whole)/2],
		"doubled":   whole + whole,
		"version":   strings.Replace(whole, `"version": 1`, `"version": 2`, 1),
		"unknown":   strings.Replace(whole, `"node"`, `"host"`, 1),
		"prefix":    strings.Replace(whole, "100.0/26", "100.1/26", 1),
		"overlap":   strings.Replace(whole, "2001:db8::/122", "198.51.100.32/27", 1),
		"garbage":   "\x00\x01\x02",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(path); string(b) != bad {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir) // the lock was let go each time
}

func TestSaveSaysWhenItCannot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f, _ := open(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := keep(f, some, nil); err == nil || len(f.Leases()) != 0 {
		t.Error("saved into nothing")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"leases":[{"network":"net","node":"n1","prefix":"198.51.100.0/26"}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if leases, err := decode(b); err == nil && plan.CheckLeases(leases) != nil {
			t.Error("accepted what cannot be")
		}
	})
}
