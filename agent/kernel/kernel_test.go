package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/vragent/vragent/fastpath/link/steer"
)

// TestMain runs the tests in a network namespace of their own, which ends with
// the process.
func TestMain(m *testing.M) {
	const inside = "KERNEL_TEST_INSIDE"
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no network namespace to work in")
	}
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return l
}

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// pair makes a veth whose other end, eth0, is in another namespace.
func pair(t *testing.T, name, here, there string) *netlink.Handle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	other, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(own); err != nil {
		t.Fatal(err)
	}
	h, err := netlink.NewHandleAt(other)
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(other)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = DeleteTap(name)
		h.Close()
		_ = other.Close()
	})
	addr := func(s string) *netlink.Addr {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	l, p := link(t, name), peerLink(t, h)
	for _, err := range []error{netlink.AddrAdd(l, addr(here)), netlink.LinkSetUp(l), h.AddrAdd(p, addr(there)), h.LinkSetUp(p)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func peerLink(t *testing.T, h *netlink.Handle) netlink.Link {
	t.Helper()
	l, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPunt(t *testing.T) {
	needRoot(t)
	t.Cleanup(func() { _ = RemovePunt() })
	for _, workers := range []int{1, 2} {
		recreated, err := EnsurePunt(workers)
		if err != nil || recreated != (workers == 2) {
			t.Fatalf("%d workers: recreated %t, %v", workers, recreated, err)
		}
		outer, inner := link(t, steer.PuntOuter), link(t, steer.PuntInner)
		for _, l := range []netlink.Link{outer, inner} {
			a := l.Attrs()
			if a.NumTxQueues != workers || a.NumRxQueues != workers || a.MTU != steer.PuntMTU || a.Flags&net.FlagUp == 0 {
				t.Errorf("%s: %d/%d queues, MTU %d, flags %v", a.Name, a.NumTxQueues, a.NumRxQueues, a.MTU, a.Flags)
			}
			if six := sh(t, "cat /proc/sys/net/ipv6/conf/"+a.Name+"/disable_ipv6"); strings.TrimSpace(six) != "1" {
				t.Errorf("%s: IPv6 is not off", a.Name)
			}
			if text := sh(t, "ip link show "+a.Name); !strings.Contains(text, "NOARP") {
				t.Errorf("%s answers ARP: %s", a.Name, text)
			}
		}
		features := sh(t, "ethtool -k "+steer.PuntOuter)
		for _, off := range []string{"tx-checksumming: off", "tx-tcp-segmentation: off", "tx-tcp6-segmentation: off"} {
			if !strings.Contains(features, off) {
				t.Errorf("%d workers: not %s", workers, off)
			}
		}
		if q := sh(t, "tc qdisc show dev "+steer.PuntOuter); strings.Contains(q, "noqueue") {
			t.Errorf("%d workers: %s", workers, q)
		}
		if again, err := EnsurePunt(workers); again || err != nil || link(t, steer.PuntOuter).Attrs().Index != outer.Attrs().Index {
			t.Errorf("%d workers, again: recreated %t, %v", workers, again, err)
		}
	}
	if err := RemovePunt(); err != nil {
		t.Fatal(err)
	}
	if err := RemovePunt(); err != nil {
		t.Errorf("removing twice: %v", err)
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestHost(t *testing.T) {
	needRoot(t)
	before := sh(t, "ip route show table all; ip -6 route show table all; ip addr")
	t.Cleanup(func() { _ = RemoveHost("vhost0") })
	h, err := EnsureHost("vhost0", 1468)
	if err != nil {
		t.Fatal(err)
	}
	if h.Tap != "tapvhost0" || h.Ifindex != link(t, "tapvhost0").Attrs().Index || h.MAC != toMAC(link(t, "vhost0").Attrs().HardwareAddr) || h.MTU != 1468 {
		t.Errorf("%+v", h)
	}
	if link(t, "tapvhost0").Attrs().Flags&net.FlagUp != 0 {
		t.Error("the tap is up before it is steered")
	}
	dress := func(a []netip.Addr, p []netip.Prefix) {
		t.Helper()
		for _, err := range []error{HostUp("vhost0"), SetHostAddrs("vhost0", a)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, left, err := SetHostRoutes(Routes{Host: "vhost0", Addrs: a, Subnets: p}); err != nil || left != nil {
			t.Fatal(left, err)
		}
	}
	subnets := prefixes("192.0.2.0/24", "198.51.100.0/24", "2001:db8:1::/64")
	dress(addrs("192.0.2.1", "2001:db8:1::1"), subnets)
	if got := sh(t, "ip route get 192.0.2.66"); !strings.Contains(got, "via 169.254.1.1 dev vhost0 src 192.0.2.1") {
		t.Error(got)
	}
	if got := sh(t, "ip -6 route get 2001:db8:1::66"); !strings.Contains(got, "via fe80::1 dev vhost0") || !strings.Contains(got, "src 2001:db8:1::1") {
		t.Error(got)
	}
	if got := sh(t, "ip neigh show dev vhost0"); strings.Count(got, "00:00:5e:00:01:00") != 2 {
		t.Error(got)
	}
	first := sh(t, "ip addr show dev vhost0; ip route show dev vhost0; ip -6 route show dev vhost0")
	again, err := EnsureHost("vhost0", 1468)
	if err != nil || again.Ifindex != h.Ifindex {
		t.Fatalf("%+v %v", again, err)
	}
	dress(addrs("192.0.2.1", "2001:db8:1::1"), subnets)
	if second := sh(t, "ip addr show dev vhost0; ip route show dev vhost0; ip -6 route show dev vhost0"); second != first {
		t.Errorf("repeated, it changed\n%s\n%s", first, second)
	}
	dress(addrs("192.0.2.9"), subnets[:1])
	got := sh(t, "ip addr show dev vhost0; ip route show dev vhost0; ip -6 route show dev vhost0")
	for _, gone := range []string{"192.0.2.1/32", "2001:db8:1:", "198.51.100.0"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there:\n%s", gone, got)
		}
	}
	if _, err := EnsureHost("vhost0", 1400); err != nil || link(t, "tapvhost0").Attrs().MTU != 1400 || link(t, "vhost0").Attrs().MTU != 1400 {
		t.Errorf("the MTU does not follow: %v", err)
	}
	if err := RemoveHost("vhost0"); err != nil {
		t.Fatal(err)
	}
	if after := sh(t, "ip route show table all; ip -6 route show table all; ip addr"); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// A device of that name that is not ours is not taken.
func TestHostNameTaken(t *testing.T) {
	needRoot(t)
	sh(t, "ip link add vhost0 type bridge")
	t.Cleanup(func() { _ = DeleteTap("vhost0") })
	if _, err := EnsureHost("vhost0", 1400); err == nil || !strings.Contains(err.Error(), "tapvhost0") {
		t.Errorf("error %v", err)
	}
}

func saved(t *testing.T) string {
	return sh(t, `(iptables-save; ip6tables-save) | grep -v '^#' | sed 's/\[[0-9:]*\]//'`)
}

func TestRules(t *testing.T) {
	needRoot(t)
	sh(t, "iptables -A FORWARD -s 203.0.113.9 -j DROP; iptables -t nat -A POSTROUTING -s 203.0.113.9 -j ACCEPT; ip6tables -A FORWARD -s 2001:db8:9::9 -j DROP; ip6tables -t nat -N x; ip6tables -t nat -X x")
	t.Cleanup(func() {
		_ = RemoveRules()
		sh(t, "iptables -F FORWARD; iptables -t nat -F POSTROUTING; ip6tables -F FORWARD")
	})
	before := saved(t)
	r := Rules{
		Host: "vhost0", Addrs: addrs("192.0.2.1", "2001:db8:1::1"), Masquerade: true,
		Pods: prefixes("192.0.2.0/24", "2001:db8:1::/64"), Services: prefixes("198.51.100.0/24"),
	}
	if err := EnsureRules(r); err != nil {
		t.Fatal(err)
	}
	first := saved(t)
	for _, want := range []string{
		"-A VRAGENT-POSTROUTING -d 198.51.100.0/24 -j RETURN\n-A VRAGENT-POSTROUTING -s 192.0.2.0/24 -j MASQUERADE",
		"-A VRAGENT-POSTROUTING -s 2001:db8:1::/64 -j MASQUERADE",
		"-A VRAGENT-FORWARD -i vhost0 -j ACCEPT", "-A VRAGENT-FORWARD -o vhost0 -j ACCEPT",
		"-A FORWARD -j VRAGENT-FORWARD\n-A FORWARD -s 203.0.113.9/32 -j DROP", // ours come first
	} {
		if !strings.Contains(first, want) {
			t.Errorf("missing %q in\n%s", want, first)
		}
	}
	if err := EnsureRules(r); err != nil || saved(t) != first {
		t.Errorf("repeated, it changed: %v\n%s", err, saved(t))
	}
	sh(t, "iptables -F FORWARD; iptables -t nat -D VRAGENT-POSTROUTING 1; ip6tables -F VRAGENT-FORWARD")
	if err := EnsureRules(r); err != nil {
		t.Fatal(err)
	}
	sh(t, "iptables -A FORWARD -s 203.0.113.9 -j DROP")
	if got := saved(t); got != first {
		t.Errorf("what others broke is not mended\n%s\n%s", first, got)
	}
	r.Masquerade = false
	if err := EnsureRules(r); err != nil || strings.Contains(saved(t), "VRAGENT-POSTROUTING -s") {
		t.Errorf("masquerade stays: %v", err)
	}
	if err := RemoveRules(); err != nil {
		t.Fatal(err)
	}
	if err := RemoveRules(); err != nil {
		t.Errorf("removing twice: %v", err)
	}
	if after := saved(t); after != before {
		t.Errorf("left behind\n%s\n%s", before, after)
	}
}

func TestFindFabric(t *testing.T) {
	needRoot(t)
	pair(t, "fab0", "192.0.2.1/24", "192.0.2.2/24")
	sh(t, "ip addr add 198.51.100.7/32 dev fab0; ip link set fab0 mtu 1400")
	f, err := FindFabric("fab0", netip.Addr{})
	if err != nil || f.Address != netip.MustParseAddr("192.0.2.1") || f.MTU != 1400 || f.MAC == [6]byte{} || f.Ifindex != link(t, "fab0").Attrs().Index {
		t.Errorf("%+v %v", f, err)
	}
	if f, err = FindFabric("fab0", netip.MustParseAddr("198.51.100.7")); err != nil || f.Address != netip.MustParseAddr("198.51.100.7") {
		t.Errorf("%+v %v", f, err)
	}
	for _, c := range []struct {
		name, addr, want string
	}{{"nosuch0", "", "nosuch0"}, {"fab0", "203.0.113.1", "has no address 203.0.113.1"}, {"lo", "", "no global IPv4 address"}} {
		a, _ := netip.ParseAddr(c.addr)
		if _, err := FindFabric(c.name, a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTaps(t *testing.T) {
	needRoot(t)
	pair(t, "tap00000001", "192.0.2.1/32", "192.0.2.2/32")
	taps, err := Taps()
	if err != nil || len(taps) != 1 || taps["tap00000001"] != link(t, "tap00000001").Attrs().Index {
		t.Errorf("%v %v", taps, err)
	}
	if i, ok, err := Tap("tap00000001"); !ok || err != nil || i != taps["tap00000001"] {
		t.Errorf("%d %t %v", i, ok, err)
	}
	for range 2 {
		if err := DeleteTap("tap00000001"); err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := Tap("tap00000001"); ok || err != nil {
		t.Errorf("%t %v", ok, err)
	}
}

func TestForwarding(t *testing.T) {
	needRoot(t)
	pair(t, "fab0", "192.0.2.1/24", "192.0.2.2/24")
	sh(t, "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding; echo 1 > /proc/sys/net/ipv6/conf/fab0/accept_ra")
	if v4, v6, err := Forwarding(); v4 || v6 || err != nil {
		t.Fatal(v4, v6, err)
	}
	dir := t.TempDir()
	for range 2 {
		if err := EnableForwarding(dir); err != nil {
			t.Fatal(err)
		}
		if v4, v6, err := Forwarding(); !v4 || !v6 || err != nil {
			t.Error(v4, v6, err)
		}
		if ra := strings.TrimSpace(sh(t, "cat /proc/sys/net/ipv6/conf/fab0/accept_ra")); ra != "2" {
			t.Errorf("accept_ra is %s: the node would lose routes it learnt", ra)
		}
	}
	for range 2 {
		if err := RestoreForwarding(dir); err != nil {
			t.Fatal(err)
		}
		if v4, v6, err := Forwarding(); v4 || v6 || err != nil {
			t.Error(v4, v6, err)
		}
		if ra := strings.TrimSpace(sh(t, "cat /proc/sys/net/ipv6/conf/fab0/accept_ra")); ra != "1" {
			t.Errorf("accept_ra is %s, was 1", ra)
		}
	}
	sh(t, "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	if err := errors.Join(EnableForwarding(dir), RestoreForwarding(dir)); err != nil {
		t.Error(err)
	}
	if v4, v6, err := Forwarding(); !v4 || !v6 || err != nil {
		t.Error("what others had switched on is off", v4, v6, err)
	}
}
