package steer_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// hostAddr makes the node's own stack one that would answer: an address of its
// own, forwarding, and routes to the pods.
func (n *node) hostAddr(t testing.TB) netip.Addr {
	t.Helper()
	host := netip.MustParseAddr("192.0.2.200")
	run(t, fmt.Sprintf("ip -n %s addr add %s/32 dev lo", n.NS, host))
	run(t, fmt.Sprintf("nsenter --net=/run/netns/%s sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'", n.NS))
	for _, p := range n.Pods {
		run(t, fmt.Sprintf("ip -n %s route add %s dev %s", n.NS, p.Addr, p.Vif.Name))
	}
	return host
}

// wantMute sends from a pod to the host and to another pod; neither answers, and
// the host's stack sees nothing of it.
func wantMute(t testing.TB, n *node, p *pod, others ...netip.Addr) {
	t.Helper()
	before := snmp(t, n.NS, "Ip", "InReceives")
	for _, a := range others {
		if ping(p, a) {
			t.Errorf("%s answers", a)
		}
	}
	if got := snmp(t, n.NS, "Ip", "InReceives"); got != before {
		t.Errorf("the host's stack received %d packets of a pod", got-before)
	}
}

func wantVifs(t testing.TB, s *steer.Steer, want ...table.VifID) {
	t.Helper()
	if got, err := s.Vifs(); err != nil || !slices.Equal(got, want) {
		t.Errorf("vifs %v, %v; want %v", got, err, want)
	}
}

// TestKilled: a fast path process is killed. Its pods fall mute and stay off the
// host's stack; the next process takes over as if nothing had been, and forwards.
func TestKilled(t *testing.T) {
	n := newNode(t, "n", 2)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	first := startChild(t, n)
	n.up(t, a)
	n.up(t, b)
	host := n.hostAddr(t)
	transfer(t, a, b, b.Addr, 1<<20)
	wantMute(t, n, a, host)

	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	wantMute(t, n, a, host, b.Addr)

	s := n.open(t)
	wantVifs(t, s, 1, 2)
	wantMute(t, n, a, host, b.Addr) // no socket yet
	if n.drops(t, s, "steer-no-worker") == 0 {
		t.Error("frames without a worker are not counted")
	}
	r := startRouter(t, n, s)
	transfer(t, a, b, b.Addr, 1<<20)
	transfer(t, b, a, a.Addr6, 1<<20)
	r.halt(t)
	s.Close()
	wantMute(t, n, a, host, b.Addr)

	second := startChild(t, n) // attaches again what is attached
	transfer(t, a, b, b.Addr, 1<<20)
	second.Process.Kill()
	second.Wait()
	wantMute(t, n, a, host, b.Addr)
}

