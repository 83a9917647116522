package main

import (
	"net"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/rpc"
)

// CHECK names every way in which an interface can be tampered with.
func TestCheckFindsTampering(t *testing.T) {
	type place struct {
		n         *node
		c         *container
		eth0, tap netlink.Link
	}
	addr := func(s string) *netlink.Addr {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	route := func(p place, dst, gw string) *netlink.Route {
		_, to, err := net.ParseCIDR(dst)
		if err != nil {
			t.Fatal(err)
		}
		return &netlink.Route{LinkIndex: p.eth0.Attrs().Index, Dst: to, Gw: net.ParseIP(gw)}
	}
	for name, row := range map[string]struct {
		tamper func(p place) error
		code   uint
		want   string
	}{
		"IPv4 address missing": {func(p place) error { return p.c.handle.AddrDel(p.eth0, addr("192.0.2.1/32")) },
			102, "interface eth0: address 192.0.2.1/32 is missing, found 2001:db8::1/128"},
		"IPv6 address missing": {func(p place) error { return p.c.handle.AddrDel(p.eth0, addr("2001:db8::1/128")) },
			102, "interface eth0: address 2001:db8::1/128 is missing, found 192.0.2.1/32"},
		"foreign address": {func(p place) error { return p.c.handle.AddrAdd(p.eth0, addr("198.51.100.7/24")) },
			102, "interface eth0: address 198.51.100.7/24 is not expected, expected 192.0.2.1/32, 2001:db8::1/128"},
		"foreign IPv6 address": {func(p place) error { return p.c.handle.AddrAdd(p.eth0, addr("2001:db8:7::7/64")) },
			102, "address 2001:db8:7::7/64 is not expected"},
		"default route missing": {func(p place) error { return p.c.handle.RouteDel(route(p, "0.0.0.0/0", "169.254.1.1")) },
			102, "route 0.0.0.0/0 via 169.254.1.1 dev eth0 is missing"},
		"IPv6 default route missing": {func(p place) error { return p.c.handle.RouteDel(route(p, "::/0", "fe80::1")) },
			102, "route ::/0 via fe80::1 dev eth0 is missing"},
		"default route elsewhere": {func(p place) error {
			if err := p.c.handle.NeighAdd(&netlink.Neigh{LinkIndex: p.eth0.Attrs().Index, IP: net.ParseIP("198.51.100.1"),
				State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}); err != nil {
				return err
			}
			other := route(p, "0.0.0.0/0", "198.51.100.1")
			other.Flags = int(netlink.FLAG_ONLINK)
			return p.c.handle.RouteReplace(other)
		}, 102, "route 0.0.0.0/0 dev eth0 goes via 198.51.100.1, expected via 169.254.1.1"},
		"gateway route missing": {func(p place) error {
			r := route(p, "169.254.1.1/32", "")
			r.Gw, r.Scope = nil, netlink.SCOPE_LINK
			return p.c.handle.RouteDel(r)
		}, 102, "route 169.254.1.1/32 on the link dev eth0 is missing"},
		"neighbour missing": {func(p place) error {
			return p.c.handle.NeighDel(&netlink.Neigh{LinkIndex: p.eth0.Attrs().Index, IP: net.ParseIP("169.254.1.1")})
		}, 102, "neighbour 169.254.1.1 of eth0 is missing, expected 00:00:5e:00:01:00"},
		"neighbour changed": {func(p place) error {
			return p.c.handle.NeighSet(&netlink.Neigh{LinkIndex: p.eth0.Attrs().Index, IP: net.ParseIP("fe80::1"), Family: netlink.FAMILY_V6,
				State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}})
		}, 102, "neighbour fe80::1 of eth0 is 02:00:00:00:00:09, expected 00:00:5e:00:01:00"},
		"MTU in the pod": {func(p place) error { return p.c.handle.LinkSetMTU(p.eth0, 1300) },
			102, "interface eth0: MTU is 1300, expected 1468"},
		"MTU of the tap": {func(p place) error { return p.n.handle.LinkSetMTU(p.tap, 1300) },
			102, "tap tap00000000001: MTU is 1300, expected 1468"},
		"MAC": {func(p place) error { return p.c.handle.LinkSetHardwareAddr(p.eth0, net.HardwareAddr{2, 0, 0, 0, 9, 9}) },
			102, "interface eth0: MAC is 02:00:00:00:09:09, expected 02:00:00:00:00:01"},
		"interface down": {func(p place) error { return p.c.handle.LinkSetDown(p.eth0) },
			102, "interface eth0 is down, expected up"},
		"tap down": {func(p place) error { return p.n.handle.LinkSetDown(p.tap) },
			102, "tap tap00000000001 is down, expected up"},
		"alias": {func(p place) error { return p.n.handle.LinkSetAlias(p.tap, "mine") },
			102, `tap tap00000000001: alias is "mine", expected "vrouter:`},
		"tap renamed": {func(p place) error {
			if err := p.n.handle.LinkSetDown(p.tap); err != nil {
				return err
			}
			return p.n.handle.LinkSetName(p.tap, "tap2")
		}, 102, "tap tap00000000001 is missing"},
		"all gone": {func(p place) error { return p.n.handle.LinkDel(p.tap) },
			102, "tap tap00000000001 is missing; interface eth0 is missing in the pod"},
		"another device": {func(p place) error {
			if err := p.n.handle.LinkDel(p.tap); err != nil {
				return err
			}
			if err := addBridge(p.n.handle, p.tap.Attrs().Name); err != nil {
				return err
			}
			return addBridge(p.c.handle, "eth0")
		}, 102, "interface eth0 is not the peer of tap00000000001"},
		"not in the fast path": {func(p place) error { p.n.agent.Unbind(p.c.key()); return nil },
			102, "check: tap00000000001 is no vif of the live fast path"},
		"unknown to the agent": {func(p place) error { p.n.agent.Forget(p.c.key()); return nil },
			100, "the agent has no attachment"},
		"agent down, tap down": {func(p place) error { p.n.agent.Stop(); return p.n.handle.LinkSetDown(p.tap) },
			102, "tap tap00000000001 is down"},
		"namespace gone": {func(p place) error { p.c.remove(); return nil },
			types.ErrInvalidNetNS, "is no usable network namespace: it does not exist"},
		"two things": {func(p place) error {
			if err := p.n.handle.LinkSetMTU(p.tap, 1300); err != nil {
				return err
			}
			return p.c.handle.AddrDel(p.eth0, addr("192.0.2.1/32"))
		}, 102, "tap tap00000000001: MTU is 1300, expected 1468; interface eth0: address 192.0.2.1/32 is missing"},
	} {
		for _, version := range []string{"0.4.0", "1.1.0"} { // 0.4.0: the MTU comes from the agent
			t.Run(name+" "+version, func(t *testing.T) {
				n := newNode(t)
				list, c := n.network(version), n.container()
				n.mustAdd(list, c)
				if err := n.check(list, c); err != nil {
					t.Fatalf("before: %v", err)
				}
				eth0, err := c.handle.LinkByName("eth0")
				if err != nil {
					t.Fatal(err)
				}
				tap, err := n.handle.LinkByName("tap00000000001")
				if err != nil {
					t.Fatal(err)
				}
				if err := row.tamper(place{n, c, eth0, tap}); err != nil {
					t.Fatal(err)
				}
				wantError(t, n.check(list, c), row.code, row.want)
				if err := n.del(list, c); err != nil {
					t.Errorf("del: %v", err)
				}
			})
		}
	}
}

