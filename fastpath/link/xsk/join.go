package xsk

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// joinFor is how long the kernel keeps a TCP segment that others may follow. A worker says
// where they end, so this never passes; it is longer than the kernel's tick, since a timer
// that is the next to run out is set anew, at a price, for every segment.
const joinFor = 10 * time.Millisecond

// Join has the kernel join (GRO) consecutive TCP segments that sockets on the veth from
// send to its other end to, both by name, or stops it. Who sends them says where they end
// (package train): what nobody ends waits for joinFor.
func Join(from, to string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("join segments: %w", err)
	}
	defer unix.Close(fd)
	if on {
		err = errors.Join(
			ethtool(fd, from, unix.ETHTOOL_STSO, 0), // a veth joins nothing that may come whole
			ethtool(fd, to, unix.ETHTOOL_SGRO, 1))
		if err == nil {
			err = setAttribute(to, "gro_flush_timeout", int(joinFor))
		}
	} else {
		err = errors.Join(setAttribute(to, "gro_flush_timeout", 0), ethtool(fd, to, unix.ETHTOOL_SGRO, 0))
	}
	if err != nil {
		return fmt.Errorf("join segments: %w", err)
	}
	return nil
}

// ethtool gives a device another setting (struct ethtool_value).
func ethtool(fd int, device string, command, value uint32) error {
	setting := [2]uint32{command, value}
	var req struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	req.data = unsafe.Pointer(&setting)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
		return fmt.Errorf("ethtool %#x of %s: %w", command, device, e)
	}
	return nil
}

// setAttribute writes /sys/class/net/device/name, in a sysfs of our network namespace: the
// one that is mounted may be another's.
func setAttribute(device, name string, value int) error {
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	defer unix.Close(root)
	f, err := unix.Openat(root, "class/net/"+device+"/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", name, device, err)
	}
	defer unix.Close(f)
	if _, err := unix.Write(f, strconv.AppendInt(nil, int64(value), 10)); err != nil {
		return fmt.Errorf("%s of %s: %w", name, device, err)
	}
	return nil
}
