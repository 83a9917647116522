package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/flow/store"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// bed is a node: a namespace with a punt link, a fast path in it, and pods.
type bed struct {
	name string
	dir  string
	ns   *testbed.Place
	cmd  *exec.Cmd
	conn *wire.Conn
	pods []*pod
	tidy []string // commands that remove what was made
}

// prefix begins the names of everything that is made: namespaces and run directories.
const prefix = "scale"

type pod struct {
	*testbed.Place
	addr, six netip.Addr // of its vif; in its namespace there is only addr, and not if it is mute
	vif       table.Vif
}

// settings of the fast path beside the defaults.
type settings struct {
	poll    string
	offload string // empty: off
	flows   int
	flows6  int
	mute    int                            // so many of the last pods answer nothing: their namespaces lack the address
	startUp func(pods []*pod) *table.State // what the tables say beside that pods exist; nil: nothing
}

const configuration = `node: n1
runDir: %[1]s
stateDir: %[1]s
fabric: {interface: eth0}
controller: {addresses: ["192.0.2.1:7443"], ca: /none, cert: /none, key: /none}
fastpath: {workers: 1, cores: [%[2]d], poll: %[3]s, flowEntries: %[4]d, flowEntries6: %[5]d, offload: "%[6]s"}
`

// makeBed makes a node with so many pods, whose tables say no more than that they exist.
func makeBed(vragent string, pods int, s settings) (*bed, error) {
	dir, err := os.MkdirTemp("/run", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	b := &bed{name: filepath.Base(dir), dir: dir}
	if err := b.build(vragent, pods, s); err != nil {
		return nil, errors.Join(err, b.down())
	}
	return b, nil
}

func (b *bed) build(vragent string, pods int, s settings) (err error) {
	if b.ns, err = b.namespace("n"); err != nil {
		return err
	}
	q := fmt.Sprintf("mtu %d txqueuelen %d numtxqueues 1 numrxqueues 1", steer.PuntMTU, steer.PuntQueueLength)
	if err := sh(`ip -n %[1]s link add punt0 %[2]s type veth peer name punt1 %[2]s
		nsenter --net=/run/netns/%[1]s ethtool -K punt0 tx off
		nsenter --net=/run/netns/%[1]s tc qdisc replace dev punt0 root handle 1: pfifo limit %[3]d`, b.ns.Name, q, steer.PuntQueueLength); err != nil {
		return err
	}
	for _, dev := range []string{"punt0", "punt1"} {
		if err := b.quiet(dev, true); err != nil {
			return err
		}
	}
	config := filepath.Join(b.dir, "vragent.yaml")
	text := fmt.Sprintf(configuration, b.dir, core, s.poll, max(s.flows, 64), max(s.flows6, 64), cmp.Or(s.offload, "off"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.cmd = exec.Command("nsenter", "--net="+b.ns.Netns, vragent, "fastpath", "--config", config)
	b.cmd.Stderr = log
	if err := b.cmd.Start(); err != nil {
		return err
	}
	for i := range pods {
		if err := b.addPod(i >= pods-s.mute); err != nil {
			return err
		}
	}
	more := &table.State{}
	if s.startUp != nil {
		more = s.startUp(b.pods)
	}
	return b.connect(more)
}

func (b *bed) namespace(name string) (*testbed.Place, error) {
	p := &testbed.Place{Name: b.name + name, Netns: "/run/netns/" + b.name + name}
	b.tidy = append(b.tidy, "ip netns del "+p.Name)
	return p, sh("ip netns add %[1]s; ip -n %[1]s link set lo up", p.Name)
}

// quiet keeps the kernel from speaking on a device of the node.
func (b *bed) quiet(dev string, up bool) error {
	state := ""
	if up {
		state = "ip link set " + dev + " up"
	}
	return sh("nsenter --net=%s sh -ec 'ip link set %[2]s addrgenmode none arp off; echo 1 >/proc/sys/net/ipv6/conf/%[2]s/disable_ipv6; %[3]s'", b.ns.Netns, dev, state)
}

// addPod makes a pod as the plugin does.
func (b *bed) addPod(mute bool) error {
	id := 100 + len(b.pods)
	place, err := b.namespace(fmt.Sprint("p", id))
	if err != nil {
		return err
	}
	tap, mac := fmt.Sprint("tap", id), table.MAC{2, 0, 0, 0, 1, byte(id)}
	p := &pod{Place: place, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}), six: netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 15: byte(id)})}
	b.pods = append(b.pods, p)
	address := ""
	if !mute {
		address = fmt.Sprintf("ip -n %s addr add %s/32 dev eth0", place.Name, p.addr)
	}
	if err := sh(`ip -n %[1]s link add %[2]s mtu 1450 numtxqueues 1 numrxqueues 1 type veth peer name eth0 netns %[3]s mtu 1450 address %[4]s numtxqueues 1 numrxqueues 1
		ip -n %[3]s link set eth0 up
		%[5]s
		ip -n %[3]s route add 169.254.1.1 dev eth0 scope link
		ip -n %[3]s route add default via 169.254.1.1 dev eth0
		ip -n %[3]s neigh replace 169.254.1.1 lladdr %[6]s dev eth0`, b.ns.Name, tap, place.Name, mac, address, table.RouterMAC); err != nil {
		return err
	}
	if err := b.quiet(tap, false); err != nil {
		return err
	}
	text, err := exec.Command("ip", "-n", b.ns.Name, "-j", "link", "show", tap).Output()
	var links []struct{ Ifindex int }
	if err = errors.Join(err, json.Unmarshal(text, &links)); err != nil {
		return err
	}
	p.vif = table.Vif{ID: table.VifID(id), Kind: table.VifVirtual, Name: tap, Ifindex: links[0].Ifindex, VRF: 1, NH: table.NextHopID(id),
		MAC: mac, Addrs: []netip.Addr{p.addr, p.six}, MTU: 1450}
	return nil
}

