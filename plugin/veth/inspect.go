package veth

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/table"
)

// Index returns the index of the host end, 0 if it is missing.
func (e *Ends) Index(tap string) (int, error) {
	link, err := lookup(e.host, tap)
	if err != nil {
		return 0, fmt.Errorf("look up %s: %w", tap, err)
	}
	if link == nil {
		return 0, nil
	}
	return link.Attrs().Index, nil
}

// Inspect compares the interface with its plan and says every difference in a
// sentence: what, expected, found.
func (e *Ends) Inspect(p *Plan) (differences []string, err error) {
	tap, err := lookup(e.host, p.Tap)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", p.Tap, err)
	}
	pod, err := lookup(e.pod, p.Owner.Ifname)
	if err != nil {
		return nil, fmt.Errorf("look up %s in the pod: %w", p.Owner.Ifname, err)
	}
	d := &findings{}
	if tap == nil {
		d.add("tap %s is missing", p.Tap)
	} else {
		d.tap(tap, p)
	}
	if pod == nil {
		d.add("interface %s is missing in the pod", p.Owner.Ifname)
		return d.list, nil
	}
	if tap != nil && !p.Owner.crossed(tap, pod) {
		d.add("interface %s is not the peer of %s", p.Owner.Ifname, p.Tap)
	}
	d.link("interface "+p.Owner.Ifname, pod, p.MTU)
	if found := pod.Attrs().HardwareAddr; !bytes.Equal(found, p.MAC[:]) {
		d.add("interface %s: MAC is %v, expected %v", p.Owner.Ifname, found, p.MAC)
	}
	err = errors.Join(e.addresses(d, pod, p), e.routes(d, pod, p), e.neighbours(d, pod, p))
	return d.list, err
}

type findings struct{ list []string }

func (d *findings) add(format string, args ...any) {
	d.list = append(d.list, fmt.Sprintf(format, args...))
}

func (d *findings) tap(tap netlink.Link, p *Plan) {
	if found := tap.Attrs().Alias; !p.Owner.holds(found) {
		d.add("tap %s: alias is %q, expected %q", p.Tap, found, p.Owner)
	}
	d.link("tap "+p.Tap, tap, p.MTU)
}

func (d *findings) link(what string, link netlink.Link, mtu int) {
	if link.Attrs().Flags&net.FlagUp == 0 {
		d.add("%s is down, expected up", what)
	}
	if found := link.Attrs().MTU; mtu != 0 && found != mtu {
		d.add("%s: MTU is %d, expected %d", what, found, mtu)
	}
}

// addresses: those of the plan and no others, except link-local ones, which
// the kernel makes by itself.
func (e *Ends) addresses(d *findings, pod netlink.Link, p *Plan) error {
	list, err := e.pod.AddrList(pod, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", p.Owner.Ifname, err)
	}
	var found []netip.Prefix
	for _, a := range list {
		if at := toPrefix(a.IPNet); !at.Addr().IsLinkLocalUnicast() || at.Addr().Is4() {
			found = append(found, at)
		}
	}
	var expected []netip.Prefix
	for _, addr := range p.Addrs {
		expected = append(expected, netip.PrefixFrom(addr, addr.BitLen()))
	}
	for _, want := range expected {
		if !slices.Contains(found, want) {
			d.add("interface %s: address %v is missing, found %s", p.Owner.Ifname, want, words(found))
		}
	}
	for _, have := range found {
		if !slices.Contains(expected, have) {
			d.add("interface %s: address %v is not expected, expected %s", p.Owner.Ifname, have, words(expected))
		}
	}
	return nil
}

// routes: those of the plan, in the main table, through the pod's interface.
func (e *Ends) routes(d *findings, pod netlink.Link, p *Plan) error {
	list, err := e.pod.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{
		LinkIndex: pod.Attrs().Index, Table: unix.RT_TABLE_MAIN,
	}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", p.Owner.Ifname, err)
	}
	found := map[netip.Prefix][]string{}
	for _, r := range list {
		how := "on the link"
		if gw, ok := netip.AddrFromSlice(r.Gw); ok {
			how = "via " + gw.Unmap().String()
		}
		dst := toPrefix(r.Dst)
		found[dst] = append(found[dst], how)
	}
	expect := func(dst netip.Prefix, how string) {
		switch ways := found[dst]; {
		case ways == nil:
			d.add("route %v %s dev %s is missing", dst, how, p.Owner.Ifname)
		case !slices.Contains(ways, how):
			d.add("route %v dev %s goes %s, expected %s", dst, p.Owner.Ifname, strings.Join(ways, ", "), how)
		}
	}
	for _, gw := range p.Gateways {
		expect(netip.PrefixFrom(gw, gw.BitLen()), "on the link")
	}
	for _, dst := range p.Routes {
		gw, _ := p.Gateway(dst.Addr().Is4())
		expect(dst, "via "+gw.String())
	}
	return nil
}

// neighbours: the gateways' addresses are fixed; nobody answers for others.
func (e *Ends) neighbours(d *findings, pod netlink.Link, p *Plan) error {
	list, err := e.pod.NeighList(pod.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list neighbours of %s: %w", p.Owner.Ifname, err)
	}
	for _, gw := range p.Gateways {
		at := slices.IndexFunc(list, func(n netlink.Neigh) bool { return n.IP.Equal(gw.AsSlice()) })
		switch {
		case at < 0:
			d.add("neighbour %v of %s is missing, expected %v", gw, p.Owner.Ifname, table.RouterMAC)
		case !bytes.Equal(list[at].HardwareAddr, table.RouterMAC[:]):
			d.add("neighbour %v of %s is %v, expected %v", gw, p.Owner.Ifname, list[at].HardwareAddr, table.RouterMAC)
		}
	}
	return nil
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if len(n.Mask) == net.IPv4len {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits)
}

func words[T fmt.Stringer](list []T) string {
	if len(list) == 0 {
		return "none"
	}
	var s []string
	for _, v := range list {
		s = append(s, v.String())
	}
	return strings.Join(s, ", ")
}
