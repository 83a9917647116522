package veth

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Tap is a host end that carries our alias.
type Tap struct {
	Name  string
	Index int
	Owner Owner
}

// Remove deletes the owner's pair, wherever a part of it is left; the kernel
// deletes one end with the other. hint is the tap's probable name. Only what is
// provably ours goes: a foreign interface of the pod's name stays.
func (e *Ends) Remove(o Owner, hint string) (removed string, err error) {
	for _, find := range []func(Owner, string) (netlink.Link, error){e.tapNamed, e.tapBehind, e.tapAliased} {
		tap, err := find(o, hint)
		if err != nil {
			return "", err
		}
		if tap == nil {
			continue
		}
		if err := e.delete(tap, o); err != nil && !errors.Is(err, syscall.ENODEV) {
			return "", fmt.Errorf("remove %s: %w", tap.Attrs().Name, err)
		}
		return tap.Attrs().Name, nil
	}
	return "", e.deleteTap(o)
}

// tapNamed is the quick way: one question to the kernel.
func (e *Ends) tapNamed(o Owner, hint string) (netlink.Link, error) {
	if hint == "" {
		return nil, nil
	}
	tap, err := lookup(e.host, hint)
	if err != nil || tap == nil || !o.holds(tap.Attrs().Alias) {
		return nil, err
	}
	return tap, nil
}

// tapBehind finds the peer of the pod's end. It is ours when it says so, or
// when it is the work of an ADD that was killed before it could.
func (e *Ends) tapBehind(o Owner, _ string) (netlink.Link, error) {
	if e.pod == nil {
		return nil, nil
	}
	pod, err := lookup(e.pod, o.Ifname)
	if err != nil || pod == nil || pod.Attrs().ParentIndex == 0 {
		return nil, err
	}
	tap, err := e.host.LinkByIndex(pod.Attrs().ParentIndex)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil // the peer is in a third namespace: not ours
	}
	if err != nil {
		return nil, err
	}
	mine := o.holds(tap.Attrs().Alias) || (unfinished(tap) && strings.HasPrefix(tap.Attrs().Name, "tap"))
	if !mine || !o.crossed(tap, pod) {
		return nil, nil
	}
	return tap, nil
}

// tapAliased reads all links: for a pod whose namespace is gone.
func (e *Ends) tapAliased(o Owner, _ string) (netlink.Link, error) {
	links, err := e.links()
	for _, link := range links {
		if o.holds(link.Attrs().Alias) {
			return link, nil
		}
	}
	return nil, err
}

// Taps returns every host end that is ours.
func (e *Ends) Taps() ([]Tap, error) {
	links, err := e.links()
	var taps []Tap
	for _, link := range links {
		if o, ok := ParseOwner(link.Attrs().Alias); ok && (link.Type() == "veth" || isTap(link)) {
			taps = append(taps, Tap{link.Attrs().Name, link.Attrs().Index, o})
		}
	}
	return taps, err
}

// links lists the host's links. A list during which links came or went may
// lack some, and is read again.
func (e *Ends) links() (links []netlink.Link, err error) {
	for range 20 {
		if links, err = e.host.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}
