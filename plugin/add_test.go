package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/table"
)

func TestBinary(t *testing.T) {
	info, err := os.Stat(filepath.Join(binDir, "vrouter"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 15<<20 {
		t.Errorf("vrouter has %d bytes, more than 15 MB", info.Size())
	}
}

// The whole life of a pod, in every version of the specification.
func TestLifeOfAPod(t *testing.T) {
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t)
			list, pod := n.network(version, `"dns":{"nameservers":["192.0.2.53"]}`), n.container()
			before := n.snapshot()
			result, err := n.add(list, pod)
			if err != nil {
				t.Fatal(err)
			}
			if result.Version() != version {
				t.Errorf("result is %s", result.Version())
			}
			if old, ok := result.(*types040.Result); ok && (old.IPs[0].Version != "4" || old.IPs[1].Version != "6") {
				t.Errorf("0.4.0 result: %+v", old)
			}
			n.wantKernel(pod, 1468)
			if got := n.agent.Served(); !slices.Equal(got, []string{"attach", "bind"}) {
				t.Errorf("agent served %v", got)
			}
			if err := n.check(list, pod); err != nil {
				t.Errorf("check: %v", err)
			}
			if err := n.del(list, pod); err != nil {
				t.Errorf("del: %v", err)
			}
			n.wantSame(before)
			n.wantQuiet()
		})
	}
}

// wantKernel compares both ends with what the agent said, by means other than
// the plugin's own inspection where that would only repeat it.
func (n *node) wantKernel(c *container, mtu int) {
	n.t.Helper()
	iface := n.agent.Interface(c.key())
	tap, err := n.handle.LinkByName(iface.Tap)
	if err != nil {
		n.t.Fatal(err)
	}
	pod, err := c.handle.LinkByName("eth0")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, l := range []netlink.Link{tap, pod} {
		a := l.Attrs()
		if a.NumTxQueues != 1 || a.NumRxQueues != 1 || a.MTU != mtu || a.OperState != netlink.OperUp {
			n.t.Errorf("%s: queues %d/%d, mtu %d, state %v", a.Name, a.NumTxQueues, a.NumRxQueues, a.MTU, a.OperState)
		}
	}
	if alias := tap.Attrs().Alias; alias != "vrouter:"+c.id+":eth0" {
		n.t.Errorf("alias %q", alias)
	}
	if tap.Attrs().RawFlags&0x80 == 0 { // IFF_NOARP
		n.t.Error("ARP is on at the tap")
	}
	if addrs, _ := n.handle.AddrList(tap, netlink.FAMILY_ALL); len(addrs) != 0 {
		n.t.Errorf("the tap has addresses: %v", addrs)
	}
	_ = n.within(func() error {
		if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/" + iface.Tap + "/disable_ipv6"); string(b) != "1\n" {
			n.t.Errorf("IPv6 on the tap: disable_ipv6 is %q", b)
		}
		return nil
	})
	_ = c.within(func() error {
		if b, _ := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra"); string(b) != "0\n" {
			n.t.Errorf("the pod takes router advertisements: accept_ra is %q", b)
		}
		return nil
	})
	addrs, _ := c.handle.AddrList(pod, netlink.FAMILY_V6)
	for _, a := range addrs {
		if a.Flags&0x40 != 0 && !a.IP.IsLinkLocalUnicast() { // IFA_F_TENTATIVE
			n.t.Errorf("%v is not usable yet", a)
		}
	}
	for dst, gw := range map[string]string{"192.0.2.200": "169.254.1.1", "2001:db8:9::1": "fe80::1"} {
		routes, err := c.handle.RouteGet(net.ParseIP(dst))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != gw || routes[0].Src == nil {
			n.t.Errorf("%s leaves via %v (%v), want %s", dst, routes, err, gw)
		}
	}
	neighs, _ := c.handle.NeighList(pod.Attrs().Index, netlink.FAMILY_ALL)
	fixed := 0
	for _, neigh := range neighs {
		if neigh.State == netlink.NUD_PERMANENT && neigh.HardwareAddr.String() == table.RouterMAC.String() {
			fixed++
		}
	}
	if fixed != 2 {
		n.t.Errorf("neighbours %v, want two permanent ones with %v", neighs, table.RouterMAC)
	}
}

