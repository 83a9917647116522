package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// remoteTalk is a connection through a VIP to a backend of the other node.
func remoteTalk(t *testing.T, l *testbed.Lab, addr string) (*talk, *testbed.Pod) {
	t.Helper()
	client := l.Pod("client")
	for range 60 {
		k, err := connect(client.Place, addr, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		if pod := l.Pod(k.server); pod != nil && pod.Node != client.Node {
			return k, pod
		}
	}
	t.Fatal("60 connections, none to the other node")
	return nil, nil
}

// TestFlowsOfService looks at the entries of one connection on both nodes: the
// client's forwards, the backend's translates, and reverse indices link.
func TestFlowsOfService(t *testing.T) {
	l := cluster(t)
	k, backend := remoteTalk(t, l, webVIP+":8888")
	if err := k.echo(1000); err != nil {
		t.Fatal(err)
	}
	vip := netip.MustParseAddrPort(webVIP + ":8888")
	own := netip.AddrPortFrom(backend.Four, 80)
	there := flowPair(t, l.Nodes["node1"], k.seen, vip)
	checkPair(t, there, "F", "F")
	here := flowPair(t, l.Nodes["node2"], k.seen, vip)
	checkPair(t, here, "NDPd", "NSPs")
	if here[1].Src != own || here[1].Dst != k.seen {
		t.Errorf("the reverse entry is %v -> %v, want the pod's own %v -> %v", here[1].Src, here[1].Dst, own, k.seen)
	}
	if there[0].ECMP < 0 {
		t.Error("the client's node does not say which member it chose")
	}
	// The client may acknowledge between two looks.
	err := testbed.Until(t.Context(), 10*time.Second, func() error {
		there, here := flowPair(t, l.Nodes["node1"], k.seen, vip), flowPair(t, l.Nodes["node2"], k.seen, vip)
		if there[0].Packets == 0 || there[1].Packets == 0 || here[0].Packets != there[0].Packets || here[1].Packets != there[1].Packets {
			return fmt.Errorf("packets: %d and %d on node1, %d and %d on node2", there[0].Packets, there[1].Packets, here[0].Packets, here[1].Packets)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// flowPair finds the forward entry from a to b and the entry it links to.
func flowPair(t *testing.T, n *testbed.Node, a, b netip.AddrPort) [2]control.Flow {
	t.Helper()
	flows, err := n.Flows(control.FlowQuery{A: a, Proto: 6})
	if err != nil {
		t.Fatal(err)
	}
	byIndex := map[uint32]control.Flow{}
	for _, f := range flows {
		byIndex[f.Index] = f
	}
	for _, f := range flows {
		if f.Src == a && f.Dst == b {
			r, ok := byIndex[f.Reverse]
			if !ok || r.Reverse != f.Index {
				t.Fatalf("%s: %d<=>%d is not linked both ways", n.Name, f.Index, f.Reverse)
			}
			return [2]control.Flow{f, r}
		}
	}
	t.Fatalf("%s has no flow %v -> %v among %d", n.Name, a, b, len(flows))
	return [2]control.Flow{}
}

func checkPair(t *testing.T, pair [2]control.Flow, forward, reverse string) {
	t.Helper()
	for i, want := range []string{forward, reverse} {
		f := pair[i]
		if got := f.Action + f.NAT; got != want {
			t.Errorf("%v -> %v has action %s, want %s", f.Src, f.Dst, got, want)
		}
		if f.TCP != "SSrEEr" {
			t.Errorf("%v -> %v has TCP state %s, want SSrEEr", f.Src, f.Dst, f.TCP)
		}
	}
}

// TestTunnelOnTheWire captures the underlay while a connection through the VIP
// runs: tshark reads MPLS in UDP with the label that the backend's node shows.
func TestTunnelOnTheWire(t *testing.T) {
	l := cluster(t)
	k, backend := remoteTalk(t, l, webVIP+":8888")
	file := filepath.Join(t.TempDir(), "underlay.pcap")
	stop := capture(t, l.Underlay, "br0", file, "udp port 6635")
	if err := k.echo(4000); err != nil {
		t.Fatal(err)
	}
	stop()
	out, err := exec.Command("tshark", "-r", file, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a",
		"-e", "udp.srcport", "-e", "mpls.label", "-e", "mpls.bottom", "-e", "ip.src", "-e", "ip.dst", "-e", "udp.checksum").Output()
	if err != nil {
		t.Fatal(err)
	}
	label := labelOf(t, backend)
	want := fmt.Sprintf("|%d|1|%s,%s|%s,%s|", label, l.Nodes["node1"].Address, k.seen.Addr(), l.Nodes["node2"].Address, webVIP)
	found := false
	for line := range strings.Lines(string(out)) {
		port, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
		if n, _ := strconv.Atoi(port); n < 0xc000 {
			t.Errorf("outer source port %s, want 49152 and up (RFC 7510)", port)
		}
		found = found || strings.HasPrefix("|"+rest, want)
	}
	if !found {
		t.Errorf("no packet with label %d (%s) still addressed to the VIP, like %q, in:\n%s", label, backend.Name, want, out)
	}
}

// labelOf asks `vragent mpls` and `vragent vmi` of the pod's node which label
// leads to the pod.
func labelOf(t *testing.T, p *testbed.Pod) table.Label {
	t.Helper()
	state, err := p.Node.Tables()
	if err != nil {
		t.Fatal(err)
	}
	nh := table.NextHopID(0)
	for _, v := range state.Vifs {
		for _, a := range v.Addrs {
			if a == p.Four {
				nh = v.NH
			}
		}
	}
	out, err := p.Node.Run(context.Background(), "vragent", "mpls", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var labels []table.LabelEntry
	if err := json.Unmarshal([]byte(out), &labels); err != nil {
		t.Fatalf("vragent mpls -o json: %v\n%s", err, out)
	}
	for _, e := range labels {
		if e.NH == nh {
			return e.Label
		}
	}
	t.Fatalf("no label leads to next hop %d (%s):\n%s", nh, p.Name, out)
	return 0
}

// capture starts tcpdump at a place; stop ends it when all is on disk.
func capture(t *testing.T, p *testbed.Place, device, file, filter string) (stop func()) {
	t.Helper()
	c := p.Command(context.Background(), "tcpdump", "--immediate-mode", "-U", "-ni", device, "-w", file, filter)
	var said lockedBuffer
	c.Stderr = &said
	if err := p.Start(c); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	end := func() {
		_ = c.Process.Signal(syscall.SIGINT)
		<-ended
	}
	err := testbed.Until(context.Background(), patience, func() error {
		if !strings.Contains(said.String(), "listening on") {
			return fmt.Errorf("tcpdump: %s", said.String())
		}
		return nil
	})
	if err != nil {
		end()
		t.Fatal(err)
	}
	return end
}

// TestCountersAgree compares what workers count with what passes the tap.
func TestCountersAgree(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client")
	before, tapBefore := vifOf(t, client), tapReceived(t, client)
	k, err := connect(client.Place, net.JoinHostPort(l.Pod("web3").Four.String(), echoPort), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for range 50 {
		if err := k.echo(100); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond) // counters are published per batch, the last ACK has no answer to wait for
	after, tapAfter := vifOf(t, client), tapReceived(t, client)
	counted, passed := after.RxPackets-before.RxPackets, tapAfter-tapBefore
	if counted != passed || counted < 50 {
		t.Errorf("the fast path counted %d packets from the pod, the tap %d", counted, passed)
	}
}

func vifOf(t *testing.T, p *testbed.Pod) control.VifStats {
	t.Helper()
	reply, err := p.Node.AskFastPath(control.Request{Vifs: &control.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range reply.Vifs {
		for _, a := range v.Addrs {
			if a == p.Four {
				return v
			}
		}
	}
	t.Fatalf("no vif of %s", p.Name)
	return control.VifStats{}
}

// tapReceived is the kernel's count of packets from the pod.
func tapReceived(t *testing.T, p *testbed.Pod) uint64 {
	t.Helper()
	out, err := p.Node.Run(context.Background(), "ip", "-j", "-s", "link", "show", vifOf(t, p).Name)
	if err != nil {
		t.Fatal(err)
	}
	var links []struct {
		Stats struct {
			RX struct {
				Packets uint64 `json:"packets"`
			} `json:"rx"`
		} `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		t.Fatalf("ip link: %v\n%s", err, out)
	}
	return links[0].Stats.RX.Packets
}

// TestWorkersShare wants every worker to carry packets and, with several, NAT
// flows whose two directions have different owners.
func TestWorkersShare(t *testing.T) {
	l := cluster(t)
	sample(t, l.Pod("client").Place, webVIP+":8888", 200)
	splits := uint64(0)
	for name, n := range l.Nodes {
		s, err := n.FastPath()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Workers) != l.Workers {
			t.Errorf("%s has %d workers, want %d", name, len(s.Workers), l.Workers)
		}
		for _, w := range s.Workers {
			t.Logf("%s worker %d: received %d, handed over %d, split pairs %d", name, w.Worker, w.RxPackets, w.Handoffs, w.Splits)
			if w.RxPackets < 100 {
				t.Errorf("%s worker %d received only %d packets", name, w.Worker, w.RxPackets)
			}
			splits += w.Splits
		}
	}
	if l.Workers > 1 && splits == 0 {
		t.Error("no NAT pair was split between workers: that path is not tested")
	}
}

// lockedBuffer may be written and read by two goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
