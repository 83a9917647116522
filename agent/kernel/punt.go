package kernel

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/link/steer"
)

// EnsurePunt makes the punt link as package steer asks for it. A link with
// another number of queues is made anew, which a running fast path does not
// survive: recreated says so.
func EnsurePunt(workers int) (recreated bool, err error) {
	if l, err := netlink.LinkByName(steer.PuntOuter); err == nil && l.Attrs().NumTxQueues != workers {
		if err := netlink.LinkDel(l); err != nil {
			return false, fmt.Errorf("punt link: delete %s with %d queues: %w", steer.PuntOuter, l.Attrs().NumTxQueues, err)
		}
		recreated = true
	}
	if err := createPunt(workers); err != nil {
		return recreated, fmt.Errorf("punt link: create %s: %w", steer.PuntOuter, err)
	}
	if err := tunePunt(workers); err != nil {
		return recreated, fmt.Errorf("punt link: %w", err)
	}
	return recreated, nil
}

func createPunt(workers int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.TxQLen = steer.PuntOuter, steer.PuntMTU, steer.PuntQueueLength
	attrs.NumTxQueues, attrs.NumRxQueues = workers, workers
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: steer.PuntInner, PeerMTU: steer.PuntMTU,
		PeerNumTxQueues: uint32(workers), PeerNumRxQueues: uint32(workers),
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// tunePunt brings both ends into the wanted state and up.
func tunePunt(workers int) error {
	for _, name := range []string{steer.PuntOuter, steer.PuntInner} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := silence(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if l.Attrs().MTU != steer.PuntMTU {
			if err := netlink.LinkSetMTU(l, steer.PuntMTU); err != nil {
				return fmt.Errorf("%s: set MTU %d: %w", name, steer.PuntMTU, err)
			}
		}
	}
	if err := segmentEarly(steer.PuntOuter); err != nil {
		return err
	}
	for _, name := range []string{steer.PuntOuter, steer.PuntInner} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("%s: set up: %w", name, err)
		}
	}
	return queueOn(steer.PuntOuter, workers)
}

// segmentEarly switches transmit checksumming off, and with it segmentation
// offload: the kernel completes both before a worker sees the frame.
func segmentEarly(name string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	defer e.Close()
	have, err := e.Features(name)
	if err != nil {
		return fmt.Errorf("%s: read features: %w", name, err)
	}
	off := map[string]bool{}
	for _, f := range []string{"tx-checksum-ip-generic", "tx-checksum-sctp"} {
		if have[f] {
			off[f] = false
		}
	}
	if len(off) == 0 {
		return nil
	}
	if err := e.Change(name, off); err != nil {
		return fmt.Errorf("%s: switch transmit checksumming off: %w", name, err)
	}
	return nil
}

// queueOn puts a real queueing discipline on the device: the ring of a veth has 256
// slots, and a burst of segments is longer.
func queueOn(name string, workers int) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	var q netlink.Qdisc = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "pfifo"}
	if workers > 1 {
		q = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "mq"}
	}
	have, err := netlink.QdiscList(l)
	if err != nil {
		return fmt.Errorf("%s: list queueing disciplines: %w", name, err)
	}
	for _, h := range have {
		if h.Attrs().Parent == netlink.HANDLE_ROOT && h.Type() == q.Type() {
			return nil
		}
	}
	if err := netlink.QdiscReplace(q); err != nil {
		return fmt.Errorf("%s: set queueing discipline %s: %w", name, q.Type(), err)
	}
	return nil
}

// RemovePunt deletes the punt link.
func RemovePunt() error { return DeleteTap(steer.PuntOuter) }