// connect says hello and what there is, as an agent.
func (b *bed) connect(more *table.State) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if b.conn, err = wire.Dial(filepath.Join(b.dir, control.SocketName)); err == nil {
			break
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			return fmt.Errorf("fast path: %w; its log: %s", err, text)
		}
	}
	s := b.with(more)
	for _, req := range []control.Request{
		{Hello: &control.Hello{Version: control.Version, Node: "n1", PuntOuter: "punt0", PuntInner: "punt1"}},
		{Begin: &control.Begin{Epoch: 1}}, {Delta: &table.Delta{Upsert: *s}}, {InSync: &control.InSync{Epoch: 1}},
	} {
		if _, err := b.ask(req); err != nil {
			return err
		}
	}
	for _, p := range b.pods {
		if err := sh("ip -n %s link set %s up", b.ns.Name, p.vif.Name); err != nil {
			return err
		}
	}
	return nil
}

// with adds the pods to what else the tables say.
func (b *bed) with(more *table.State) *table.State {
	s := *more
	s.VRFs = []table.VRF{{ID: 1, Name: "pods"}}
	for _, p := range b.pods {
		s.Vifs = append(s.Vifs, p.vif)
		s.NextHops = append(s.NextHops, table.NextHop{ID: p.vif.NH, Type: table.NHEncap, Vif: p.vif.ID, VRF: 1})
		for _, a := range p.vif.Addrs {
			s.Routes = append(s.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(a, a.BitLen()), NH: p.vif.NH})
		}
	}
	return &s
}

func (b *bed) ask(req control.Request) (*control.Reply, error) {
	var r control.Reply
	if err := b.conn.Call(req, &r); err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return &r, nil
}

func (b *bed) status() (*control.Status, error) {
	r, err := b.ask(control.Request{Status: &control.Empty{}})
	if err != nil {
		return nil, err
	}
	return r.Status, nil
}

// down removes everything.
func (b *bed) down() error {
	var errs []error
	if b.conn != nil {
		_ = b.conn.Close()
	}
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Signal(syscall.SIGKILL)
		_ = b.cmd.Wait()
	}
	for _, c := range b.tidy {
		errs = append(errs, sh("%s", c))
	}
	errs = append(errs, store.Remove(filepath.Join(b.dir, "flows")))
	pins := filepath.Join(b.dir, "bpf")
	if _, err := os.Stat(pins); err == nil {
		errs = append(errs, steer.Remove(pins))
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// sweep removes what a run that was killed left behind.
func sweep() error {
	left, err := filepath.Glob("/run/" + prefix + "[0-9]*-*")
	if err != nil {
		return err
	}
	for _, dir := range left {
		name := filepath.Base(dir)
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		if _, err := os.Stat("/proc/" + owner); err == nil {
			continue // it runs
		}
		b := &bed{name: name, dir: dir}
		text, _ := os.ReadFile(filepath.Join(dir, "fastpath.lock"))
		if pid, _ := strconv.Atoi(string(text)); pid > 0 && b.runs(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		spaces, _ := filepath.Glob("/run/netns/" + name + "*")
		for _, s := range spaces {
			b.tidy = append(b.tidy, "ip netns del "+filepath.Base(s))
		}
		if err := b.down(); err != nil {
			return fmt.Errorf("left over from an earlier run: %w", err)
		}
	}
	return nil
}

// runs says whether a process is the bed's fast path.
func (b *bed) runs(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Contains(string(text), b.dir)
}

// sh runs shell lines; the first that fails ends them.
func sh(format string, args ...any) error {
	script := fmt.Sprintf(format, args...)
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.TrimSpace(script), err, strings.TrimSpace(string(out)))
	}
	return nil
}
