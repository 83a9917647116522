package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/table"
)

// childConfig is where the test binary finds the Config it shall run as a fast
// path of its own, so that it can be killed.
const childConfig = "ENGINE_TEST_CONFIG"

// childPanic makes the test binary a fast path whose worker panics.
const childPanic = "ENGINE_TEST_PANIC"

func TestMain(m *testing.M) {
	if os.Getenv(childPanic) != "" {
		panicInWorker()
	}
	text := os.Getenv(childConfig)
	if text == "" {
		os.Exit(m.Run())
	}
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		panic(err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
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

// in runs fn on a thread of its own inside a network namespace.
func in(t testing.TB, ns string, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", ns, err)
	}
}

// node is a network namespace with a punt link and a fast path of its own.
type node struct {
	ns  string
	cfg Config
	cmd *exec.Cmd
	log string
}

func newNode(t *testing.T, workers int) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and loads BPF programs")
	}
	dir, err := os.MkdirTemp("", "engine") // not t.TempDir: too long for a socket address
	if err != nil {
		t.Fatal(err)
	}
	n := &node{ns: newNetNS(t, "n"), log: filepath.Join(dir, "log"), cfg: Config{
		Node: "n1", Version: "v0-test", RunDir: dir, Workers: workers, FlowEntries: 4096, Frames: 1024,
	}}
	t.Cleanup(func() {
		n.kill()
		if err := errors.Join(steer.Remove(filepath.Join(dir, pinsDir)), store.Remove(filepath.Join(dir, flowsDir))); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(n.log)
			t.Logf("log of the fast path:\n%s", text)
		}
		_ = os.RemoveAll(dir)
	})
	q := fmt.Sprintf("mtu %d txqueuelen %d numtxqueues %d numrxqueues %d", steer.PuntMTU, steer.PuntQueueLength, workers, workers)
	run(t, fmt.Sprintf("ip -n %s link add punt0 %s type veth peer name punt1 %s", n.ns, q, q))
	qdisc := "mq"
	if workers == 1 {
		qdisc = fmt.Sprintf("pfifo limit %d", steer.PuntQueueLength)
	}
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'ethtool -K punt0 tx off; tc qdisc replace dev punt0 root handle 1: %s'", n.ns, qdisc))
	for _, dev := range []string{"punt0", "punt1"} {
		n.quiet(t, dev)
		run(t, fmt.Sprintf("ip -n %s link set %s up", n.ns, dev))
	}
	return n
}

func newNetNS(t *testing.T, name string) string {
	t.Helper()
	ns := fmt.Sprintf("engine%d%s", os.Getpid(), name)
	run(t, "ip netns add "+ns)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	run(t, "ip -n "+ns+" link set lo up")
	return ns
}

func (n *node) quiet(t *testing.T, dev string) {
	t.Helper()
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'ip link set %s addrgenmode none arp off; echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6'", n.ns, dev, dev))
}

// start starts a fast path and waits until it listens.
func (n *node) start(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	n.cmd = exec.Command("nsenter", "--net=/run/netns/"+n.ns, os.Args[0])
	n.cmd.Env = append(os.Environ(), childConfig+"="+string(text))
	n.cmd.Stderr = log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the control socket", func() bool { return listens(n.socket()) })
}

func listens(socket string) bool {
	c, err := wire.Dial(socket)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (n *node) socket() string { return filepath.Join(n.cfg.RunDir, control.SocketName) }

// kill ends the fast path at once; its pins stay.
func (n *node) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// stop ends the fast path with SIGTERM and returns how it ended.
func (n *node) stop() error {
	cmd := n.cmd
	n.cmd = nil
	return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
}

// pod is a network namespace behind a tap of the node.
type pod struct {
	ns   string
	addr netip.Addr
	vif  table.Vif
}

// addPod makes a pod with the address 192.0.2.<id>; its vif, next hop and label
// have the number id.
func (n *node) addPod(t *testing.T, id int) *pod {
	t.Helper()
	p := &pod{ns: newNetNS(t, fmt.Sprintf("p%d", id)), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(id)})}
	tap := fmt.Sprintf("tap%d", id)
	mac := table.MAC{0x02, 0, 0, 0, 0, byte(id)}
	run(t, fmt.Sprintf("ip -n %s link add %s mtu 1468 numtxqueues 1 numrxqueues 1 type veth peer name eth0 netns %s mtu 1468 address %s numtxqueues 1 numrxqueues 1", n.ns, tap, p.ns, mac))
	n.quiet(t, tap)
	for _, c := range []string{
		"link set eth0 up",
		fmt.Sprintf("addr add %s/32 dev eth0", p.addr),
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1 dev eth0",
		"neigh replace 169.254.1.1 lladdr " + table.RouterMAC.String() + " dev eth0",
	} {
		run(t, "ip -n "+p.ns+" "+c)
	}
	p.vif = table.Vif{
		ID: table.VifID(id), Kind: table.VifVirtual, Name: tap, Ifindex: n.ifindex(t, tap), VRF: 1, NH: table.NextHopID(id),
		MAC: mac, Addrs: []netip.Addr{p.addr}, MTU: 1468, Owner: fmt.Sprintf("default/p%d", id),
	}
	return p
}

