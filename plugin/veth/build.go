package veth

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/table"
)

// Pair is what Ensure leaves behind.
type Pair struct {
	Index   int  // of the host end; 0: there is no pair
	Created bool // by this call
}

// Ensure makes the pair, addressed but down, or completes the one an earlier
// call made. When it fails, a pair it created is gone.
func (e *Ends) Ensure(p *Plan) (Pair, error) {
	if err := p.Validate(); err != nil {
		return Pair{}, err
	}
	tap, pod, err := e.adopt(p)
	if err != nil {
		return Pair{}, err
	}
	created := tap == nil
	if created {
		if tap, pod, err = e.create(p); err != nil {
			return Pair{}, err
		}
	}
	err = e.dressTap(tap, p)
	if err == nil {
		err = e.dressPod(pod, p)
	}
	if err != nil && created {
		_ = e.delete(tap, p.Owner)
		return Pair{}, err
	}
	return Pair{tap.Attrs().Index, created}, err
}

// adopt returns the pair if it is there and ours. What is left of one (a crash
// between two steps) is removed; what is somebody else's is an error.
func (e *Ends) adopt(p *Plan) (tap, pod netlink.Link, err error) {
	if tap, err = lookup(e.host, p.Tap); err != nil {
		return nil, nil, fmt.Errorf("look up %s: %w", p.Tap, err)
	}
	if pod, err = lookup(e.pod, p.Owner.Ifname); err != nil {
		return nil, nil, fmt.Errorf("look up %s in the pod: %w", p.Owner.Ifname, err)
	}
	if tap != nil && pod != nil && p.Owner.crossed(tap, pod) && (p.Owner.holds(tap.Attrs().Alias) || unfinished(tap)) {
		return tap, pod, nil
	}
	if tap == nil && pod != nil && p.remains(pod) {
		if err := e.pod.LinkDel(pod); err != nil {
			return nil, nil, fmt.Errorf("remove the remains of %s in the pod: %w", p.Owner.Ifname, err)
		}
		pod = nil
	}
	if pod != nil {
		return nil, nil, fmt.Errorf("%s exists in the pod and is not ours: remove it or choose another name", p.Owner.Ifname)
	}
	if tap == nil {
		return nil, nil, nil
	}
	// The agent gave this name to this attachment: any other holder of ours is
	// an earlier sandbox of the same pod.
	if _, ours := ParseOwner(tap.Attrs().Alias); !ours && !unfinished(tap) {
		return nil, nil, fmt.Errorf("%s exists and is not ours: remove it", p.Tap)
	}
	if err := e.delete(tap, p.Owner); err != nil {
		return nil, nil, fmt.Errorf("remove the remains of %s: %w", p.Tap, err)
	}
	return nil, nil, nil
}

// unfinished: created, but killed before it got its alias. Down, because it is
// set up only at the end.
func unfinished(tap netlink.Link) bool {
	a := tap.Attrs()
	return (tap.Type() == "veth" || isTap(tap)) && a.Alias == "" && a.Flags&net.FlagUp == 0
}

