package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/table"
)

// space is another network namespace; it ends with the test.
type space struct {
	t *testing.T
	h netns.NsHandle
}

func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{t: t}
	inThread(func() {
		own, err := netns.Get()
		if err != nil {
			t.Error(err)
			return
		}
		defer own.Close()
		if s.h, err = netns.New(); err != nil {
			t.Error(err)
		}
		if err := netns.Set(own); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { _ = s.h.Close() })
	s.sh("ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
	return s
}

// inThread runs f on a thread that nothing else uses.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
		runtime.UnlockOSThread()
	}()
	<-done
}

func (s *space) do(f func()) {
	s.t.Helper()
	inThread(func() {
		own, err := netns.Get()
		if err == nil {
			defer own.Close()
			err = netns.Set(s.h)
		}
		if err != nil {
			s.t.Error(err)
			return
		}
		f()
		if err := netns.Set(own); err != nil {
			s.t.Error(err)
		}
	})
}

func (s *space) sh(line string) {
	s.t.Helper()
	s.do(func() {
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			s.t.Errorf("%s: %v: %s", line, err, out)
		}
	})
}

// here is the test's own namespace as a space.
func here(t *testing.T) *space {
	t.Helper()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	return &space{t, own}
}

// node is a node with a client outside, and a namespace in the place of the fast
// path, which has every VIP and every pod.
type node struct {
	t                      *testing.T
	self, networks, client *space
}

const (
	hostFour, hostSix     = "192.0.2.1", "2001:db8:1::1"
	podFour, podSix       = "192.0.2.5", "2001:db8:1::5"
	vipFour, vipSix       = "198.51.100.10", "2001:db8:2::10"
	outFour, outSix       = "203.0.113.77", "2001:db8:3::77" // external addresses
	keptFour, keptSix     = "203.0.113.78", "2001:db8:3::78"
	nodeFour, nodeSix     = "10.9.0.1", "2001:db8:9::1"
	clientFour, clientSix = "10.9.0.2", "2001:db8:9::2"
)

func (n *node) rules() Rules {
	r := Rules{
		Host: "vhost0", Addrs: addrs(hostFour, hostSix), Masquerade: true,
		Pods: prefixes("192.0.2.0/24", "2001:db8:1::/64"), Services: prefixes("198.51.100.0/24", "2001:db8:2::/64"),
	}
	for _, vip := range addrs(vipFour, vipSix) {
		for _, proto := range []uint8{syscall.IPPROTO_TCP, syscall.IPPROTO_UDP} {
			r.NodePorts = append(r.NodePorts, compile.NodePort{Proto: proto, Port: 30080, VIP: vip}, compile.NodePort{Proto: proto, Port: 30081, VIP: vip, Local: true})
		}
	}
	for _, vip := range addrs(outFour, outSix) {
		r.Externals = append(r.Externals, compile.External{VIP: vip})
	}
	for _, vip := range addrs(keptFour, keptSix) {
		r.Externals = append(r.Externals, compile.External{VIP: vip, Local: true})
	}
	return r
}

func newNode(t *testing.T) *node {
	t.Helper()
	needRoot(t)
	n := &node{t, here(t), newSpace(t), newSpace(t)}
	sh(t, "ip link set lo up")
	t.Cleanup(func() { _ = RemoveHost("vhost0"); _ = DeleteTap("fab0"); _ = RemoveRules() })
	if _, err := EnsureHost("vhost0", 1468); err != nil {
		t.Fatal(err)
	}
	if err := EnableForwarding(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	tap, mac := link(t, "tapvhost0"), link(t, "vhost0").Attrs().HardwareAddr
	if err := netlink.LinkSetNsFd(tap, int(n.networks.h)); err != nil {
		t.Fatal(err)
	}
	n.networks.sh(fmt.Sprintf(`
sysctl -qw net.ipv6.conf.tapvhost0.disable_ipv6=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tapvhost0.rp_filter=0
ip link set tapvhost0 address %s; ip link set tapvhost0 up
for a in %s %s %s %s; do ip addr add $a/32 dev lo; done
for a in %s %s %s %s; do ip addr add $a/128 dev lo; done
ip neigh add 169.254.9.9 lladdr %s dev tapvhost0 nud permanent; ip -6 neigh add fe80::99 lladdr %s dev tapvhost0 nud permanent
ip route add default via 169.254.9.9 dev tapvhost0 onlink; ip -6 route add default via fe80::99 dev tapvhost0 onlink`,
		table.RouterMAC, podFour, vipFour, outFour, keptFour, podSix, vipSix, outSix, keptSix, mac, mac))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "fab0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.client.h)}); err != nil {
		t.Fatal(err)
	}
	sh(t, fmt.Sprintf("ip addr add %s/24 dev fab0; ip addr add %s/64 dev fab0 nodad; ip link set fab0 up", nodeFour, nodeSix))
	n.client.sh(fmt.Sprintf(`ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad; ip link set eth0 up
ip route add default via %s; ip -6 route add default via %s`, clientFour, clientSix, nodeFour, nodeSix))
	n.serve()
	n.apply(n.rules())
	return n
}

