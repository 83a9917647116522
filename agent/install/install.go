// Package install puts the plugin and its conflist where container runtimes look
// for them, and takes them away. The files of a node are the only state: what is
// there already is left as it is. It knows nothing of links and rules: see
// agent/kernel.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/vragent/vragent/conf"
)

// Where runtimes look unless configured otherwise.
const (
	BinDir  = "/opt/cni/bin"
	ConfDir = "/etc/cni/net.d"
)

// Files says what goes where.
type Files struct {
	Plugin   string // the plugin's binary, to be copied; empty: leave the one that is there
	BinDir   string
	Conflist string // to be copied, under its own name
	ConfDir  string
}

// Result says what was done.
type Result struct {
	Changed []string // files that are not what they were
	Warning string   // what keeps the runtime from using ours; empty: nothing
}

// Install copies the plugin and then, as the last thing, the conflist: from then
// on the runtime holds the node for ready. Each appears whole. Repeating it
// changes nothing.
func (f Files) Install() (*Result, error) {
	r := &Result{}
	list, err := os.ReadFile(f.Conflist)
	if err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	if err := conf.CheckCNIList(f.Conflist, list); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	if f.Plugin != "" {
		plugin, err := os.ReadFile(f.Plugin)
		if err != nil {
			return nil, fmt.Errorf("install: %w", err)
		}
		if err := r.place(f.BinDir, conf.CNIType, plugin, 0o755); err != nil {
			return nil, fmt.Errorf("install the plugin: %w", err)
		}
	}
	if err := r.place(f.ConfDir, filepath.Base(f.Conflist), list, 0o644); err != nil {
		return nil, fmt.Errorf("install the conflist: %w", err)
	}
	if first, err := First(f.ConfDir); err == nil && first != filepath.Base(f.Conflist) {
		r.Warning = fmt.Sprintf("%s sorts before %s: the runtime takes that one", filepath.Join(f.ConfDir, first), filepath.Base(f.Conflist))
	}
	return r, nil
}

// Uninstall removes the conflist, so that no more pods are given to us, and then
// the plugin.
func (f Files) Uninstall() (*Result, error) {
	r := &Result{}
	for _, file := range []string{filepath.Join(f.ConfDir, filepath.Base(f.Conflist)), filepath.Join(f.BinDir, conf.CNIType)} {
		switch err := os.Remove(file); {
		case err == nil:
			r.Changed = append(r.Changed, file)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("uninstall: %w", err)
		}
	}
	return r, nil
}

// place makes a file of a directory what it should be, by a rename: a runtime
// that reads the directory at any moment sees the old one or the new one.
func (r *Result) place(dir, name string, content []byte, mode fs.FileMode) error {
	file := filepath.Join(dir, name)
	if there(file, content, mode) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+name+"-*") // a name that neither runtimes nor shells take
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	r.Changed = append(r.Changed, file)
	return nil
}

func there(file string, content []byte, mode fs.FileMode) bool {
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != mode {
		return false
	}
	now, err := os.ReadFile(file)
	return err == nil && bytes.Equal(now, content)
}

// First returns the configuration a runtime takes: the first by name.
func First(confDir string) (string, error) {
	entries, err := os.ReadDir(confDir)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%s has no CNI configuration", confDir)
	}
	return slices.Min(names), nil
}
