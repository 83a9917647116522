package steer_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/table"
)

// needRoot skips a test that makes network namespaces where it may not.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and loads BPF programs")
	}
}

// run runs a command that must succeed and returns what it printed.
func run(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// enter moves the calling thread into a network namespace. The goroutine keeps the
// thread until both end. (ip netns exec would hide bpffs mounts.)
func enter(ns string) error {
	runtime.LockOSThread()
	f, err := os.Open("/run/netns/" + ns)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// in runs fn on a thread of its own inside a network namespace and waits for it.
// fn may not call Fatal.
func in(t testing.TB, ns string, fn func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		err := enter(ns)
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("enter %s: %v", ns, err)
	}
}

// await polls until ok, at most 10 seconds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// node is a network namespace with a punt link, as a node of the cluster.
type node struct {
	NS, Dir      string
	Queues       int
	Outer, Inner int
	Attach       steer.Attach
	Pods         []*pod
}

// pod is a network namespace behind a veth.
type pod struct {
	NS     string
	Vif    table.Vif
	Addr   netip.Addr
	Addr6  netip.Addr
	Remote bool // behind the fabric of another node
}

// newNetNS makes a namespace that is removed when the test ends.
func newNetNS(t testing.TB, name string) string {
	t.Helper()
	ns := fmt.Sprintf("steer%d%s", os.Getpid(), name)
	run(t, "ip netns add "+ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	run(t, "ip -n "+ns+" link set lo up")
	return ns
}

func newNode(t testing.TB, name string, queues int) *node {
	t.Helper()
	needRoot(t)
	n := &node{NS: newNetNS(t, name), Dir: t.TempDir() + "/bpf", Queues: queues}
	if strings.HasPrefix(t.Name(), byClsact) {
		n.Attach = steer.AttachClsact
	}
	t.Cleanup(func() { n.remove(t) })
	n.makePunt(t)
	return n
}

// byClsact begins the names of tests whose nodes attach programs as kernels without tcx
// must.
const byClsact = "TestByClsact/"

// remove takes steering off the node.
func (n *node) remove(t testing.TB) {
	t.Helper()
	in(t, n.NS, func() {
		if err := steer.Remove(n.Dir); err != nil {
			t.Error(err)
		}
	})
}

// makePunt makes the punt link as punt.go demands.
func (n *node) makePunt(t testing.TB) {
	t.Helper()
	q := fmt.Sprintf("mtu %d txqueuelen %d numtxqueues %d numrxqueues %d", steer.PuntMTU, steer.PuntQueueLength, n.Queues, n.Queues)
	run(t, fmt.Sprintf("ip -n %s link add punt0 %s type veth peer name punt1 %s", n.NS, q, q))
	qdisc := "mq"
	if n.Queues == 1 {
		qdisc = fmt.Sprintf("pfifo limit %d", steer.PuntQueueLength)
	}
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'ethtool -K punt0 tx off; tc qdisc replace dev punt0 root handle 1: %s'", n.NS, qdisc))
	for _, dev := range []string{"punt0", "punt1"} {
		n.quiet(t, dev)
		run(t, fmt.Sprintf("ip -n %s link set %s up", n.NS, dev))
	}
	n.Outer, n.Inner = n.ifindex(t, "punt0"), n.ifindex(t, "punt1")
}

// quiet keeps the host's stack off a device.
func (n *node) quiet(t testing.TB, dev string) {
	t.Helper()
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'ip link set %s addrgenmode none arp off; echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6'", n.NS, dev, dev))
}

func (n *node) ifindex(t testing.TB, dev string) int { t.Helper(); return ifindexIn(t, n.NS, dev) }

func ifindexIn(t testing.TB, ns, dev string) int {
	t.Helper()
	var links []struct {
		Ifindex int
		Address string
	}
	if err := json.Unmarshal([]byte(run(t, "ip -n "+ns+" -j link show "+dev)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Ifindex
}

// addPod makes a pod with the addresses 192.0.2.<id> and 2001:db8::<id>. Its tap is
// down, and has the address that the pod sends to: the host's stack would take it all.
// Options are of the tap.
func (n *node) addPod(t testing.TB, id, mtu int, options ...string) *pod {
	t.Helper()
	p := &pod{
		NS:    newNetNS(t, fmt.Sprintf("%sp%d", strings.TrimPrefix(n.NS, "steer"), id)),
		Addr:  netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}),
		Addr6: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", id)),
	}
	mac := table.MAC{0x02, 0, 0, 0, 0, byte(id)}
	tap := fmt.Sprintf("tap%d", id)
	run(t, fmt.Sprintf("ip -n %s link add %s %s address %s mtu %d numtxqueues 1 numrxqueues 1 type veth peer name eth0 netns %s mtu %d address %s numtxqueues 1 numrxqueues 1",
		n.NS, tap, strings.Join(options, " "), table.RouterMAC, mtu, p.NS, mtu, mac))
	n.quiet(t, tap)
	for _, c := range []string{
		"link set eth0 up",
		fmt.Sprintf("addr add %s/32 dev eth0", p.Addr),
		fmt.Sprintf("addr add %s/128 dev eth0 nodad", p.Addr6),
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1 dev eth0",
		"neigh replace 169.254.1.1 lladdr " + table.RouterMAC.String() + " dev eth0",
		"-6 route add default via fe80::1 dev eth0",
		"-6 neigh replace fe80::1 lladdr " + table.RouterMAC.String() + " dev eth0",
	} {
		run(t, "ip -n "+p.NS+" "+c)
	}
	p.Vif = table.Vif{ID: table.VifID(id), Kind: table.VifVirtual, Name: tap, Ifindex: n.ifindex(t, tap), MAC: mac, MTU: mtu}
	n.Pods = append(n.Pods, p)
	return p
}

// up brings a pod's tap up, as the plugin does once the vif is attached.
func (n *node) up(t testing.TB, p *pod) {
	t.Helper()
	run(t, fmt.Sprintf("ip -n %s link set %s up", n.NS, p.Vif.Name))
}

// open opens steering on the node.
func (n *node) open(t testing.TB) *steer.Steer {
	t.Helper()
	var s *steer.Steer
	var err error
	in(t, n.NS, func() { s, err = n.openHere() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openHere opens steering from a thread that is inside the node.
func (n *node) openHere() (*steer.Steer, error) {
	return steer.Open(steer.Config{BPFDir: n.Dir, PuntOuter: n.Outer, PuntInner: n.Inner, Workers: n.Queues, CacheFlows: 1024, Attach: n.Attach})
}

// attach attaches a vif and brings it up.
func (n *node) attach(t testing.TB, s *steer.Steer, p *pod) {
	t.Helper()
	in(t, n.NS, func() {
		if err := s.AttachVif(p.Vif); err != nil {
			t.Error(err)
		}
	})
	n.up(t, p)
}

// snmp reads a counter of the namespace's own stack, "Ip InReceives", "Udp InDatagrams".
func snmp(t testing.TB, ns, proto, name string) int {
	t.Helper()
	var text []byte
	in(t, ns, func() { text, _ = os.ReadFile("/proc/thread-self/net/snmp") })
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] != proto+":" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := range names {
			if names[i] == name {
				n, _ := strconv.Atoi(f[i])
				return n
			}
		}
	}
	t.Fatalf("no counter %s %s in %q", proto, name, text)
	return 0
}

// stats reads all steering counters, those of the node's devices included.
func (n *node) stats(t testing.TB, s *steer.Steer) (all []steer.Drop) {
	t.Helper()
	var err error
	in(t, n.NS, func() { all, err = s.Stats() })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// drops reads one steering counter.
func (n *node) drops(t testing.TB, s *steer.Steer, name string) uint64 {
	t.Helper()
	for _, d := range n.stats(t, s) {
		if d.Name == name {
			return d.Count
		}
	}
	t.Fatalf("no drop cause %q", name)
	return 0
}

func dial(t testing.TB, p *pod, network, addr string) (c net.Conn, err error) {
	t.Helper()
	in(t, p.NS, func() { c, err = net.DialTimeout(network, addr, 20*time.Second) })
	return c, err
}

func listen(t testing.TB, p *pod, addr netip.Addr, port uint16) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	in(t, p.NS, func() { l, err = net.Listen("tcp", netip.AddrPortFrom(addr, port).String()) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