// create makes the pair with its other end already in the pod, under its final
// name. One queue each way: a cached queue choice of a socket must not defeat
// steering.
func (e *Ends) create(p *Plan) (tap, pod netlink.Link, err error) {
	if p.IO == IOTap {
		return e.createTaps(p)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = p.Tap, p.MTU
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	pair := netlink.NewVeth(attrs)
	pair.PeerName = p.Owner.Ifname
	pair.PeerHardwareAddr = p.MAC[:]
	pair.PeerNamespace = netlink.NsFd(e.podNS.Fd())
	if err := e.host.LinkAdd(pair); err != nil {
		return nil, nil, fmt.Errorf("create veth %s with %s: %w", p.Tap, p.Owner.Ifname, err)
	}
	if pod, err = e.pod.LinkByName(p.Owner.Ifname); err != nil {
		_ = e.host.LinkDel(pair)
		return nil, nil, fmt.Errorf("find %s in the pod: %w", p.Owner.Ifname, err)
	}
	return pair, pod, nil
}

// dressTap marks the host end as ours and makes the host's stack ignore it.
func (e *Ends) dressTap(tap netlink.Link, p *Plan) error {
	if !p.Owner.holds(tap.Attrs().Alias) {
		if err := e.host.LinkSetAlias(tap, p.Owner.String()); err != nil {
			return fmt.Errorf("set the alias of %s: %w", p.Tap, err)
		}
	}
	if err := writeSysctl("ipv6", p.Tap, "disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Should somebody enable IPv6 later, still no address appears by itself.
	if err := e.host.LinkSetIP6AddrGenMode(tap, nl.IN6_ADDR_GEN_MODE_NONE); err != nil && !errors.Is(err, syscall.EAFNOSUPPORT) {
		return fmt.Errorf("switch off IPv6 addresses on %s: %w", p.Tap, err)
	}
	if err := e.host.LinkSetARPOff(tap); err != nil {
		return fmt.Errorf("switch off ARP on %s: %w", p.Tap, err)
	}
	if tap.Attrs().MTU != p.MTU {
		if err := e.host.LinkSetMTU(tap, p.MTU); err != nil {
			return fmt.Errorf("set the MTU of %s: %w", p.Tap, err)
		}
	}
	return nil
}

// dressPod gives the pod's end its MAC, MTU and addresses. It may be down:
// routes and neighbours wait for Up.
func (e *Ends) dressPod(pod netlink.Link, p *Plan) error {
	name := p.Owner.Ifname
	if pod.Attrs().HardwareAddr.String() != p.MAC.String() {
		if err := e.pod.LinkSetHardwareAddr(pod, p.MAC[:]); err != nil {
			return fmt.Errorf("set the MAC of %s: %w", name, err)
		}
	}
	if pod.Attrs().MTU != p.MTU {
		if err := e.pod.LinkSetMTU(pod, p.MTU); err != nil {
			return fmt.Errorf("set the MTU of %s: %w", name, err)
		}
	}
	_, wants6 := p.Gateway(false)
	if err := e.podNS.Do(func(ns.NetNS) error { return prepareIPv6(name, wants6) }); err != nil {
		return err
	}
	for _, addr := range p.Addrs {
		a := &netlink.Addr{IPNet: host(addr)}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD // the address is unique by allocation: usable at once
		}
		if err := e.pod.AddrReplace(pod, a); err != nil {
			return fmt.Errorf("add %v to %s: %w", addr, name, err)
		}
	}
	return nil
}

// Up sets both ends up and adds what needs an interface that is up. The fast
// path must have the host end by now: no packet may meet the host's stack.
func (e *Ends) Up(p *Plan) error {
	tap, err := e.host.LinkByName(p.Tap)
	if err != nil {
		return fmt.Errorf("find %s: %w", p.Tap, err)
	}
	if err := e.host.LinkSetUp(tap); err != nil {
		return fmt.Errorf("set %s up: %w", p.Tap, err)
	}
	pod, err := e.pod.LinkByName(p.Owner.Ifname)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", p.Owner.Ifname, err)
	}
	if err := e.pod.LinkSetUp(pod); err != nil {
		return fmt.Errorf("set %s up: %w", p.Owner.Ifname, err)
	}
	return e.addRoutes(pod.Attrs().Index, p)
}

func (e *Ends) addRoutes(index int, p *Plan) error {
	for _, gw := range p.Gateways {
		neigh := &netlink.Neigh{
			LinkIndex: index, Family: family(gw), IP: gw.AsSlice(),
			State: netlink.NUD_PERMANENT, HardwareAddr: table.RouterMAC[:],
		}
		if err := e.pod.NeighSet(neigh); err != nil {
			return fmt.Errorf("add neighbour %v: %w", gw, err)
		}
		onLink := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: host(gw)}
		if err := e.pod.RouteReplace(onLink); err != nil {
			return fmt.Errorf("add route to the gateway %v: %w", gw, err)
		}
	}
	for _, dst := range p.Routes {
		gw, _ := p.Gateway(dst.Addr().Is4())
		via := &netlink.Route{LinkIndex: index, Dst: prefix(dst), Gw: gw.AsSlice()}
		if err := e.pod.RouteReplace(via); err != nil {
			return fmt.Errorf("add route %v via %v: %w", dst, gw, err)
		}
	}
	return nil
}

// prepareIPv6 runs in the pod's namespace. Router advertisements are refused
// and duplicate detection is off: there is nobody else on this link.
func prepareIPv6(ifname string, wanted bool) error {
	disabled, err := os.ReadFile(sysctlPath("ipv6", ifname, "disable_ipv6"))
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && !wanted:
		return nil
	case missing:
		return errors.New("the pod has an IPv6 address, but this kernel runs without IPv6: boot with ipv6.disable=0 or use IPv4 networks only")
	case err != nil:
		return err
	case wanted && len(disabled) > 0 && disabled[0] == '1':
		return errors.New("the pod has an IPv6 address, but IPv6 is disabled in its namespace: set net.ipv6.conf.default.disable_ipv6=0 there")
	}
	return errors.Join(writeSysctl("ipv6", ifname, "accept_ra", "0"), writeSysctl("ipv6", ifname, "accept_dad", "0"))
}

func sysctlPath(family, ifname, key string) string {
	return "/proc/sys/net/" + family + "/conf/" + ifname + "/" + key
}

// writeSysctl writes in the namespace of the calling thread.
func writeSysctl(family, ifname, key, value string) error {
	return os.WriteFile(sysctlPath(family, ifname, key), []byte(value), 0o644)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func prefix(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
