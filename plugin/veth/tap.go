package veth

import (
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

// A tap has no other half in the kernel: frames go to whoever opens its queues, and
// that is the fast path. So the pod's end is made where it shall be, to stay when
// nobody has it open; and the host's is made for the agent, which knows, marks and
// watches interfaces there.

// tapQueue is how many packets of a pod wait for a worker, in each queue: as many as in
// a veth. Here they may have 64 KiB each, which nobody is charged for.
const tapQueue = 256

func isTap(l netlink.Link) bool { return l.Type() == "tuntap" }

// createTaps makes the pod's end, then the host's. Who dies between the two leaves a
// pod's end that is down and has nothing to do with any other.
func (e *Ends) createTaps(p *Plan) (tap, pod netlink.Link, err error) {
	err = e.podNS.Do(func(ns.NetNS) error {
		return addTap(p.Owner.Ifname, netlink.TUNTAP_NO_PI|netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("create tap %s in the pod: %w", p.Owner.Ifname, err)
	}
	if pod, err = e.pod.LinkByName(p.Owner.Ifname); err != nil {
		return nil, nil, fmt.Errorf("find %s in the pod: %w", p.Owner.Ifname, err)
	}
	if err = e.pod.LinkSetAlias(pod, p.Owner.String()); err != nil {
		_ = e.pod.LinkDel(pod)
		return nil, nil, fmt.Errorf("set the alias of %s: %w", p.Owner.Ifname, err)
	}
	pod.Attrs().Alias = p.Owner.String()
	if err = e.pod.LinkSetTxQLen(pod, tapQueue); err != nil {
		_ = e.pod.LinkDel(pod)
		return nil, nil, fmt.Errorf("set the length of the queues of %s: %w", p.Owner.Ifname, err)
	}
	if err = addTap(p.Tap, netlink.TUNTAP_NO_PI); err == nil {
		tap, err = e.host.LinkByName(p.Tap)
	}
	if err != nil {
		_ = e.pod.LinkDel(pod)
		return nil, nil, fmt.Errorf("create tap %s: %w", p.Tap, err)
	}
	return tap, pod, nil
}

// remains: the pod's end is one of ours whose other end is not there yet, or was removed
// where nobody reached the pod.
func (p *Plan) remains(pod netlink.Link) bool {
	return isTap(pod) && (p.Owner.holds(pod.Attrs().Alias) || p.IO == IOTap && unfinished(pod))
}

// addTap makes a tap in the namespace of the calling thread.
func addTap(name string, flags netlink.TuntapFlag) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	t := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: flags}
	err := netlink.LinkAdd(t)
	for _, f := range t.Fds {
		_ = f.Close()
	}
	return err
}

// delete removes both ends. The kernel does it for a veth; the pod's end of a tap goes
// first, so that the other, which says whose it is, is there while it is.
func (e *Ends) delete(tap netlink.Link, o Owner) error {
	if isTap(tap) {
		if err := e.deleteTap(o); err != nil {
			return err
		}
	}
	return e.host.LinkDel(tap)
}

// deleteTap removes the pod's end of a tap, if that is what it is, and ours.
func (e *Ends) deleteTap(o Owner) error {
	if e.pod == nil {
		return nil
	}
	pod, err := lookup(e.pod, o.Ifname)
	if err == nil && pod != nil && isTap(pod) && o.holds(pod.Attrs().Alias) {
		err = e.pod.LinkDel(pod)
	}
	if err != nil {
		return fmt.Errorf("remove %s in the pod: %w", o.Ifname, err)
	}
	return nil
}