func TestResult(t *testing.T) {
	n := newNode(t)
	pod := n.container()
	r := n.mustAdd(n.network("1.1.0", `"mtu":1400`, `"dns":{"search":["example.com"]}`), pod)
	n.wantKernel(pod, 1400)
	iface := n.agent.Interface(pod.key())
	if len(r.Interfaces) != 2 || r.Interfaces[0].Name != iface.Tap || r.Interfaces[0].Sandbox != "" {
		t.Fatalf("interfaces %v", r.Interfaces)
	}
	if in := r.Interfaces[1]; in.Name != "eth0" || in.Sandbox != pod.path || in.Mac != iface.MAC.String() || in.Mtu != 1400 {
		t.Errorf("interface %+v", in)
	}
	var ips, routes []string
	for _, ip := range r.IPs {
		if ip.Interface == nil || *ip.Interface != 1 {
			t.Errorf("%v is not of interface 1", ip)
		}
		ips = append(ips, ip.Address.String()+" via "+ip.Gateway.String())
	}
	for _, route := range r.Routes {
		routes = append(routes, route.Dst.String()+" via "+route.GW.String())
	}
	if want := []string{"192.0.2.1/32 via 169.254.1.1", "2001:db8::1/128 via fe80::1"}; !slices.Equal(ips, want) {
		t.Errorf("ips %v", ips)
	}
	if want := []string{"0.0.0.0/0 via 169.254.1.1", "::/0 via fe80::1"}; !slices.Equal(routes, want) {
		t.Errorf("routes %v", routes)
	}
	if !slices.Equal(r.DNS.Search, []string{"example.com"}) {
		t.Errorf("dns %+v", r.DNS)
	}
}

// A pod in a network of its own is known by other addresses than it has.
func TestPodIPs(t *testing.T) {
	n := newNode(t)
	n.agent.PodIPs = []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:ffff::9")}
	list, pod := n.network("1.1.0"), n.container()
	before := n.snapshot()
	r := n.mustAdd(list, pod)
	n.wantKernel(pod, 1468)
	for i, ip := range r.IPs {
		if want := n.agent.PodIPs[i].String(); ip.Address.IP.String() != want || ip.Gateway == nil {
			t.Errorf("ip %d is %v, want %s", i, ip, want)
		}
	}
	if err := n.check(list, pod); err != nil {
		t.Error(err)
	}
	eth0, _ := pod.handle.LinkByName("eth0")
	addrs, _ := pod.handle.AddrList(eth0, netlink.FAMILY_V4)
	if err := pod.handle.AddrDel(eth0, &addrs[0]); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.check(list, pod), rpc.CodeChanged, "address 192.0.2.1/32 is missing")
	if err := n.del(list, pod); err != nil {
		t.Fatal(err)
	}
	n.wantSame(before)
}