func (n *node) ifindex(t *testing.T, dev string) int {
	t.Helper()
	var links []struct{ Ifindex int }
	if err := json.Unmarshal([]byte(run(t, "ip -n "+n.ns+" -j link show "+dev)), &links); err != nil {
		t.Fatal(err)
	}
	return links[0].Ifindex
}

// up is what the plugin does once a vif is attached.
func (n *node) up(t *testing.T, p *pod) {
	t.Helper()
	run(t, fmt.Sprintf("ip -n %s link set %s up", n.ns, p.vif.Name))
}

// network is the tables of one virtual network with these pods.
func network(pods ...*pod) *table.Delta {
	s := table.State{VRFs: []table.VRF{{ID: 1, Name: "net1"}}}
	for _, p := range pods {
		s.Vifs = append(s.Vifs, p.vif)
		s.NextHops = append(s.NextHops, table.NextHop{ID: p.vif.NH, Type: table.NHEncap, Vif: p.vif.ID, VRF: 1})
		s.Routes = append(s.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(p.addr, 32), NH: p.vif.NH})
	}
	return &table.Delta{Upsert: s}
}

// client is a connection to the fast path.
type client struct {
	t testing.TB
	*wire.Conn
}

func dial(t testing.TB, socket string) *client {
	t.Helper()
	c, err := wire.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t, c}
}

// ask puts a request; an error in the reply fails the test.
func (c *client) ask(req control.Request) *control.Reply {
	c.t.Helper()
	r := c.try(req)
	if r.Error != "" {
		c.t.Fatalf("refused: %s", r.Error)
	}
	return r
}

func (c *client) try(req control.Request) *control.Reply {
	c.t.Helper()
	if err := c.Send(req); err != nil {
		c.t.Fatal(err)
	}
	var r control.Reply
	if err := c.Receive(&r); err != nil {
		c.t.Fatal(err)
	}
	return &r
}

// hello says hello as an agent.
func (c *client) hello() *control.HelloReply {
	c.t.Helper()
	return c.ask(control.Request{Hello: &control.Hello{Version: control.Version, Node: "n1", PuntOuter: "punt0", PuntInner: "punt1"}}).Hello
}

// replay programs d as everything there is.
func (c *client) replay(epoch uint64, d *table.Delta) {
	c.t.Helper()
	c.ask(control.Request{Begin: &control.Begin{Epoch: epoch}})
	c.ask(control.Request{Delta: d})
	c.ask(control.Request{InSync: &control.InSync{Epoch: epoch}})
}

func (c *client) flows(q control.FlowQuery) []control.Flow {
	c.t.Helper()
	r := c.ask(control.Request{Flows: &q})
	all := r.Flows
	for !r.Done {
		r = &control.Reply{}
		if err := c.Receive(r); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r.Flows...)
	}
	return all
}

func (c *client) status() *control.Status {
	c.t.Helper()
	r := c.ask(control.Request{Status: &control.Empty{}})
	return r.Status
}

// drop reads one drop counter.
func (c *client) drop(name string) uint64 {
	c.t.Helper()
	r := c.ask(control.Request{DropStats: &control.Empty{}})
	var names []string
	for _, d := range r.DropStats {
		if d.Name == name {
			return d.Count
		}
		names = append(names, d.Name)
	}
	c.t.Fatalf("no drop reason %q in %s", name, strings.Join(names, " "))
	return 0
}
