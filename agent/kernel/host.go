package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/table"
)

// The routers of every network: what pods and the host send through.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.MustParseAddr("fe80::1")
)

// HostTap is the fast path's end of the host's interface.
func HostTap(name string) string { return "tap" + name[:min(len(name), 12)] }

// EnsureHost makes the veth pair that joins the node itself to its network. name is
// the node's end; the other end belongs to the fast path and stays down until
// HostUp: no frame may come before it is steered.
func EnsureHost(name string, mtu int) (compile.Host, error) {
	tap := HostTap(name)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumTxQueues, attrs.NumRxQueues = name, mtu, 1, 1
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: tap, PeerMTU: uint32(mtu), PeerNumTxQueues: 1, PeerNumRxQueues: 1})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return compile.Host{}, fmt.Errorf("host interface %s: create: %w", name, err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return compile.Host{}, fmt.Errorf("host interface %s: %w", name, err)
	}
	t, err := netlink.LinkByName(tap)
	if err != nil {
		return compile.Host{}, fmt.Errorf("host interface %s: its other end %s: %w (delete %s and start again)", name, tap, err, name)
	}
	if err := silence(tap); err != nil {
		return compile.Host{}, fmt.Errorf("host interface %s: silence %s: %w", name, tap, err)
	}
	for _, end := range []netlink.Link{l, t} {
		if end.Attrs().MTU != mtu {
			if err := netlink.LinkSetMTU(end, mtu); err != nil {
				return compile.Host{}, fmt.Errorf("host interface %s: set MTU %d: %w", end.Attrs().Name, mtu, err)
			}
		}
	}
	// Packets of pods come in here and leave by other interfaces: the strict
	// check of the source would refuse those of networks without a route yet.
	// Nobody else is on this link: no need to look for duplicates for two seconds.
	err = errors.Join(sysctl("ipv4/conf/"+name+"/rp_filter", "0"),
		sysctl("ipv6/conf/"+name+"/accept_ra", "0"), sysctl("ipv6/conf/"+name+"/accept_dad", "0"))
	if err != nil {
		return compile.Host{}, fmt.Errorf("host interface %s: %w", name, err)
	}
	return compile.Host{Tap: tap, Ifindex: t.Attrs().Index, MAC: toMAC(l.Attrs().HardwareAddr), MTU: mtu}, nil
}

// HostUp sets both ends up. The fast path's end is steered by now.
func HostUp(name string) error {
	for _, end := range []string{HostTap(name), name} {
		l, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("host interface %s: set up: %w", end, err)
		}
	}
	return nil
}

// SetHostAddrs gives the interface these addresses and takes other global ones away.
func SetHostAddrs(name string, addrs []netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("host interface %s: %w", name, err)
	}
	have, err := addrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("host interface %s: list addresses: %w", name, err)
	}
	want := map[netip.Addr]bool{}
	for _, a := range addrs {
		want[a] = true
	}
	for _, h := range have {
		a := fromIP(h.IP)
		if want[a] || h.Scope != unix.RT_SCOPE_UNIVERSE {
			delete(want, a)
			continue
		}
		if err := netlink.AddrDel(l, &h); err != nil {
			return fmt.Errorf("host interface %s: remove address %s: %w", name, a, err)
		}
	}
	for a := range want {
		flags := 0
		if a.Is6() {
			flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: toNet(netip.PrefixFrom(a, a.BitLen())), Flags: flags}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("host interface %s: add address %s: %w", name, a, err)
		}
	}
	return nil
}

// setNeighbour writes the router's address down: there is nothing to ask for.
func setNeighbour(l netlink.Link, gw netip.Addr) error {
	family := netlink.FAMILY_V4
	if gw.Is6() {
		family = netlink.FAMILY_V6
	}
	err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT,
		IP: gw.AsSlice(), HardwareAddr: net.HardwareAddr(table.RouterMAC[:])})
	if gw.Is6() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
		return nil // no IPv6 in this kernel
	}
	return err
}

// RemoveHost deletes the host's interface and with it its routes.
func RemoveHost(name string) error { return DeleteTap(name) }
