package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/engine"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	inside  = "LOOP_TEST_INSIDE"
	runDir  = "LOOP_TEST_RUN" // be a fast path there
	network = "pods"
)

// TestMain runs the tests in namespaces of their own (network and mounts), which
// end with the process. With runDir set the process is a fast path.
func TestMain(m *testing.M) {
	if dir := os.Getenv(runDir); dir != "" {
		err := engine.Run(context.Background(), engine.Config{
			Node: "n1", Version: "test", RunDir: dir, Workers: 1, FlowEntries: 1024, Frames: 1024, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// machine is a node on which agents can run one after the other.
type machine struct {
	t   *testing.T
	cfg Config
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no network namespace to work in")
	}
	dir, err := os.MkdirTemp("/run", "loop-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(runDir, "") // inherited by the fast path only when asked for
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "fab0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "fab1"}))
	l, err := netlink.LinkByName("fab0")
	must(t, err)
	a, err := netlink.ParseAddr("172.31.0.11/24")
	must(t, err)
	must(t, netlink.AddrAdd(l, a))
	must(t, netlink.LinkSetUp(l))
	other, err := netlink.LinkByName("fab1")
	must(t, err)
	must(t, netlink.LinkSetUp(other))
	must(t, netlink.NeighSet(&netlink.Neigh{ // the other node
		LinkIndex: l.Attrs().Index, IP: net.IPv4(172, 31, 0, 12), Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 12},
	}))
	m := &machine{t: t, cfg: Config{
		Agent: &conf.Agent{
			Node: "n1", RunDir: dir, StateDir: filepath.Join(dir, "state"), Fabric: conf.Fabric{Interface: "fab0"},
			Controller: conf.Upstream{Addresses: []string{"127.0.0.1:1"}, CA: "/nowhere", Cert: "/nowhere", Key: "/nowhere"},
			Fastpath:   conf.Fastpath{Workers: 1}, Host: conf.Host{Interface: "vhost0", Masquerade: true},
		},
		Version: "test", Command: []string{"/usr/bin/env", runDir + "=" + dir, "/proc/self/exe"}, Log: slog.New(slog.DiscardHandler),
	}}
	self, err := os.Executable()
	must(t, err)
	m.cfg.Command[2] = self
	t.Cleanup(func() {
		must(t, Uninstall(m.cfg.Agent, m.cfg.Log))
		_ = syscall.Unmount(filepath.Join(dir, "bpf"), syscall.MNT_DETACH)
		_ = os.RemoveAll(dir)
		if l, err := netlink.LinkByName("fab0"); err == nil {
			_ = netlink.LinkDel(l)
		}
		if left, _ := netlink.LinkList(); len(left) != 1 {
			t.Errorf("%d links are left: %v", len(left), names(left))
		}
	})
	return m
}

func names(links []netlink.Link) (out []string) {
	for _, l := range links {
		out = append(out, l.Attrs().Name)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// agent is one run of an agent.
type agent struct {
	*Loop
	t      *testing.T
	cancel func()
	ended  chan error
}

func (m *machine) start() *agent {
	m.t.Helper()
	l, err := New(m.cfg)
	must(m.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{l, m.t, cancel, make(chan error, 1)}
	go func() { a.ended <- l.Run(ctx) }()
	m.t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() {
	a.cancel()
	select {
	case err := <-a.ended:
		if err != nil {
			a.t.Error(err)
		}
		a.ended <- nil
	case <-time.After(10 * time.Second):
		a.t.Fatal("the agent does not end")
	}
}

// say does what a controller's response does.
func (a *agent) say(resources ...*southbound.Resource) {
	a.events.call(context.Background(), func() {
		a.update(dial.Update{ToAgent: &southbound.ToAgent{Upserts: resources, InSync: southbound.Types[:]}})
	})
}

func cluster() []*southbound.Resource {
	out := []*southbound.Resource{
		southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, network, &southbound.VirtualNetwork{
			Name: network, Subnets: []string{"192.0.2.0/24", "2001:db8:1::/64"}, ServiceSubnets: []string{"198.51.100.0/24"}, Host: true,
		}),
	}
	for _, p := range []string{"192.0.2.0/25", "2001:db8:1::/121"} {
		out = append(out, southbound.NewResource(southbound.Type_TYPE_BLOCK, p, &southbound.Block{VirtualNetwork: network, Prefix: p}))
	}
	for i := range 60 {
		out = append(out, vmi(i))
	}
	return append(out,
		southbound.NewResource(southbound.Type_TYPE_NODE, "n2", &southbound.Node{Name: "n2", TunnelAddress: "172.31.0.12"}),
		southbound.NewResource(southbound.Type_TYPE_ROUTE, "r", &southbound.Route{
			VirtualNetwork: network, Prefix: "192.0.2.128/25",
			Paths: []*southbound.Path{{Node: "n2", TunnelAddress: "172.31.0.12", Label: 16}},
		}),
	)
}

func vmi(i int) *southbound.Resource {
	u := fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
	return southbound.NewResource(southbound.Type_TYPE_VMI, u, &southbound.VMI{Uuid: u, VirtualNetwork: network, Namespace: "default", Pod: fmt.Sprint("pod-", i)})
}

func (a *agent) ask(q *rpc.Request) *rpc.Reply { return a.Answer(context.Background(), q) }

func id(i int) rpc.Attachment {
	return rpc.Attachment{ContainerID: fmt.Sprint("c", i), Ifname: "eth0", Network: "vrouter"}
}

// add does what the plugin does for ADD, except that the pod's end stays here.
func (a *agent) add(i int) (*rpc.Interface, error) {
	r := a.ask(&rpc.Request{Attach: &rpc.Attach{Attachment: id(i), Netns: "/x", Namespace: "default", Pod: fmt.Sprint("pod-", i), Wait: 5 * time.Second}})
	if r.Error != nil {
		return nil, r.Error
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = r.Interface.Tap, r.Interface.MTU
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprint("pod", i)}); err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, err
	}
	l, err := netlink.LinkByName(r.Interface.Tap)
	if err != nil {
		return nil, err
	}
	if b := a.ask(&rpc.Request{Bind: &rpc.Bind{Attachment: id(i), Ifindex: l.Attrs().Index}}); b.Error != nil {
		return nil, b.Error
	}
	return r.Interface, nil
}

func (a *agent) mustAdd(i int) *rpc.Interface {
	a.t.Helper()
	iface, err := a.add(i)
	must(a.t, err)
	return iface
}

func (a *agent) del(i int, tap string) {
	a.t.Helper()
	if l, err := netlink.LinkByName(tap); err == nil {
		must(a.t, netlink.LinkDel(l))
	}
	if r := a.ask(&rpc.Request{Detach: &rpc.Detach{Attachment: id(i)}}); r.Error != nil {
		a.t.Error(r.Error)
	}
}

func index(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Index
}

// tables reads the fast path's.
func (a *agent) tables() *table.State {
	a.t.Helper()
	r, err := a.fastpath.Ask(&control.Request{Tables: &control.Empty{}})
	must(a.t, err)
	return r.Tables
}

func (a *agent) vifs() (out []string) {
	a.t.Helper()
	for _, v := range a.tables().Vifs {
		out = append(out, v.Name)
	}
	slices.Sort(out)
	return out
}

// healthy waits until every condition is good, but the controller's and the
// certificate's: there are none.
func (a *agent) healthy() {
	a.t.Helper()
	var wrong []string
	eventually(a.t, func() string { return strings.Join(wrong, "; ") }, func() bool {
		wrong = nil
		for _, c := range a.ask(&rpc.Request{Status: &rpc.Empty{}}).Status.Conditions {
			if !c.OK && c.Name != "controller" && c.Name != "certificate" {
				wrong = append(wrong, c.Name+": "+c.Message)
			}
		}
		return len(wrong) == 0
	})
}

func eventually(t *testing.T, what func() string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what())
		}
	}
}

func TestLifeOfAPod(t *testing.T) {
	a := newMachine(t).start()
	// ADD comes before the controller: it waits, and says for what when it gave up.
	r := a.ask(&rpc.Request{Attach: &rpc.Attach{Attachment: id(1), Netns: "/x", Namespace: "default", Pod: "pod-1", Wait: 50 * time.Millisecond}})
	if r.Error == nil || r.Error.Code != rpc.CodeTryAgain || !strings.Contains(r.Error.Message, "no interface for pod default/pod-1") || !strings.Contains(r.Error.Message, "no controller for") {
		t.Errorf("ADD without a controller: %v", r.Error)
	}
	added := make(chan *rpc.Interface)
	go func() {
		iface, err := a.add(1)
		if err != nil {
			t.Error(err)
		}
		added <- iface
	}()
	a.say(cluster()...)
	iface := <-added
	if iface == nil {
		t.FailNow()
	}
	a.healthy()
	if got := a.vifs(); !slices.Equal(got, []string{"fab0", iface.Tap, "tapvhost0"}) {
		t.Errorf("vifs %v", got)
	}
	if again := a.mustAdd(1); !reflect.DeepEqual(again, iface) {
		t.Errorf("ADD again: %+v", again)
	}
	a.checks(iface)
	a.del(1, iface.Tap)
	if got := a.vifs(); !slices.Equal(got, []string{"fab0", "tapvhost0"}) {
		t.Errorf("after DEL: vifs %v", got)
	}
	if r := a.ask(&rpc.Request{Detach: &rpc.Detach{Attachment: id(1)}}); r.Error != nil {
		t.Errorf("DEL again: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{Bind: &rpc.Bind{Attachment: id(1), Ifindex: 7}}); r.Error == nil || r.Error.Code != rpc.CodeUnknownPod {
		t.Errorf("bind of nobody: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{}); r.Error == nil || r.Error.Code != rpc.CodeInvalidConfig {
		t.Errorf("an empty request: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{Ready: &rpc.Empty{}}); r.Error != nil {
		t.Errorf("not ready: %v", r.Error)
	}
}

// checks does CHECK, good and bad.
func (a *agent) checks(iface *rpc.Interface) {
	a.t.Helper()
	n := index(a.t, iface.Tap)
	if r := a.ask(&rpc.Request{Check: &rpc.Check{Attachment: id(1), Ifindex: n}}); r.Error != nil || r.Interface.Tap != iface.Tap {
		a.t.Errorf("CHECK: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{Check: &rpc.Check{Attachment: id(1), Ifindex: n + 1}}); r.Error == nil || r.Error.Code != rpc.CodeChanged {
		a.t.Errorf("CHECK of another index: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{Check: &rpc.Check{Attachment: id(2), Ifindex: n}}); r.Error == nil || r.Error.Code != rpc.CodeUnknownPod {
		a.t.Errorf("CHECK of nobody: %v", r.Error)
	}
}

// An agent that comes back finds everything as it was, without a controller, and
// the fast path does not notice.
func TestRestart(t *testing.T) {
	m := newMachine(t)
	a := m.start()
	a.say(cluster()...)
	var ifaces []*rpc.Interface
	for i := range 4 {
		ifaces = append(ifaces, a.mustAdd(i))
	}
	a.healthy()
	before, vmis, pid := a.tables(), a.ask(&rpc.Request{VMIs: &rpc.Empty{}}).VMIs, a.fastpath.Health().PID
	eventually(t, func() string { return "the neighbour is known" }, func() bool {
		before = a.tables()
		return slices.ContainsFunc(before.NextHops, func(n table.NextHop) bool { return n.Type == table.NHTunnel && n.DstMAC[5] == 12 })
	})
	if _, err := New(m.cfg); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d holds it", os.Getpid())) {
		t.Errorf("a second agent: %v", err)
	}
	elsewhere, apart := m.cfg, *m.cfg.Agent
	apart.RunDir, apart.StateDir = t.TempDir(), t.TempDir()
	elsewhere.Agent = &apart
	if _, err := New(elsewhere); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d is the agent of this node", os.Getpid())) {
		t.Errorf("a second agent in folders of its own: %v", err)
	}
	a.stop()

	b := m.start()
	b.healthy()
	if got := b.tables(); !reflect.DeepEqual(got, before) || b.fastpath.Health().PID != pid {
		t.Errorf("tables\n got %+v\nwant %+v", got, before)
	}
	if got := b.ask(&rpc.Request{VMIs: &rpc.Empty{}}).VMIs; !reflect.DeepEqual(got, vmis) {
		t.Errorf("VMIs\n got %+v\nwant %+v", got, vmis)
	}
	if again := b.mustAdd(2); !reflect.DeepEqual(again, ifaces[2]) {
		t.Errorf("ADD again: %+v", again)
	}
	b.stop()

	// DEL while the agent is away: the plugin removes the tap and leaves a note,
	// or cannot even do that.
	for _, i := range []int{1, 3} {
		l, err := netlink.LinkByName(ifaces[i].Tap)
		must(t, err)
		must(t, netlink.LinkDel(l))
	}
	note := filepath.Join(m.cfg.RunDir, "detach", "c1-eth0.json")
	must(t, os.MkdirAll(filepath.Dir(note), 0o700))
	must(t, os.WriteFile(note, []byte(`{"containerID":"c1","ifname":"eth0"}`), 0o600))
	c := m.start()
	c.healthy()
	if got := c.vifs(); slices.Contains(got, ifaces[1].Tap) || slices.Contains(got, ifaces[3].Tap) || !slices.Contains(got, ifaces[2].Tap) {
		t.Errorf("vifs %v", got)
	}
	eventually(t, func() string { return "the note is taken" }, func() bool { _, err := os.Stat(note); return err != nil })
	if used := c.ask(&rpc.Request{Blocks: &rpc.Empty{}}).Blocks[0].Used; used != 3 { // two pods and the host
		t.Errorf("%d addresses in use", used)
	}
	for _, i := range []int{0, 2} {
		c.del(i, ifaces[i].Tap)
	}
}

// A fast path that is killed is replaced, and gets everything back.
func TestFastPathDies(t *testing.T) {
	a := newMachine(t).start()
	a.say(cluster()...)
	iface := a.mustAdd(1)
	a.healthy()
	before, pid := a.tables(), a.fastpath.Health().PID
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, func() string { return "noticed" }, func() bool { return a.fastpath.Health().PID != pid || !a.fastpath.Health().InSync })
	a.healthy()
	if got := a.tables(); !reflect.DeepEqual(got, before) || a.fastpath.Health().PID == pid {
		t.Errorf("tables\n got %+v\nwant %+v", got, before)
	}
	second := a.mustAdd(2)
	a.del(1, iface.Tap)
	a.del(2, second.Tap)
}

// A tap that somebody deletes leaves the fast path at once; the address stays
// until DEL.
func TestTapDeleted(t *testing.T) {
	a := newMachine(t).start()
	a.say(cluster()...)
	iface := a.mustAdd(1)
	l, err := netlink.LinkByName(iface.Tap)
	must(t, err)
	must(t, netlink.LinkDel(l))
	eventually(t, func() string { return "the vif is gone" }, func() bool { return !slices.Contains(a.vifs(), iface.Tap) })
	if r := a.ask(&rpc.Request{Check: &rpc.Check{Attachment: id(1)}}); r.Error == nil || r.Error.Code != rpc.CodeChanged || !strings.Contains(r.Error.Message, "no vif of the live fast path") {
		t.Errorf("CHECK: %v", r.Error)
	}
	if other := a.mustAdd(2); slices.Contains(other.Addrs, iface.Addrs[0]) {
		t.Error("its address was given away")
	} else {
		a.del(2, other.Tap)
	}
	a.del(1, iface.Tap)
}

func TestGC(t *testing.T) {
	a := newMachine(t).start()
	a.say(cluster()...)
	var ifaces []*rpc.Interface
	for i := range 3 {
		ifaces = append(ifaces, a.mustAdd(i))
	}
	r := a.ask(&rpc.Request{GC: &rpc.GC{Network: "vrouter", Valid: []rpc.Attachment{id(1)}}})
	if r.Error != nil || len(r.Removed) != 2 {
		t.Fatalf("%v %v", r.Removed, r.Error)
	}
	if got := a.vifs(); !slices.Equal(got, []string{"fab0", ifaces[1].Tap, "tapvhost0"}) {
		t.Errorf("vifs %v", got)
	}
	for i, iface := range ifaces {
		if _, err := netlink.LinkByName(iface.Tap); (err == nil) != (i == 1) {
			t.Errorf("tap %d: %v", i, err)
		}
	}
	a.del(1, ifaces[1].Tap)
}

func TestManyAtOnce(t *testing.T) {
	a := newMachine(t).start()
	a.say(cluster()...)
	a.healthy()
	before := a.tables()
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Addr]int{}
	taps := make([]string, 50)
	for i := range 50 {
		all.Go(func() {
			iface, err := a.add(i)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			taps[i] = iface.Tap
			for _, addr := range iface.Addrs {
				seen[addr]++
			}
		})
	}
	all.Wait()
	if len(seen) != 100 {
		t.Errorf("%d different addresses of 100", len(seen))
	}
	if got := len(a.vifs()); got != 52 {
		t.Errorf("%d vifs", got)
	}
	for i := range 50 {
		all.Go(func() { a.del(i, taps[i]) })
	}
	all.Wait()
	if got := a.tables(); !reflect.DeepEqual(got, before) {
		t.Errorf("left behind: %+v", got)
	}
}

// A ledger that cannot be written refuses pods, says so, and recovers by itself.
func TestLedgerFails(t *testing.T) {
	m := newMachine(t)
	a := m.start()
	a.say(cluster()...)
	a.healthy()
	good := a.ledger
	closed := *good
	must(t, closed.Close())
	_, err := a.add(1)
	if err == nil || !strings.Contains(err.Error(), "ledger") {
		t.Errorf("ADD: %v", err)
	}
	if r := a.ask(&rpc.Request{Ready: &rpc.Empty{}}); r.Error == nil || r.Error.Code != rpc.CodeDegraded || !strings.Contains(r.Error.Message, "ledger: write ledger") {
		t.Errorf("STATUS: %v", r.Error)
	}
	if r := a.ask(&rpc.Request{Detach: &rpc.Detach{Attachment: id(1)}}); r.Error == nil || r.Error.Code != rpc.CodeTryAgain {
		t.Errorf("DEL: %v", r.Error)
	}
}

// Without a fast path nothing is acknowledged, pods are refused after a while,
// and DEL works.
func TestNoFastPath(t *testing.T) {
	m := newMachine(t)
	m.cfg.Command = nil
	a := m.start()
	a.say(cluster()...)
	var r *rpc.Reply
	eventually(t, func() string { return fmt.Sprintf("STATUS: %v", r.Error) }, func() bool {
		r = a.ask(&rpc.Request{Ready: &rpc.Empty{}})
		return r.Error != nil && r.Error.Code == rpc.CodeDegraded && strings.Contains(r.Error.Message, "not to start one")
	})
	waiting := make(chan int, 1)
	a.events.call(context.Background(), func() { waiting <- len(a.turn.progress.waiting) })
	if n := <-waiting; n != 1 {
		t.Errorf("%d responses wait for the fast path", n)
	}
	attach := a.ask(&rpc.Request{Attach: &rpc.Attach{Attachment: id(1), Netns: "/x", Namespace: "default", Pod: "pod-1"}})
	if attach.Error != nil {
		t.Fatal(attach.Error)
	}
	began := time.Now()
	bind := a.ask(&rpc.Request{Bind: &rpc.Bind{Attachment: id(1), Ifindex: index(t, "fab0")}})
	if bind.Error == nil || bind.Error.Code != rpc.CodeTryAgain || !strings.Contains(bind.Error.Message, "fast path") || time.Since(began) > bindTime+2*time.Second {
		t.Errorf("Bind: %v", bind.Error)
	}
	a.del(1, "")
}

func TestUninstallWhileRunning(t *testing.T) {
	m := newMachine(t)
	a := m.start()
	a.say(cluster()...)
	a.healthy()
	if err := Uninstall(m.cfg.Agent, m.cfg.Log); err == nil || !strings.Contains(err.Error(), "the agent runs") {
		t.Errorf("error %v", err)
	}
	a.stop()
	must(t, Uninstall(m.cfg.Agent, m.cfg.Log))
	out, err := exec.Command("sh", "-c", "iptables-save; ip6tables-save; ip route; ls "+m.cfg.RunDir+"/bpf 2>/dev/null").CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	for _, ours := range []string{"VRAGENT", "vhost0", "program"} {
		if strings.Contains(string(out), ours) {
			t.Errorf("%s is left:\n%s", ours, out)
		}
	}
}
