package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/agent/record"
)

// Marked is the tap of a pod as the kernel shows it.
type Marked struct {
	Alias   string // see record.Mark
	Ifindex int
	MTU     int // bytes
}

// Marks returns the taps of pods by name.
func Marks() (map[string]Marked, error) {
	links, err := linkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	marks := map[string]Marked{}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Alias, record.MarkPrefix) {
			marks[a.Name] = Marked{a.Alias, a.Index, a.MTU}
		}
	}
	return marks, nil
}

// SetMark writes the mark of a tap.
func SetMark(ifindex int, alias string) error {
	l, err := netlink.LinkByIndex(ifindex)
	if err == nil && l.Attrs().Alias != alias {
		err = netlink.LinkSetAlias(l, alias)
	}
	if err != nil {
		return fmt.Errorf("mark interface %d: %w", ifindex, err)
	}
	return nil
}

// HostAddrs are the addresses the host's interface has now; none if it is not there.
func HostAddrs(name string) ([]netip.Addr, error) {
	l, err := netlink.LinkByName(name)
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("host interface %s: %w", name, err)
	}
	have, err := addrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("host interface %s: list addresses: %w", name, err)
	}
	var out []netip.Addr
	for _, h := range have {
		if h.Scope == unix.RT_SCOPE_UNIVERSE {
			out = append(out, fromIP(h.IP))
		}
	}
	return out, nil
}

// IsNetns reports whether a network namespace is there at path, as far as can be seen.
func IsNetns(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && (s.Type == unix.NSFS_MAGIC || s.Type == unix.PROC_SUPER_MAGIC)
}
