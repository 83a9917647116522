package engine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// devices asks the kernel about one device at a time. Package net would have it list
// all devices of the node, those of pods included, and make garbage of each.
type devices struct{ fd int }

func openDevices() (devices, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return devices{}, fmt.Errorf("socket to ask about devices: %w", os.NewSyscallError("socket", err))
	}
	return devices{fd}, nil
}

func (d devices) close() { _ = unix.Close(d.fd) }

// errNoDevice says that there is no device of that index.
var errNoDevice = errors.New("no such network interface")

// up says whether a device is up.
func (d devices) up(index int) (bool, error) {
	req, err := unix.NewIfreq("")
	if err != nil {
		return false, err
	}
	req.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(d.fd, unix.SIOCGIFNAME, req); err != nil {
		return false, gone(err)
	}
	if err := unix.IoctlIfreq(d.fd, unix.SIOCGIFFLAGS, req); err != nil {
		return false, gone(err) // between the two
	}
	return req.Uint16()&unix.IFF_UP != 0, nil
}

func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return errNoDevice
	}
	return os.NewSyscallError("ioctl", err)
}
