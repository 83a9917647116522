// Package veth builds, inspects and removes the two ends of a pod's interface.
// The kernel owns all state; nothing is kept between calls, so that every call
// can be repeated. It does not talk to the agent and does not know CNI.
package veth

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/table"
)

// ErrNetns marks a pod's namespace that cannot be used.
var ErrNetns = errors.New("is no usable network namespace")

// Owner is the attachment an interface belongs to. The host end carries it as
// its alias, so that it can be found when nothing else is known. The agent adds,
// after a space, what it must know again if it loses its ledger. The pod's end of a
// tap carries it too: the kernel does not know that the two belong together.
type Owner struct {
	ContainerID string
	Ifname      string // inside the pod
}

const (
	aliasPrefix = "vrouter:"
	maxAlias    = 255 // bytes: IFALIASZ of if.h less the final zero
)

func (o Owner) String() string { return aliasPrefix + o.ContainerID + ":" + o.Ifname }

// ParseOwner is the inverse of String. Neither part can hold a colon: CNI's
// alphabet for container ids and the kernel's for names have none.
func ParseOwner(alias string) (Owner, bool) {
	rest, ours := strings.CutPrefix(alias, aliasPrefix)
	rest, _, _ = strings.Cut(rest, " ")
	id, ifname, whole := strings.Cut(rest, ":")
	return Owner{id, ifname}, ours && whole && id != "" && ifname != ""
}

// holds reports whether an alias names this owner.
func (o Owner) holds(alias string) bool {
	named, ok := ParseOwner(alias)
	return ok && named == o
}

// Plan is the interface as it shall be.
type Plan struct {
	Owner    Owner
	Tap      string // host end
	MAC      table.MAC
	MTU      int            // bytes, IP header included; both ends; 0: do not care (Inspect only)
	Addrs    []netip.Addr   // /32 and /128
	Gateways []netip.Addr   // one per family of Addrs, reached on the link
	Routes   []netip.Prefix // via the gateway of their family
	IO       string         // IOTap, else a veth (Ensure only)
}

// IOTap makes the interface a tap whose queues the fast path opens. Its host end is a
// tap without queues: it carries nothing, and stands for the interface where the
// other kind has its other half.
const IOTap = "tap"

// Gateway returns the gateway of a family.
func (p *Plan) Gateway(v4 bool) (netip.Addr, bool) {
	for _, gw := range p.Gateways {
		if gw.Is4() == v4 {
			return gw, true
		}
	}
	return netip.Addr{}, false
}

// Validate refuses a plan that cannot be built, before anything is touched.
func (p *Plan) Validate() error {
	switch {
	case len(p.Owner.String()) > maxAlias:
		return fmt.Errorf("container id %s is longer than an interface's alias can hold", p.Owner.ContainerID)
	case p.Tap == "" || len(p.Tap) > 15:
		return fmt.Errorf("tap %q is not a name of an interface", p.Tap)
	case p.MAC == (table.MAC{}) || p.MAC[0]&1 != 0:
		return fmt.Errorf("MAC %v is not a unicast one", p.MAC)
	case len(p.Addrs) == 0:
		return errors.New("no address")
	}
	for _, addr := range p.Addrs {
		if _, ok := p.Gateway(addr.Is4()); !ok || addr.Is4In6() {
			return fmt.Errorf("address %v has no gateway", addr)
		}
	}
	for _, route := range p.Routes {
		if _, ok := p.Gateway(route.Addr().Is4()); !ok {
			return fmt.Errorf("route %v has no gateway", route)
		}
	}
	return nil
}

// Ends reaches both ends of a pod's interface: the namespace this process runs
// in and the pod's.
type Ends struct {
	// Set once by Open; closed by Close.
	host  *netlink.Handle
	pod   *netlink.Handle // nil: no namespace was given
	podNS ns.NetNS        // nil like pod
}

// Open opens the pod's namespace at path and this process's own; with an empty
// path only the latter. Errors about the path are ErrNetns.
func Open(path string) (*Ends, error) {
	e := &Ends{}
	if path != "" {
		podNS, err := ns.GetNS(path)
		if err != nil {
			return nil, fmt.Errorf("%s %w: %w", path, ErrNetns, plainNS(err))
		}
		e.podNS = podNS
		if e.pod, err = netlink.NewHandleAt(netns.NsHandle(podNS.Fd()), unix.NETLINK_ROUTE); err != nil {
			e.Close()
			return nil, fmt.Errorf("%s %w: %w", path, ErrNetns, err)
		}
		if e.samePlace() {
			e.Close()
			return nil, fmt.Errorf("%s %w: it is the plugin's own", path, ErrNetns)
		}
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	e.host = host
	return e, nil
}

// Close releases sockets and the namespace.
func (e *Ends) Close() {
	if e.host != nil {
		e.host.Close()
	}
	if e.pod != nil {
		e.pod.Close()
	}
	if e.podNS != nil {
		_ = e.podNS.Close()
	}
}

// samePlace: the pod's namespace is ours (a host-network pod has no business here).
func (e *Ends) samePlace() bool {
	var pod, self unix.Stat_t
	return unix.Fstat(int(e.podNS.Fd()), &pod) == nil &&
		unix.Stat("/proc/thread-self/ns/net", &self) == nil &&
		pod.Dev == self.Dev && pod.Ino == self.Ino
}

// plainNS shortens what the ns package says.
func plainNS(err error) error {
	if _, missing := errors.AsType[ns.NSPathNotExistErr](err); missing {
		return errors.New("it does not exist")
	}
	if _, other := errors.AsType[ns.NSPathNotNSErr](err); other {
		return errors.New("it is another kind of file")
	}
	return err
}

// lookup finds a link by name; nil, nil when there is none.
func lookup(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil
	}
	return link, err
}

// crossed: the two links name each other as peers, or are taps, of which the pod's says
// whose it is. Indexes of different namespaces may coincide, so this alone proves nothing.
func (o Owner) crossed(tap, pod netlink.Link) bool {
	if isTap(tap) && isTap(pod) {
		return o.holds(pod.Attrs().Alias)
	}
	return tap.Type() == "veth" && pod.Type() == "veth" &&
		tap.Attrs().ParentIndex == pod.Attrs().Index && pod.Attrs().ParentIndex == tap.Attrs().Index
}