// An agent that comes while ADD waits is as good as one that was there; it also
// waits for one that is restarted in the middle.
func TestAddWaitsForTheAgent(t *testing.T) {
	n := newNode(t)
	n.wait = 10
	list, pod := n.network("1.1.0"), n.container()
	n.agent.Stop()
	asked := make(chan struct{}, 2)
	n.agent.Refuse(func(r *rpc.Request) *rpc.Error {
		if asked <- struct{}{}; len(asked) == 1 {
			n.agent.Die() // in the middle of the answer
		}
		return nil
	})
	ended := make(chan error, 1)
	go func() { _, err := n.add(list, pod); ended <- err }()
	n.startAgent()
	for len(asked) == 0 {
		select {
		case err := <-ended:
			t.Fatalf("ended before the agent was asked: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	n.agent.Stop()
	n.agent.Refuse(nil)
	n.startAgent()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	n.wantKernel(pod, 1468)
}

// A runtime that repeats ADD gets the same answer, and what was damaged in
// between is completed.
func TestAddAgain(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	before := n.snapshot()
	first := n.mustAdd(list, pod)
	eth0, _ := pod.handle.LinkByName("eth0")
	tap, _ := n.handle.LinkByName(first.Interfaces[0].Name)
	addrs, _ := pod.handle.AddrList(eth0, netlink.FAMILY_V4)
	for _, err := range []error{
		pod.handle.AddrDel(eth0, &addrs[0]),
		pod.handle.LinkSetMTU(eth0, 1300),
		pod.handle.LinkSetDown(eth0), // takes the routes along
		pod.handle.LinkSetHardwareAddr(eth0, net.HardwareAddr{2, 0, 0, 0, 9, 9}),
		n.handle.LinkSetDown(tap),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	again := n.mustAdd(list, pod)
	if first.Interfaces[0].Name != again.Interfaces[0].Name || first.IPs[0].Address.String() != again.IPs[0].Address.String() {
		t.Errorf("first %v, again %v", first, again)
	}
	n.wantKernel(pod, 1468)
	if now, _ := n.handle.LinkByName(again.Interfaces[0].Name); now.Attrs().Index != tap.Attrs().Index {
		t.Error("the pair was made anew: connections are lost")
	}
	if err := n.check(list, pod); err != nil {
		t.Error(err)
	}
	if err := n.del(list, pod); err != nil {
		t.Fatal(err)
	}
	n.wantSame(before)
}

// A repeated ADD that fails must not cut off the pod that works.
func TestFailedRepetitionKeepsThePod(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	n.mustAdd(list, pod)
	n.agent.Refuse(func(r *rpc.Request) *rpc.Error {
		if r.Bind != nil {
			return &rpc.Error{Code: rpc.CodeTryAgain, Message: "the fast path is restarting", Fix: "wait"}
		}
		return nil
	})
	_, err := n.add(list, pod)
	wantError(t, err, 11, "attach pod default/"+pod.id, "bind tap", "the fast path is restarting", "wait")
	n.agent.Refuse(nil)
	n.wantKernel(pod, 1468)
}

func TestAddWithAnotherNetns(t *testing.T) {
	n := newNode(t)
	list, pod, other := n.network("1.1.0"), n.container(), n.container()
	n.mustAdd(list, pod)
	other.id = pod.id
	_, err := n.add(list, other)
	wantError(t, err, rpc.CodeConflict, pod.path, other.path, "delete it first")
	n.wantKernel(pod, 1468)
	if _, err := other.handle.LinkByName("eth0"); err == nil {
		t.Error("the other namespace got an interface")
	}
}

// Remains of an ADD that was killed are taken over or cleared away; foreign
// interfaces are neither.
func TestAddMeetsRemains(t *testing.T) {
	const tap = "tap00000000001" // the first the agent gives
	pair := func(n *node, c *container) *netlink.Veth {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = tap
		v := netlink.NewVeth(attrs)
		v.PeerName, v.PeerNamespace = "eth0", netlink.NsFd(c.ns)
		attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
		v.LinkAttrs = attrs
		return v
	}
	alone := func() *netlink.Veth {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = tap
		v := netlink.NewVeth(attrs)
		v.PeerName = "other"
		return v
	}
	for name, row := range map[string]struct {
		make func(n *node, c *container) error
		want string // in the error; empty: success
	}{
		"killed before the alias": {func(n *node, c *container) error { return n.handle.LinkAdd(pair(n, c)) }, ""},
		"pod end moved away":      {func(n *node, c *container) error { return n.handle.LinkAdd(alone()) }, ""},
		"an earlier sandbox": {func(n *node, c *container) error {
			v := alone()
			if err := n.handle.LinkAdd(v); err != nil {
				return err
			}
			return n.handle.LinkSetAlias(v, "vrouter:earlier:eth0")
		}, ""},
		"a foreign tap": {func(n *node, c *container) error {
			v := alone()
			if err := n.handle.LinkAdd(v); err != nil {
				return err
			}
			return n.handle.LinkSetUp(v)
		}, tap + " exists and is not ours"},
		"a foreign eth0": {func(n *node, c *container) error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "eth0"
			return c.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
		}, "eth0 exists in the pod and is not ours"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			list, pod := n.network("1.1.0"), n.container()
			if err := row.make(n, pod); err != nil {
				t.Fatal(err)
			}
			before := n.snapshot()
			_, err := n.add(list, pod)
			if row.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				n.wantKernel(pod, 1468)
				return
			}
			wantError(t, err, types.ErrInternal, row.want)
			n.wantSame(before)
			// The runtime answers a failed ADD with DEL: what is foreign stays.
			if err := n.del(list, pod); err != nil {
				t.Fatal(err)
			}
			n.wantSame(before)
			if _, err := pod.handle.LinkByName("eth0"); strings.Contains(row.want, "eth0") && err != nil {
				t.Error("DEL removed a foreign interface")
			}
		})
	}
}

// Whatever step fails, nothing is left.
func TestFailedAddLeavesNothing(t *testing.T) {
	for name, row := range map[string]struct {
		step func(n *node, c *container) func(*rpc.Request) *rpc.Error
		code uint
		want string
	}{
		"attach: try again": {func(n *node, c *container) func(*rpc.Request) *rpc.Error {
			return func(r *rpc.Request) *rpc.Error {
				if r.Attach != nil {
					return &rpc.Error{Code: 11, Message: "no VMI of the pod yet: waiting for the controller", Fix: "is the controller up?"}
				}
				return nil
			}
		}, 11, "waiting for the controller"},
		"bind": {func(n *node, c *container) func(*rpc.Request) *rpc.Error {
			return func(r *rpc.Request) *rpc.Error {
				if r.Bind != nil {
					return &rpc.Error{Code: rpc.CodeInternal, Message: "tcx: no space"}
				}
				return nil
			}
		}, 999, "bind tap00000000001 to the fast path: tcx: no space"},
		"agent restarts before bind": {func(n *node, c *container) func(*rpc.Request) *rpc.Error {
			return func(r *rpc.Request) *rpc.Error {
				if r.Bind != nil {
					n.agent.Forget(c.key())
				}
				return nil
			}
		}, 11, "no such attachment"},
		"interface taken away": {func(n *node, c *container) func(*rpc.Request) *rpc.Error {
			return func(r *rpc.Request) *rpc.Error {
				if r.Bind != nil {
					eth0, _ := c.handle.LinkByName("eth0")
					_ = c.handle.LinkDel(eth0)
				}
				return nil
			}
		}, 999, "find tap00000000001"},
		"agent dies at bind": {func(n *node, c *container) func(*rpc.Request) *rpc.Error {
			return func(r *rpc.Request) *rpc.Error {
				if r.Bind != nil {
					n.agent.Die()
				}
				return nil
			}
		}, 11, "the other side closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			list, pod := n.network("1.1.0"), n.container()
			before := n.snapshot()
			n.agent.Refuse(row.step(n, pod))
			_, err := n.add(list, pod)
			wantError(t, err, row.code, "attach pod default/"+pod.id, row.want)
			if name == "agent dies at bind" {
				if _, err := os.Stat(filepath.Join(n.runDir, "detach", pod.id+"-eth0.json")); err != nil {
					t.Error("no note for the agent: ", err)
				}
				if _, err := n.handle.LinkByName("tap00000000001"); err == nil {
					t.Error("the tap is left")
				}
				return
			}
			n.wantSame(before)
			if _, err := pod.handle.LinkByName("eth0"); err == nil {
				t.Error("the pod's end is left")
			}
		})
	}
}

