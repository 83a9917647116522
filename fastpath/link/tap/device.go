package tap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flags of the device: frames without a prefix of their own but the virtio header,
// one queue per worker, and, for what we write, the kernel's receive path of a network
// card, which merges segments before the pod's stack sees them.
const flags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_NAPI

// What a pod may leave to us. USO came with Linux 6.2; without it the pod cuts itself.
const (
	offloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	offloadsUSO = offloads | unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// ErrGone says that there is no such device, or no such namespace, or that what is there
// is of another kind: a pod's own affair, which no other pod is to suffer from.
var ErrGone = errors.New("there is no such tap")

// OpenQueues opens so many queues of the tap name in the network namespace at path;
// an empty path stands for this one. The device must be there: package veth makes it,
// to stay when all its queues are closed. It has a carrier while one is open. A queue
// keeps the namespace alive: the kernel's socket behind it is of there.
func OpenQueues(path, name string, queues int) (fds []int, err error) {
	err = in(path, func() error {
		for range queues {
			fd, err := openQueue(name)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open tap %s in %s: %w", name, path, err), CloseQueues(fds))
	}
	return fds, nil
}

// Serves reports whether a queue still leads to a device of the namespace at path, as
// OpenQueues found it there: either may have been made anew since.
func Serves(fd int, path string) bool {
	var req unix.Ifreq
	if unix.IoctlIfreq(fd, unix.TUNGETIFF, &req) != nil {
		return false // EBADFD: its device is gone
	}
	if path == "" {
		return true
	}
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if err != nil {
		return false
	}
	defer unix.Close(ns)
	var has, want unix.Stat_t
	return unix.Fstat(ns, &has) == nil && unix.Stat(path, &want) == nil && has.Dev == want.Dev && has.Ino == want.Ino
}

// Dropped is how many of the pod's packets the tap name in the namespace at path has
// dropped because the queue was full.
func Dropped(path, name string) (n uint64, err error) {
	err = in(path, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		n, err = txDropped(string(text), name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("counters of tap %s in %s: %w", name, path, err)
	}
	return n, nil
}

// txDropped reads the fourth of the transmit counters, which follow eight of reception.
func txDropped(dev, name string) (uint64, error) {
	for line := range strings.Lines(dev) {
		if device, counters, _ := strings.Cut(line, ":"); strings.TrimSpace(device) == name {
			if f := strings.Fields(counters); len(f) > 11 {
				return strconv.ParseUint(f[11], 10, 64)
			}
		}
	}
	return 0, ErrGone
}

// CloseQueues closes what OpenQueues opened.
func CloseQueues(fds []int) (err error) {
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

func openQueue(name string) (fd int, err error) {
	// TUNSETIFF would make a device that is not there, and it would go with us.
	if err := exists(name); err != nil {
		return -1, fmt.Errorf("%w: %w", ErrGone, err)
	}
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(flags)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			err = fmt.Errorf("%w: %w", ErrGone, err)
		}
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloadsUSO)
		if errors.Is(err, unix.EINVAL) {
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
		}
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func exists(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
}

// in runs do in the network namespace at path. A thread that does not find its way
// back stays locked to its goroutine, and ends with it.
func in(path string, do func() error) error {
	if path == "" {
		return do()
	}
	runtime.LockOSThread()
	back, err := visit(path, do)
	if back {
		runtime.UnlockOSThread()
	}
	return err
}

func visit(path string, do func() error) (back bool, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, err
	}
	defer unix.Close(home)
	there, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return true, fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return true, err
	}
	defer unix.Close(there)
	err = unix.Setns(there, unix.CLONE_NEWNET)
	if errors.Is(err, unix.EINVAL) { // a file is where the namespace was
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return true, fmt.Errorf("enter the namespace: %w", err)
	}
	err = do()
	return unix.Setns(home, unix.CLONE_NEWNET) == nil, err
}

// pointer is for system calls: what it points to is a part of a Set, which stays where it is.
func pointer[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }
