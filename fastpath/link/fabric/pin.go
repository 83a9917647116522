package fabric

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/link"
)

// pinName begins the name of the pinned attachment's file; the ifindex follows.
const pinName = "take-"

// take attaches the program, or makes an attachment that is there run it. Other
// devices are left alone from now on.
func (f *Fabric) take(dir string) error {
	mine := pinName + strconv.Itoa(f.vif.Ifindex)
	if err := remove(dir, mine); err != nil {
		return err
	}
	path := filepath.Join(dir, mine)
	old, err := link.LoadPinnedLink(path, nil)
	if err == nil && attached(old) && old.Update(f.objects.Take) == nil {
		f.attach = old
		return nil
	}
	if err == nil {
		err = errors.Join(old.Unpin(), old.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take over %s: %w", path, err)
	}
	// Native: generic XDP sees frames only after the kernel made its own of them.
	l, err := link.AttachXDP(link.XDPOptions{Program: f.objects.Take, Interface: f.vif.Ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("attach: the driver has no native XDP, or another program is there: %w", err)
	}
	// Not pinned is not attached: should we die here, the kernel takes it off again.
	if err := l.Pin(path); err != nil {
		return errors.Join(fmt.Errorf("attach: %w", err), l.Close())
	}
	f.attach = l
	return nil
}

// Remove takes the program off every device it is on. Where dir is not there, there
// is nothing to do.
func Remove(dir string) error {
	if err := remove(dir, ""); err != nil {
		return fmt.Errorf("remove AF_XDP from the fabric: %w", err)
	}
	return nil
}

// remove detaches what is pinned in dir, but for the file keep.
func remove(dir, keep string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, file := range files {
		if file.Name() == keep || !strings.HasPrefix(file.Name(), pinName) {
			continue
		}
		path := filepath.Join(dir, file.Name())
		l, lerr := link.LoadPinnedLink(path, nil)
		if lerr != nil {
			err = errors.Join(err, lerr)
			continue
		}
		if attached(l) {
			err = errors.Join(err, l.Detach()) // unpinning is not enough while a process holds it
		}
		err = errors.Join(err, l.Unpin(), l.Close())
	}
	return err
}

// attached tells whether the device of l still exists; the link outlives it.
func attached(l link.Link) bool {
	i, err := l.Info()
	if err != nil {
		return false
	}
	x := i.XDP()
	return x != nil && x.Ifindex != 0
}