// The result cannot be delivered: the runtime never learns of the pod.
func TestAddWithoutListener(t *testing.T) {
	n := newNode(t)
	pod := n.container()
	before := n.snapshot()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	plugin := n.command("ADD", pod, n.stdin("1.1.0"))
	plugin.Stdout = full
	if err := n.within(plugin.Run); err == nil {
		t.Error("ADD succeeded")
	}
	n.wantSame(before)
}

func TestIPv6DisabledInThePod(t *testing.T) {
	disable := func(c *container) {
		if err := c.within(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	disable(pod)
	before := n.snapshot()
	_, err := n.add(list, pod)
	wantError(t, err, types.ErrInternal, "IPv6 is disabled in its namespace", "net.ipv6.conf.default.disable_ipv6=0")
	n.wantSame(before)
	n.agent.V6 = false
	if _, err := n.add(list, pod); err != nil {
		t.Errorf("a pod with IPv4 only: %v", err)
	}
}

func TestOneFamily(t *testing.T) {
	for _, v4 := range []bool{true, false} {
		n := newNode(t)
		n.agent.V4, n.agent.V6 = v4, !v4
		list, pod := n.network("1.1.0"), n.container()
		r := n.mustAdd(list, pod)
		if len(r.IPs) != 1 || len(r.Routes) != 1 {
			t.Errorf("result %v", r)
		}
		if err := n.check(list, pod); err != nil {
			t.Error(err)
		}
	}
}
