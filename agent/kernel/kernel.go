// Package kernel is the agent's hand in the node's network stack: the punt link,
// the host's interface and routes, firewall rules, and what the underlay knows of
// other nodes. The kernel owns all of it; every Ensure can be repeated and changes
// only what differs. It forwards nothing and remembers nothing.
package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// FindFabric returns the facts of the interface that carries tunnels. addr may be
// unset: then it is the interface's first global IPv4 address.
func FindFabric(name string, addr netip.Addr) (compile.Fabric, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return compile.Fabric{}, fmt.Errorf("fabric interface %s: %w", name, err)
	}
	f := compile.Fabric{Name: name, Ifindex: l.Attrs().Index, MTU: l.Attrs().MTU}
	copy(f.MAC[:], l.Attrs().HardwareAddr)
	list, err := addrList(l, netlink.FAMILY_V4)
	if err != nil {
		return compile.Fabric{}, fmt.Errorf("fabric interface %s: list addresses: %w", name, err)
	}
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		if a.Scope == unix.RT_SCOPE_UNIVERSE && (!addr.IsValid() || ip == addr) {
			f.Address = ip
			return f, nil
		}
	}
	if addr.IsValid() {
		return compile.Fabric{}, fmt.Errorf("fabric interface %s has no address %s (fabric.address)", name, addr)
	}
	return compile.Fabric{}, fmt.Errorf("fabric interface %s has no global IPv4 address: give it one, or name another interface (fabric.interface)", name)
}

// Tap returns the index of a pod's tap; false if it does not exist.
func Tap(name string) (ifindex int, ok bool, err error) {
	l, err := netlink.LinkByName(name)
	if notFound(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("tap %s: %w", name, err)
	}
	return l.Attrs().Index, true, nil
}

// Taps returns the index of every device whose name begins with "tap".
func Taps() (map[string]int, error) {
	links, err := linkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	taps := map[string]int{}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Name, "tap") {
			taps[a.Name] = a.Index
		}
	}
	return taps, nil
}

// MutePods sets the tap of every pod down and returns how many there are: without
// steering, their packets would reach the host's own stack.
func MutePods() (int, error) {
	links, err := linkList()
	if err != nil {
		return 0, fmt.Errorf("list interfaces: %w", err)
	}
	n := 0
	for _, l := range links {
		if !strings.HasPrefix(l.Attrs().Alias, record.MarkPrefix) {
			continue
		}
		if err := netlink.LinkSetDown(l); err != nil && !notFound(err) {
			return n, fmt.Errorf("tap %s: set down: %w", l.Attrs().Name, err)
		}
		n++
	}
	return n, nil
}

// DeleteTap removes a tap and with it the pod's end. One that is gone is no error.
func DeleteTap(name string) error {
	l, err := netlink.LinkByName(name)
	if notFound(err) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(l)
	}
	if err != nil && !notFound(err) {
		return fmt.Errorf("delete tap %s: %w", name, err)
	}
	return nil
}

func notFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

// tries bounds how often a dump that the kernel interrupted is asked for again.
const tries = 5

func linkList() (links []netlink.Link, err error) {
	for range tries {
		if links, err = netlink.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return links, err
}

func addrList(l netlink.Link, family int) (addrs []netlink.Addr, err error) {
	for range tries {
		if addrs, err = netlink.AddrList(l, family); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return addrs, err
}

// sysctl sets a value below /proc/sys/net unless it has it already. A missing file
// (IPv6 switched off in this kernel) is no error.
func sysctl(path, value string) error {
	file := "/proc/sys/net/" + path
	now, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", file, value, err)
	}
	return nil
}

func toMAC(h net.HardwareAddr) (m table.MAC) { copy(m[:], h); return m }

func toNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func fromNet(n *net.IPNet) netip.Prefix {
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(fromIP(n.IP), ones)
}

func fromIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// silence keeps the host's stack off a device of ours: no addresses, no neighbour
// discovery, no answers. What cannot be set is reported: frames must not leak.
func silence(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := sysctl("ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
		return err
	}
	return netlink.LinkSetARPOff(l)
}