// What the runtime remembers must be what the agent remembers.
func TestCheckComparesWithTheAgent(t *testing.T) {
	n := newNode(t)
	c := n.container()
	result, _, err := n.output(n.command("ADD", c, n.stdin("1.1.0")))
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"":                  "",
		"192.0.2.1/32":      "prevResult has address 192.0.2.77, the agent [192.0.2.1 2001:db8::1]",
		"02:00:00:00:00:01": "prevResult has MAC 02:00:00:00:00:77, the agent 02:00:00:00:00:01",
		"tap00000000001":    "tap tap00000000077 is missing",
		`"name": "eth0"`:    "prevResult does not have interface eth0 with its host end",
		`"169.254.1.1"`:     "prevResult has address 192.0.2.1/32 with gateway <nil>",
	} {
		to := map[string]string{"192.0.2.1/32": "192.0.2.77/32", "02:00:00:00:00:01": "02:00:00:00:00:77",
			"tap00000000001": "tap00000000077", `"name": "eth0"`: `"name": "eth1"`, `"169.254.1.1"`: `""`}[from]
		prev := result
		if from != "" {
			prev = replaceAll(result, from, to)
		}
		_, _, err := n.output(n.command("CHECK", c, n.stdin("1.1.0", `"prevResult":`+prev)))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", from, err)
			}
			continue
		}
		code := uint(rpc.CodeChanged)
		if to == `""` || to == `"name": "eth1"` {
			code = types.ErrInvalidNetworkConfig
		}
		wantError(t, err, code, want)
	}
	_, _, err = n.output(n.command("CHECK", c, n.stdin("1.1.0")))
	wantError(t, err, types.ErrInvalidNetworkConfig, "prevResult is missing")
	_, _, err = n.output(n.command("CHECK", c, n.stdin("1.1.0", `"prevResult":{"cniVersion":"1.1.0","ips":5}`)))
	wantError(t, err, types.ErrInvalidNetworkConfig, "prevResult cannot be read")
}
