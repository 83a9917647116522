package verbs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/plugin/veth"
)

// spoolPath is where a detachment waits for the agent: runDir/detach.
func spoolPath(runDir string, o veth.Owner) string {
	return filepath.Join(runDir, "detach", o.ContainerID+"-"+o.Ifname+".json")
}

// spool leaves a detachment for the agent. The file appears whole or not at
// all; what does not end in .json is not to be read.
func spool(runDir string, d *rpc.Detach) error {
	path := spoolPath(runDir, veth.Owner{ContainerID: d.ContainerID, Ifname: d.Ifname})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("leave a note for the agent: %w", err)
	}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("leave a note for the agent: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".detach-*.tmp")
	if err != nil {
		return fmt.Errorf("leave a note for the agent: %w", err)
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("leave a note for the agent: %w", err)
	}
	return nil
}

// unspool takes a note back.
func unspool(runDir string, o veth.Owner) error {
	if err := os.Remove(spoolPath(runDir, o)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("take back a note to the agent: %w", err)
	}
	return nil
}
