package steer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ensureBPFFS makes dir a directory on a bpffs: pins live only there.
func ensureBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	on, err := onBPFFS(dir)
	if err != nil || on {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("bpffs", dir, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpffs on %s: %w", dir, err)
	}
	return nil
}

func onBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, err
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// Remove takes everything off the node again: attachments, maps and pins, and the
// bpffs if one is mounted on dir. Pods that still exist then speak to the host's
// stack; take them down first.
func Remove(dir string) error {
	if err := removePins(dir); err != nil {
		return fmt.Errorf("remove steering in %s: %w", dir, err)
	}
	return nil
}

func removePins(dir string) error {
	on, err := onBPFFS(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil || !on {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch at, is := parsePin(f.Name()); {
		case is:
			err = errors.Join(err, removeHold(path, at), os.Remove(path))
		case slices.Contains(mapNames, f.Name()), slices.Contains(cacheMaps, f.Name()):
			err = errors.Join(err, os.Remove(path))
		} // else it is the kernel's (maps.debug) or not ours
	}
	if uerr := unix.Unmount(dir, 0); uerr != nil && !errors.Is(uerr, unix.EINVAL) { // EINVAL: dir is no mount point
		err = errors.Join(err, fmt.Errorf("unmount: %w", uerr))
	}
	return errors.Join(err, os.Remove(dir))
}