// TestVifs: attaching is idempotent and says the whole truth about a vif; devices
// may come and go without notice.
func TestVifs(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.open(t)
	startRouter(t, n, s)
	attach := func(v table.Vif) {
		t.Helper()
		in(t, n.NS, func() {
			if err := s.AttachVif(v); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		n.attach(t, s, a)
		n.attach(t, s, b)
	}
	wantVifs(t, s, 1, 2)
	await(t, "an answer", func() bool { return ping(a, b.Addr) })

	// The device goes, and comes back with the same number.
	run(t, fmt.Sprintf("ip -n %s link del tap1", n.NS))
	wantVifs(t, s, 2)
	run(t, fmt.Sprintf("ip -n %s link add tap1 index %d type veth peer name eth0 netns %s", n.NS, a.Vif.Ifindex, a.NS))
	wantVifs(t, s, 2)
	attach(a.Vif)
	wantVifs(t, s, 1, 2)

	// It comes back with another number; another vif gets the old one.
	run(t, fmt.Sprintf("ip -n %s link del tap1", n.NS))
	run(t, fmt.Sprintf("ip -n %s link add tap1 type veth peer name eth0 netns %s", n.NS, a.NS))
	moved := a.Vif
	moved.Ifindex = n.ifindex(t, "tap1")
	attach(moved)
	wantVifs(t, s, 1, 2)
	moved.ID = 7
	attach(moved)
	wantVifs(t, s, 2, 7)

	for range 2 {
		if err := s.DetachVif(7); err != nil {
			t.Error(err)
		}
	}
	wantVifs(t, s, 2)
	run(t, fmt.Sprintf("ip -n %s link del tap1", n.NS))
	if err := s.DetachVif(2); err != nil {
		t.Error(err)
	}
	run(t, fmt.Sprintf("ip -n %s link del tap2", n.NS))
	s.DetachVif(2)
	if pins, _ := filepath.Glob(n.Dir + "/from_vif-*"); len(pins) != 0 {
		t.Errorf("pins of devices that are gone: %v", pins)
	}
	if got := s.Entries(); got != 0 {
		t.Errorf("%d map entries of devices that are gone", got)
	}
}

// TestGone: devices that go while nobody looks are forgotten at the next Open.
func TestGone(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.open(t)
	n.attach(t, s, a)
	n.attach(t, s, b)
	addFabric(t, n, s)
	if got := s.Entries(); got != 2*2+2 {
		t.Errorf("%d map entries", got)
	}
	s.Close()
	run(t, fmt.Sprintf("ip -n %s link del tap1; ip -n %s link del fab0", n.NS, n.NS))
	s = n.open(t)
	wantVifs(t, s, 2)
	if got := s.Entries(); got != 2 {
		t.Errorf("%d map entries, want those of vif 2", got)
	}
}

// TestDetached: a pod whose vif is detached while its device lives speaks to nobody.
func TestDetached(t *testing.T) {
	n := newNode(t, "n", 1)
	a := n.addPod(t, 1, 1500)
	s := n.open(t)
	n.attach(t, s, a)
	host := n.hostAddr(t)
	if err := s.DetachVif(a.Vif.ID); err != nil {
		t.Fatal(err)
	}
	before := n.drops(t, s, "steer-unknown-device")
	wantMute(t, n, a, host)
	if n.drops(t, s, "steer-unknown-device") == before {
		t.Error("the frames of a detached pod are not counted")
	}
}

// TestDrops provokes every cause that a test can.
func TestDrops(t *testing.T) {
	n := newNode(t, "n", 1)
	s := n.open(t)
	r := openSockets(t, n, s)
	a := n.addPod(t, 1, 1500)
	n.attach(t, s, a)
	pod := rawSocket(t, a.NS, ifindexIn(t, a.NS, "eth0"))
	outer, inner := rawSocket(t, n.NS, n.Outer), rawSocket(t, n.NS, n.Inner)
	ip := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Bytes()
	for _, c := range []struct {
		cause   string
		provoke func()
	}{
		{"steer-vlan", func() { write(t, pod, slices.Insert(ethernet(a.Vif.MAC, ip), 12, 0x81, 0x00, 0, 5)) }},
		{"steer-punt-foreign", func() { write(t, outer, ethernet(a.Vif.MAC, ip)) }},
		{"steer-punt-source", func() { write(t, inner, ethernet(a.Vif.MAC, ip)) }},
		{"steer-unknown-vif", func() { r.send(t, ethernet(a.Vif.MAC, ip), 77) }},
		{"punt-queue-full", func() {
			run(t, "tc -n "+n.NS+" qdisc replace dev punt0 root handle 2: bfifo limit 10")
			write(t, pod, ethernet(a.Vif.MAC, ip))
		}},
		{"steer-no-worker", func() {
			run(t, "tc -n "+n.NS+" qdisc replace dev punt0 root handle 1: pfifo")
			r.close()
			write(t, pod, ethernet(a.Vif.MAC, ip))
		}},
	} {
		before := n.drops(t, s, c.cause)
		c.provoke()
		await(t, c.cause, func() bool { return n.drops(t, s, c.cause) > before })
	}
	seen := map[string]bool{}
	for _, d := range n.stats(t, s) {
		if d.Name == "" || seen[d.Name] || !strings.HasSuffix(d.Sentence, ".") {
			t.Errorf("drop %+v: want a name of its own and a sentence", d)
		}
		seen[d.Name] = true
	}
}

// TestUpgrade: maps of another layout are replaced; the pods stay off the host's
// stack until their vifs are attached again.
func TestUpgrade(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.open(t)
	n.attach(t, s, a)
	n.attach(t, s, b)
	host := n.hostAddr(t)
	s.Close()
	pin := filepath.Join(n.Dir, "exits")
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 32, MaxEntries: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	s = n.open(t)
	startRouter(t, n, s)
	wantVifs(t, s)
	wantMute(t, n, a, host, b.Addr)
	n.attach(t, s, a)
	n.attach(t, s, b)
	await(t, "an answer after the vifs were attached again", func() bool { return ping(a, b.Addr) })
}

// TestPuntAgain: a punt link made anew is taken at the next Open.
func TestPuntAgain(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.open(t)
	n.attach(t, s, a)
	n.attach(t, s, b)
	s.Close()
	run(t, fmt.Sprintf("ip -n %s link del punt0", n.NS))
	n.Queues = 2
	n.makePunt(t)
	s = n.open(t)
	startRouter(t, n, s)
	for range 4 {
		transfer(t, a, b, b.Addr, 1<<16)
	}
	wantVifs(t, s, 1, 2)
}

func TestRemove(t *testing.T) {
	n := newNode(t, "n", 1)
	a := n.addPod(t, 1, 1500)
	s := n.open(t) // still open when all is removed
	n.attach(t, s, a)
	for range 2 {
		n.remove(t)
	}
	if _, err := os.Stat(n.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", n.Dir, err)
	}
	host := n.hostAddr(t)
	before := snmp(t, n.NS, "Ip", "InReceives")
	ping(a, host)
	if snmp(t, n.NS, "Ip", "InReceives") == before {
		t.Error("our program is still on the pod's device")
	}
	run(t, "ip -n "+n.NS+" link set punt1 xdp off") // refused while a link holds it
}

func TestOpenErrors(t *testing.T) {
	n := newNode(t, "n", 1)
	for _, c := range []struct {
		cfg  steer.Config
		text string
	}{
		{steer.Config{PuntOuter: n.Outer, PuntInner: n.Inner}, "0 workers: want 1 to 64"},
		{steer.Config{PuntOuter: n.Outer, PuntInner: 999, Workers: 1}, "punt link, interface 999"},
	} {
		c.cfg.BPFDir = n.Dir
		in(t, n.NS, func() {
			if s, err := steer.Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, %v; want %q", s, err, c.text)
			}
		})
	}
	s := n.open(t)
	for _, c := range []struct {
		vif  table.Vif
		text string
	}{
		{table.Vif{Ifindex: 1, Kind: table.VifHost}, "above 0"},
		{table.Vif{ID: 1, Ifindex: 1, Kind: "odd"}, `unknown kind "odd"`},
		{table.Vif{ID: 1, Ifindex: 1, Kind: table.VifFabric}, "tunnel address"},
		{table.Vif{ID: 1, Ifindex: 999, Kind: table.VifVirtual, Name: "tap9"}, "attach vif 1 (tap9): attach from_vif to interface 999"},
	} {
		in(t, n.NS, func() {
			if err := s.AttachVif(c.vif); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %q", err, c.text)
			}
		})
	}
	wantVifs(t, s)
	if mac := link.VifMAC(0); mac[0] != 2 || mac[1] != 0x56 {
		t.Error("steer.c and package link disagree about vif addresses")
	}
}