func (n *node) apply(r Rules) {
	n.t.Helper()
	for _, err := range []error{hostEndUp(r.Host), SetHostAddrs(r.Host, r.Addrs), EnsureRules(r)} {
		if err != nil {
			n.t.Fatal(err)
		}
	}
	routes := Routes{Host: r.Host, Addrs: r.Addrs, Subnets: append(append([]netip.Prefix{}, r.Pods...), r.Services...), Externals: r.Externals}
	if _, left, err := SetHostRoutes(routes); err != nil || left != nil {
		n.t.Fatal(left, err)
	}
}

// hostEndUp sets the node's end up: the other one is elsewhere in these tests.
func hostEndUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// serve answers with the client's address on three ports of every address of the
// networks: the two node ports, and the service's own.
func (n *node) serve() {
	n.t.Helper()
	for _, port := range []string{"30080", "30081", "80"} {
		n.networks.do(func() {
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				n.t.Error(err)
				return
			}
			n.t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, unmapped(c.RemoteAddr()))
					_ = c.Close()
				}
			}()
			for _, vip := range []string{vipFour, vipSix} {
				u, err := net.ListenPacket("udp", net.JoinHostPort(vip, port))
				if err != nil {
					n.t.Error(err)
					return
				}
				n.t.Cleanup(func() { _ = u.Close() })
				go func() {
					buf := make([]byte, 64)
					for {
						_, from, err := u.ReadFrom(buf)
						if err != nil {
							return
						}
						_, _ = u.WriteTo([]byte(unmapped(from)), from)
					}
				}()
			}
		})
	}
}

func unmapped(a net.Addr) string {
	p := netip.MustParseAddrPort(a.String())
	return p.Addr().Unmap().String()
}

// seen is the client's address that a server tells a client at place, or why it
// does not: "refused", "silence".
func seen(place *space, network, from, to string) (who string) {
	place.do(func() {
		d := net.Dialer{Timeout: 2 * time.Second}
		if from != "" && network == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		} else if from != "" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		c, err := d.DialContext(context.Background(), network, to)
		if err == nil {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			if network == "udp" {
				_, err = c.Write([]byte("?"))
			}
			buf := make([]byte, 64)
			if err == nil {
				var k int
				k, err = c.Read(buf)
				who = string(buf[:k])
			}
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			who = "refused"
		case err != nil:
			who = "silence"
		}
	})
	return who
}

