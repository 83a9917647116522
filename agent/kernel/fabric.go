package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// FabricInterface returns the interface that carries the node's address:
// fabric.interface auto. Without an address, it is that of the default route.
func FabricInterface(nodeIP netip.Addr) (string, error) {
	if !nodeIP.IsValid() {
		return defaultInterface()
	}
	links, err := linkList()
	if err != nil {
		return "", fmt.Errorf("find the interface of %s: list interfaces: %w", nodeIP, err)
	}
	for _, l := range links {
		list, err := addrList(l, netlink.FAMILY_ALL)
		if notFound(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return "", fmt.Errorf("find the interface of %s: list addresses of %s: %w", nodeIP, l.Attrs().Name, err)
		}
		for _, a := range list {
			if fromIP(a.IP) == nodeIP.Unmap() {
				return l.Attrs().Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the node's address %s (name one: fabric.interface)", nodeIP)
}

// defaultInterface is the one that the IPv4 default route of the least metric
// leads to.
func defaultInterface() (string, error) {
	routes, err := mainRoutes(netlink.FAMILY_V4)
	if err != nil {
		return "", fmt.Errorf("find the interface of the default route: %w", err)
	}
	var best *netlink.Route
	for i, r := range routes {
		if to, _ := netip.ParsePrefix(r.Dst.String()); to.Bits() == 0 && r.LinkIndex != 0 && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best == nil {
		return "", errors.New("there is no default route (name an interface: fabric.interface)")
	}
	l, err := netlink.LinkByIndex(best.LinkIndex)
	if err != nil {
		return "", fmt.Errorf("find the interface of the default route: %w", err)
	}
	return l.Attrs().Name, nil
}
