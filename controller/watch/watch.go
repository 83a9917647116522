// Package watch reads the cluster from a directory of Kubernetes manifests and
// follows its changes. A Directory's Run owns the files' last good contents;
// what others see is an immutable plan.Cluster. It does not judge what the
// objects mean together (controller/plan).
package watch

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/vragent/vragent/controller/plan"
)

const (
	calmAfter = 100 * time.Millisecond // without an event: the writer has finished
	calmLimit = time.Second            // read even if events go on
	lookAgain = 2 * time.Second        // in case an event was missed, or the directory replaced
)

// Directory is a source of the cluster's objects.
type Directory struct {
	// Set once by New
	dir     string
	log     *slog.Logger
	changed chan struct{}

	// Owned by Run
	files map[string]*file
	born  map[objectKey]time.Time // creation times of what is known
	ready bool                    // every file was good at least once

	// Written by Run, read by anyone
	state atomic.Pointer[state]
}

type state struct {
	cluster  *plan.Cluster
	problems []plan.Problem
}

// file is what is known of one file.
type file struct {
	read  fs.FileInfo   // as it was when it was read last
	good  *plan.Cluster // last content without fault; nil: none yet
	fault error         // of the content that is there now
}

// New makes a source that knows nothing until it runs.
func New(dir string, log *slog.Logger) *Directory {
	d := &Directory{dir: dir, log: log, changed: make(chan struct{}, 1), files: map[string]*file{}}
	d.state.Store(&state{})
	return d
}

// Read reads the directory once. Without a cluster something is broken; the
// problems say what.
func Read(dir string) (*plan.Cluster, []plan.Problem) {
	d := New(dir, slog.New(slog.DiscardHandler))
	d.refresh()
	return d.Cluster(), d.Problems()
}

// Cluster is what the manifests say; nil until all of them could be read once.
func (d *Directory) Cluster() *plan.Cluster { return d.state.Load().cluster }

// Fresh is always so: whoever writes the files, nobody else reads them.
func (d *Directory) Fresh() bool { return true }

// Problems are the files' faults and what does not go together.
func (d *Directory) Problems() []plan.Problem { return slices.Clone(d.state.Load().problems) }

// Changes has a value when Cluster or Problems may say something new.
func (d *Directory) Changes() <-chan struct{} { return d.changed }

// Run follows the directory until the context ends.
func (d *Directory) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", d.dir, err)
	}
	defer w.Close()
	_ = w.Add(d.dir) // a directory that is not there yet is reported by refresh and tried again
	d.refresh()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			calm(ctx, w)
		case err := <-w.Errors:
			d.log.Warn("watch", "dir", d.dir, "error", err)
		case <-tick.C:
			_ = w.Add(d.dir)
		}
		d.refresh()
	}
}

// calm waits until the writer has finished: editors and atomic replacements
// make several events.
func calm(ctx context.Context, w *fsnotify.Watcher) {
	end := time.After(calmLimit)
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-w.Events:
		case <-time.After(calmAfter):
			return
		}
	}
}

// refresh reads what has changed and publishes the outcome.
func (d *Directory) refresh() {
	changed, err := d.scan()
	if err != nil {
		last := d.state.Load()
		p := plan.Problem{Object: "Manifests " + d.dir, Sentence: err.Error()}
		if last.cluster != nil {
			p.Sentence += "; what was read last stays in force"
		}
		if !slices.Contains(last.problems, p) {
			d.publish(last.cluster, []plan.Problem{p})
		}
		return
	}
	if !changed && d.state.Load().problems == nil && d.ready {
		return
	}
	m := merge(d.files)
	d.born = m.born
	for name, f := range d.files {
		if f.fault != nil {
			m.problems = append(m.problems, fault(name, f))
		}
	}
	if !d.ready {
		d.ready = !slices.ContainsFunc(mapValues(d.files), func(f *file) bool { return f.good == nil })
	}
	slices.SortFunc(m.problems, func(a, b plan.Problem) int {
		return strings.Compare(a.Object+"\x00"+a.Sentence, b.Object+"\x00"+b.Sentence)
	})
	if !d.ready {
		m.out = nil
	}
	if last := d.state.Load(); changed || !slices.Equal(last.problems, m.problems) {
		d.publish(m.out, m.problems)
	}
}

func fault(name string, f *file) plan.Problem {
	p := plan.Problem{Object: "Manifest " + name, Sentence: f.fault.Error()}
	if f.good != nil {
		p.Sentence += "; its last good content stays in force"
	}
	return p
}

func mapValues(files map[string]*file) []*file {
	out := make([]*file, 0, len(files))
	for _, f := range files {
		out = append(out, f)
	}
	return out
}

func (d *Directory) publish(c *plan.Cluster, problems []plan.Problem) {
	d.state.Store(&state{c, problems})
	select {
	case d.changed <- struct{}{}:
	default: // one is already waiting: it covers this change too
	}
}

// Manifests are the files of a directory that are read, by name.
func Manifests(dir string) (map[string]fs.FileInfo, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, not a directory", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	present := map[string]fs.FileInfo{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name)) // follows links, as in mounted ConfigMaps
		if err != nil || !info.Mode().IsRegular() {
			continue // gone between the two calls, or no file
		}
		present[name] = info
	}
	return present, nil
}

// scan brings files up to date with the directory.
func (d *Directory) scan() (changed bool, err error) {
	present, err := Manifests(d.dir)
	if err != nil {
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(present)) {
		changed = d.load(name, present[name]) || changed
	}
	for name := range d.files {
		if present[name] == nil {
			delete(d.files, name)
			d.log.Info("manifest removed", "file", name)
			changed = true
		}
	}
	return changed, nil
}

// load reads a file if it is not the one that was read last. A fault leaves
// the last good content in force.
func (d *Directory) load(name string, info fs.FileInfo) bool {
	f := d.files[name]
	if f != nil && os.SameFile(f.read, info) && f.read.Size() == info.Size() && f.read.ModTime().Equal(info.ModTime()) {
		return false
	}
	if f == nil {
		f = &file{}
		d.files[name] = f
	}
	f.read = info
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		f.fault = err
		return true
	}
	c, err := parse(text, func(k objectKey) time.Time {
		if t, known := d.born[k]; known {
			return t
		}
		return info.ModTime()
	})
	f.fault = err
	if err == nil {
		f.good = c
		d.log.Info("manifest read", "file", name, "pods", len(c.Pods), "services", len(c.Services), "endpointSlices", len(c.Slices))
	}
	return true
}