// backends runs a test with each iptables that is installed.
func backends(t *testing.T, test func(t *testing.T)) {
	for _, multi := range []string{"xtables-nft-multi", "xtables-legacy-multi"} {
		t.Run(multi, func(t *testing.T) {
			needRoot(t)
			program, err := exec.LookPath(multi)
			if err != nil {
				t.Skip("not installed: " + multi)
			}
			dir := t.TempDir()
			for _, name := range []string{"iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"} {
				if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			test(t)
		})
	}
}

func TestNodePorts(t *testing.T) { backends(t, testNodePorts) }

func testNodePorts(t *testing.T) {
	n := newNode(t)
	type visit struct {
		what        string
		place       *space
		from        string
		cluster     string // seen on the port with policy Cluster
		local       string // Local
		at, service string
	}
	for _, v := range []visit{
		{"a client outside", n.client, "", hostFour, clientFour, nodeFour, vipFour},
		{"a client outside", n.client, "", hostSix, clientSix, nodeSix, vipSix},
		{"the node itself", n.self, "", hostFour, hostFour, nodeFour, vipFour},
		{"the node itself", n.self, "", hostSix, hostSix, nodeSix, vipSix},
		{"a pod, perhaps the backend", n.networks, podFour, hostFour, hostFour, nodeFour, vipFour},
		{"a pod, perhaps the backend", n.networks, podSix, hostSix, hostSix, nodeSix, vipSix},
	} {
		for _, network := range []string{"tcp", "udp"} {
			for port, want := range map[string]string{"30080": v.cluster, "30081": v.local} {
				if got := seen(v.place, network, v.from, net.JoinHostPort(v.at, port)); got != want {
					t.Errorf("%s, %s to port %s of %s: is seen as %s, expected %s", v.what, network, port, v.at, got, want)
				}
			}
		}
	}
	for _, to := range []string{hostFour + ":30080", "127.0.0.1:30080", "[" + hostSix + "]:30080", "[::1]:30080", nodeFour + ":30082"} {
		if got := seen(n.self, "tcp", "", to); got != "refused" {
			t.Errorf("%s: %s, expected refused", to, got)
		}
	}
}

func TestExternals(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct{ what, got, want string }{
		{"v4, Cluster", seen(n.client, "tcp", "", outFour+":80"), hostFour},
		{"v6, Cluster", seen(n.client, "tcp", "", "["+outSix+"]:80"), hostSix},
		{"v4, Local", seen(n.client, "tcp", "", keptFour+":80"), clientFour},
		{"v6, Local", seen(n.client, "tcp", "", "["+keptSix+"]:80"), clientSix},
		{"v4, node", seen(n.self, "tcp", "", outFour+":80"), hostFour},
		{"v6, node", seen(n.self, "tcp", "", "["+keptSix+"]:80"), hostSix},
		{"v4, node by its other address", seen(n.self, "tcp", nodeFour, outFour+":80"), hostFour},
		{"v6, node by its other address", seen(n.self, "tcp", nodeSix, "["+vipSix+"]:80"), hostSix},
		{"cluster address from outside", seen(n.client, "tcp", "", vipFour+":80"), "refused"},
	} {
		if c.got != c.want {
			t.Errorf("%s: is seen as %s, expected %s", c.what, c.got, c.want)
		}
	}
	r := n.rules()
	r.Externals = nil
	n.apply(r)
	if got := sh(t, "ip route show proto 201; ip -6 route show proto 201"); strings.Contains(got, outFour) || strings.Contains(got, outSix) {
		t.Errorf("routes to external addresses stay:\n%s", got)
	}
}

// What a pod's network does not know goes out by its default route. It must not
// come in again as if the node had sent it.
func TestNoWayBackIn(t *testing.T) {
	n := newNode(t)
	for _, to := range []string{"192.0.2.99:80", "198.51.100.99:80", "[2001:db8:1::99]:80", "[2001:db8:2::99]:80"} {
		from := podFour
		if to[0] == '[' {
			from = podSix
		}
		if got := seen(n.networks, "tcp", from, to); got != "refused" {
			t.Errorf("a pod to %s by the node: %s, expected refused", to, got)
		}
	}
}

// A UDP client that never pauses follows the node port: it gets there when the
// port comes, and not to the old place when it goes.
func TestUDPClientFollows(t *testing.T) {
	n := newNode(t)
	with := n.rules()
	without := with
	without.NodePorts = nil
	n.apply(without)
	n.client.do(func() {
		c, err := net.Dial("udp", nodeFour+":30081")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		answer := func() bool {
			_, _ = c.Write([]byte("?"))
			_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			_, err := c.Read(make([]byte, 64))
			return err == nil
		}
		if answer() {
			t.Error("an answer without a node port")
		}
		n.self.do(func() { n.apply(with) })
		if !answer() {
			t.Error("no answer with the node port")
		}
		n.self.do(func() { n.apply(without) })
		if answer() {
			t.Error("an answer although the node port is gone")
		}
	})
}

// kube-proxy's DNAT and its masquerading go on beside our rules, which it may
// even flush with all others.
func TestBesideKubeProxy(t *testing.T) { backends(t, testBesideKubeProxy) }

func testBesideKubeProxy(t *testing.T) {
	n := newNode(t)
	r := n.rules()
	r.NodePorts = nil
	n.apply(r)
	const theirs = `
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 198.51.100.200/32 -p tcp --dport 80 -j DNAT --to-destination 192.0.2.5:80
-A KUBE-SERVICES -p tcp -m addrtype --dst-type LOCAL --dport 31000 -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -p tcp -m addrtype --dst-type LOCAL --dport 31000 -j DNAT --to-destination 192.0.2.5:80
-A KUBE-SERVICES -p tcp -m addrtype --dst-type LOCAL --dport 31001 -j DNAT --to-destination 192.0.2.5:80
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`
	c := exec.Command("iptables-restore", "--noflush")
	c.Stdin = strings.NewReader(theirs)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		sh(t, "iptables -t nat -F; iptables -t nat -X KUBE-SERVICES; iptables -t nat -X KUBE-POSTROUTING")
	})
	look := func(when string) {
		t.Helper()
		for _, c := range []struct{ what, got, want string }{
			{"a client outside to a node port", seen(n.client, "tcp", "", nodeFour+":31000"), hostFour},
			{"a client outside to a local node port", seen(n.client, "tcp", "", nodeFour+":31001"), clientFour},
			{"the node to a node port", seen(n.self, "tcp", "", nodeFour+":31000"), hostFour},
			{"the node to a cluster address", seen(n.self, "tcp", "", "198.51.100.200:80"), hostFour},
			{"a pod to a node port", seen(n.networks, "tcp", podFour, nodeFour+":31000"), hostFour},
			{"a pod to a local node port", seen(n.networks, "tcp", podFour, nodeFour+":31001"), hostFour},
			// Not by this way: its own network refuses or serves it.
			{"a pod to a cluster address", seen(n.networks, "tcp", podFour, "198.51.100.200:80"), "refused"},
		} {
			if c.got != c.want {
				t.Errorf("%s, %s: is seen as %s, expected %s", when, c.what, c.got, c.want)
			}
		}
	}
	look("ours first")
	sh(t, "iptables -t nat -F POSTROUTING; iptables -t nat -F VRAGENT-INWARD; iptables -t nat -A POSTROUTING -j KUBE-POSTROUTING")
	n.apply(r)
	look("mended")
}

