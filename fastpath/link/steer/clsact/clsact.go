// Package clsact attaches programs where a kernel has no tcx (before Linux 6.6): as a
// filter of the device's clsact queueing discipline, which runs them at the same point.
// Filters belong to their devices and outlive every process; a Socket is one caller's
// way to them. It does not pin anything, and knows nothing of what programs do.
package clsact

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Socket asks the kernel about the devices of one network namespace: that of the
// thread that opened it. It is for any goroutine.
type Socket struct{ h *netlink.Handle }

// Open opens a socket.
func Open() (*Socket, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Socket{h}, nil
}

// Close closes the socket. Filters stay.
func (s *Socket) Close() { s.h.Close() }

// Filter is where a program is, or is to be: at what a device receives, under a name.
type Filter struct {
	*Socket
	Ifindex int
	Name    string
}

// Ours among the filters of a device: before those of others with the priorities that
// the kernel chooses, and at none that somebody would.
const (
	priority = 1
	handle   = 0x7672 // "vr"
)

// prefix begins the names of our filters.
const prefix = "vragent-"

// Put makes p run on everything that the device receives. The program that was there
// under the name is replaced, no frame passing between.
func (f Filter) Put(p *ebpf.Program) error {
	err := f.h.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: f.Ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("queueing discipline clsact: %w", err)
	}
	_, other, err := f.find()
	if err != nil {
		return err
	}
	if other != "" && !strings.HasPrefix(other, prefix) {
		return fmt.Errorf("another filter, %q, has our handle %#x at priority %d", other, handle, priority)
	}
	if err := f.h.FilterReplace(f.filter(p.FD())); err != nil {
		return fmt.Errorf("filter at priority %d: %w", priority, err)
	}
	return nil
}

func (f Filter) filter(fd int) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: f.Ifindex, Parent: netlink.HANDLE_MIN_INGRESS, Handle: handle, Protocol: unix.ETH_P_ALL, Priority: priority,
		},
		Fd: fd, Name: prefix + f.Name, DirectAction: true,
	}
}

// Running is the program that the device runs under the name; 0: none, or the device
// is gone.
func (f Filter) Running() (ebpf.ProgramID, error) {
	id, _, err := f.find()
	return id, err
}

// find looks for our filter, or for the name of another that has its place.
func (f Filter) find() (id ebpf.ProgramID, other string, err error) {
	all, err := f.list(netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return 0, "", err
	}
	for _, x := range all {
		b, ok := x.(*netlink.BpfFilter)
		switch {
		case !ok || b.Handle != handle || b.Priority != priority:
		case b.Name == prefix+f.Name:
			return ebpf.ProgramID(b.Id), "", nil
		default:
			return 0, b.Name, nil
		}
	}
	return 0, "", nil
}

func (f Filter) list(parent uint32) ([]netlink.Filter, error) {
	all, err := f.h.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: f.Ifindex}}, parent)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filters: %w", err)
	}
	return all, nil
}

// Remove takes the program off the device, and the queueing discipline too if nothing
// else is in it. Nothing there is no error.
func (f Filter) Remove() error {
	id, _, err := f.find()
	if err != nil || id == 0 {
		return err
	}
	if err := f.h.FilterDel(f.filter(-1)); err != nil {
		return fmt.Errorf("delete filter: %w", err)
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if others, err := f.list(parent); err != nil || len(others) > 0 {
			return err
		}
	}
	err = f.h.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: f.Ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil {
		return fmt.Errorf("delete queueing discipline clsact: %w", err)
	}
	return nil
}
