package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/compile"
)

// routeProtocol marks our routes (rtnetlink(7): 200 to 249 are nobody's).
const routeProtocol = 201

// externalMetric lets a route that somebody else has for an external address go
// before ours.
const externalMetric = 2010

// Routes are what the host's interface leads to.
type Routes struct {
	Host      string             // the interface
	Addrs     []netip.Addr       // of it: the sources
	Subnets   []netip.Prefix     // of all networks, pods' and services'; may overlap
	Externals []compile.External // of services
	// Kept are addresses the node must go on reaching as it does without us: other
	// nodes.
	Kept []netip.Addr
}

// SetHostRoutes leads the routes through the interface, with the host's own
// address as the source, and takes other routes of ours away. What would cut the
// node off from the rest of the world is refused, each with a sentence; what was
// not is returned.
func SetHostRoutes(r Routes) (Routes, []string, error) {
	l, err := netlink.LinkByName(r.Host)
	if err != nil {
		return r, nil, fmt.Errorf("host interface %s: %w", r.Host, err)
	}
	for _, gw := range []netip.Addr{gateway4, gateway6} {
		if err := setNeighbour(l, gw); err != nil {
			return r, nil, fmt.Errorf("host interface %s: neighbour %s: %w", r.Host, gw, err)
		}
	}
	s, err := lookAround(l, r.Kept)
	if err != nil {
		return r, nil, fmt.Errorf("host interface %s: %w", r.Host, err)
	}
	refused := s.refuse(&r)
	wanted := map[routeKey]netlink.Route{}
	for _, p := range r.Subnets {
		add(wanted, l, p, 0, r.Addrs)
	}
	for _, e := range r.Externals {
		add(wanted, l, netip.PrefixFrom(e.VIP, e.VIP.BitLen()), externalMetric, r.Addrs)
	}
	if err := setRoutes(s.ours, wanted); err != nil {
		return r, nil, fmt.Errorf("host interface %s: %w", r.Host, err)
	}
	return r, refused, nil
}

type routeKey struct {
	dst    netip.Prefix
	metric int
}

// add wants a route, unless there is no address to send from.
func add(wanted map[routeKey]netlink.Route, l netlink.Link, dst netip.Prefix, metric int, addrs []netip.Addr) {
	dst = dst.Masked()
	for _, src := range addrs {
		if src.Is4() != dst.Addr().Is4() {
			continue
		}
		gw := gateway4
		if src.Is6() {
			gw = gateway6
			if metric == 0 {
				metric = 1024 // what the kernel makes of none
			}
		}
		wanted[routeKey{dst, metric}] = netlink.Route{
			LinkIndex: l.Attrs().Index, Dst: toNet(dst), Gw: gw.AsSlice(), Src: src.AsSlice(), Priority: metric,
			Flags: int(netlink.FLAG_ONLINK), Protocol: routeProtocol, MTU: l.Attrs().MTU,
		}
		return
	}
}

// setRoutes changes what differs.
func setRoutes(have []netlink.Route, wanted map[routeKey]netlink.Route) error {
	present := map[routeKey]bool{}
	for _, h := range have {
		k := routeKey{fromNet(h.Dst), h.Priority}
		if w, ok := wanted[k]; ok {
			present[k] = h.Gw.Equal(w.Gw) && h.Src.Equal(w.Src) && h.MTU == w.MTU
			continue
		}
		if err := netlink.RouteDel(&h); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s: %w", h.Dst, err)
		}
	}
	for k, w := range wanted {
		if present[k] {
			continue
		}
		if err := netlink.RouteReplace(&w); err != nil {
			return fmt.Errorf("route to %s: %w", k.dst, err)
		}
	}
	return nil
}

// surroundings are what the node reaches without us.
type surroundings struct {
	ours   []netlink.Route
	others []netip.Prefix      // of the main table, without default routes
	links  []netip.Prefix      // likewise: reached without a gateway
	own    map[netip.Addr]bool // the node's addresses
	kept   []netip.Addr        // what must go on being reached; gateways too
}

func lookAround(l netlink.Link, kept []netip.Addr) (*surroundings, error) {
	s := &surroundings{kept: slices.Clone(kept)}
	var err error
	if s.own, err = localAddrs(); err != nil {
		return nil, err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := mainRoutes(family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range list {
			s.note(r, l.Attrs().Index)
		}
	}
	return s, nil
}

func (s *surroundings) note(r netlink.Route, host int) {
	if r.LinkIndex == host {
		if r.Protocol == routeProtocol && r.Dst != nil {
			s.ours = append(s.ours, r)
		}
		return
	}
	gateways := []netlink.NexthopInfo{{Gw: r.Gw}}
	for _, n := range append(gateways, flatten(r.MultiPath)...) {
		if n.Gw != nil {
			s.kept = append(s.kept, fromIP(n.Gw))
		}
	}
	if r.Dst == nil {
		return
	}
	p := fromNet(r.Dst)
	if p.Bits() == 0 || p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() || p.Addr().IsMulticast() {
		return
	}
	s.others = append(s.others, p)
	if r.Gw == nil && len(r.MultiPath) == 0 && r.Type != unix.RTN_BLACKHOLE && r.Type != unix.RTN_UNREACHABLE && r.Type != unix.RTN_PROHIBIT {
		s.links = append(s.links, p)
	}
}

func flatten(list []*netlink.NexthopInfo) (out []netlink.NexthopInfo) {
	for _, n := range list {
		out = append(out, *n)
	}
	return out
}

// refuse takes out of r what must not be routed, and says why. External addresses
// of the node itself stay its own, without a word.
func (s *surroundings) refuse(r *Routes) (sentences []string) {
	r.Subnets = slices.DeleteFunc(slices.Clone(r.Subnets), func(p netip.Prefix) bool {
		why := s.cutOff(p)
		if why != "" {
			sentences = append(sentences, fmt.Sprintf("subnet %v is not routed to %s: %s; the node itself does not reach pods there", p, r.Host, why))
		}
		return why != ""
	})
	r.Externals = slices.DeleteFunc(slices.Clone(r.Externals), func(e compile.External) bool {
		if s.own[e.VIP] {
			return true
		}
		if slices.Contains(s.kept, e.VIP) {
			sentences = append(sentences, fmt.Sprintf("external address %v is not routed to %s: the node needs it itself (another node or a gateway)", e.VIP, r.Host))
			return true
		}
		return false
	})
	slices.Sort(sentences)
	return slices.Compact(sentences)
}

// cutOff says what a route to p would take from the node; empty: nothing. A more
// specific route of somebody else's goes before ours.
func (s *surroundings) cutOff(p netip.Prefix) string {
	for _, c := range s.links {
		if c.Bits() <= p.Bits() && c.Overlaps(p) {
			return fmt.Sprintf("it lies in %v, which the node has on a link", c)
		}
	}
	for _, a := range s.kept {
		if p.Contains(a) && !slices.ContainsFunc(s.others, func(o netip.Prefix) bool { return o.Bits() > p.Bits() && o.Contains(a) }) {
			return fmt.Sprintf("it covers %v, which the node needs (another node or a gateway)", a)
		}
	}
	return ""
}

func mainRoutes(family int) (list []netlink.Route, err error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	for range tries {
		if list, err = netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// localAddrs are the node's own.
func localAddrs() (map[netip.Addr]bool, error) {
	var list []netlink.Addr
	var err error
	for range tries {
		if list, err = netlink.AddrList(nil, netlink.FAMILY_ALL); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range list {
		own[fromIP(a.IP)] = true
	}
	return own, nil
}