// Without a program that we need, the error names it.
func TestFirewallMissing(t *testing.T) {
	needRoot(t)
	iptables, err := exec.LookPath("iptables")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := EnsureRules(Rules{Host: "vhost0"}); err == nil || !strings.Contains(err.Error(), `"iptables": executable file not found`) || !strings.Contains(err.Error(), "package") {
		t.Errorf("without any: %v", err)
	}
	if err := os.Symlink(iptables, filepath.Join(dir, "iptables")); err != nil {
		t.Fatal(err)
	}
	if err := EnsureRules(Rules{Host: "vhost0"}); err == nil || !strings.Contains(err.Error(), `"iptables-restore": executable file not found`) {
		t.Errorf("without iptables-restore: %v", err)
	}
}

// Everything goes with RemoveRules and the interface, and what repeats nothing
// changes nothing: counters go on.
func TestOutsideRemoved(t *testing.T) {
	backends(t, func(t *testing.T) {
		sh(t, "ip6tables -t nat -L -n >/dev/null; iptables -t nat -L -n >/dev/null; iptables -L -n > /dev/null; ip6tables -L -n > /dev/null")
		before := saved(t)
		n := newNode(t)
		_ = seen(n.client, "tcp", "", nodeFour+":30080")
		counted := sh(t, "iptables -t nat -vxnL VRAGENT-NODEPORTS")
		n.apply(n.rules())
		if again := sh(t, "iptables -t nat -vxnL VRAGENT-NODEPORTS"); again != counted || !strings.Contains(counted, "       1 ") {
			t.Errorf("repeated, it is written again\n%s\n%s", counted, again)
		}
		if err := RemoveRules(); err != nil {
			t.Fatal(err)
		}
		if after := saved(t); after != before {
			t.Errorf("left behind\n%s\n%s", before, after)
		}
	})
}

// BenchmarkNodePorts writes 1,000 node ports anew, and looks at them again.
func BenchmarkNodePorts(b *testing.B) {
	if syscall.Getuid() != 0 {
		b.Skip("not root: no network namespace to work in")
	}
	b.Cleanup(func() { _ = RemoveRules() })
	r := Rules{Host: "vhost0", Addrs: addrs(hostFour), Pods: prefixes("192.0.2.0/24"), Services: prefixes("198.51.100.0/22"), Masquerade: true}
	for i := range 1000 {
		r.NodePorts = append(r.NodePorts, compile.NodePort{Proto: 6, Port: uint16(30000 + i), VIP: netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(i % 250)})})
	}
	b.Run("written", func(b *testing.B) {
		for range b.N {
			r.NodePorts[0].VIP = r.NodePorts[0].VIP.Next()
			if err := EnsureRules(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for range b.N {
			if err := EnsureRules(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
