package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// changedPorts are the UDP ports whose rules are not the same before and after.
// TCP needs no such care: its connections end by themselves.
func changedPorts(before, after []string) map[uint16]bool {
	changed := map[uint16]bool{}
	sides := map[string]int{}
	for _, line := range before {
		sides[line]--
	}
	for _, line := range after {
		sides[line]++
	}
	for line, side := range sides {
		if side == 0 || !strings.Contains(line, "-p udp ") {
			continue
		}
		_, rest, _ := strings.Cut(line, "--dport ")
		text, _, _ := strings.Cut(rest, " ")
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			changed[uint16(n)] = true
		}
	}
	return changed
}

// forgetFlows makes the kernel decide anew where UDP packets to these ports of
// the node go: a client that never pauses would keep its old way forever.
func forgetFlows(ports map[uint16]bool, v4 bool) error {
	if len(ports) == 0 {
		return nil
	}
	local, err := localAddrs()
	if err != nil {
		return err
	}
	of := netlink.InetFamily(unix.AF_INET)
	if !v4 {
		of = unix.AF_INET6
	}
	old := flowFilter(func(f *netlink.ConntrackFlow) bool {
		return f.Forward.Protocol == unix.IPPROTO_UDP && ports[f.Forward.DstPort] && local[fromIP(f.Forward.DstIP)]
	})
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, of, old); err != nil {
		return fmt.Errorf("firewall: forget UDP flows to changed node ports: %w", err)
	}
	return nil
}

type flowFilter func(*netlink.ConntrackFlow) bool

func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool { return f(flow) }
