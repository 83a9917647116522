package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/vragent/vragent/agent/rpc"
)

// Spool is the folder in which the plugin leaves detachments it could not
// deliver: one file each, <container>-<interface>.json, that appears whole.
type Spool struct {
	dir string
	log *slog.Logger
}

// NewSpool names the spool of a run directory.
func NewSpool(runDir string, log *slog.Logger) *Spool {
	return &Spool{filepath.Join(runDir, "detach"), log}
}

// lookEvery is how often the folder is read. The plugin leaves a note only when
// it could not reach us, which is rare while we run.
const lookEvery = 2 * time.Second

// Run delivers notes until ctx is done, first of all those from before. The
// folder is there from now on, so that a note changes nothing else.
func (s *Spool) Run(ctx context.Context, node Answerer) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("spool of the plugin: %w", err)
	}
	s.Deliver(ctx, node)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Deliver(ctx, node)
		}
	}
}

// Deliver delivers every note there is. Those that cannot be carried out stay.
func (s *Spool) Deliver(ctx context.Context, node Answerer) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return // only a bad pattern does this
	}
	for _, path := range paths {
		d, err := readNote(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // taken back meanwhile
		case err != nil:
			s.log.Warn("note of the plugin is unreadable; it is kept aside", "file", path, "error", err)
			_ = os.Rename(path, path+".bad")
		default:
			s.deliver(ctx, node, path, d)
		}
	}
}

func (s *Spool) deliver(ctx context.Context, node Answerer, path string, d *rpc.Detach) {
	if r := node.Answer(ctx, &rpc.Request{Detach: d}); r.Error != nil {
		s.log.Warn("note of the plugin cannot be carried out yet", "file", path, "error", r.Error)
		return
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("note of the plugin cannot be removed", "file", path, "error", err)
		return
	}
	s.log.Info("carried out a detachment from before", "container", d.ContainerID, "ifname", d.Ifname)
}

func readNote(path string) (*rpc.Detach, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var d rpc.Detach
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	if d.ContainerID == "" || d.Ifname == "" {
		return nil, fmt.Errorf("names no attachment")
	}
	return &d, nil
}
