package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// remote is a transfer from the client to a backend of the other node through
// the service, and direct one to a pod by its address.
func startTransfers(t *testing.T, l *testbed.Lab) []*transfer {
	t.Helper()
	client := l.Pod("client").Place
	all := []*transfer{startTransfer(t, client, net.JoinHostPort(l.Pod("web5").Four.String(), echoPort))}
	for range 60 { // until one went to the other node
		x := startTransfer(t, client, echoVIP+":7")
		all = append(all, x)
		if l.Pod(x.server).Node != l.Pod("client").Node {
			return all
		}
	}
	t.Fatal("60 connections, none to the other node")
	return nil
}

func allMove(t *testing.T, all []*transfer, within time.Duration) {
	t.Helper()
	for _, x := range all {
		x.moves(t, within)
	}
}

func allFinish(t *testing.T, all []*transfer) {
	t.Helper()
	for _, x := range all {
		x.finish(t)
	}
}

// TestKillAgent kills the agent under transfers: they go on without it. Its
// successor has the same addresses, labels and flows, and works.
func TestKillAgent(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	all := startTransfers(t, l)
	before := remember(t, n)
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	allMove(t, all, patience)
	if k, err := connect(l.Pod("client").Place, webVIP+":8888", 0); err != nil {
		t.Errorf("a new connection without the agent: %v", err)
	} else {
		_ = k.Close()
	}
	if err := l.Add(ctx, l.Pod("client")); !isCode(err, 11) {
		t.Errorf("ADD without the agent: %v, want code 11 (try again)", err)
	}
	if err := l.Status(ctx, n); !isCode(err, 50) {
		t.Errorf("STATUS without the agent: %v, want code 50", err)
	}
	restartAgent(t, l, n)
	if err := l.Status(ctx, n); err != nil {
		t.Errorf("STATUS with the agent back: %v", err)
	}
	allMove(t, all, patience)
	before.same(t, remember(t, n))
	removeMember(t, l, "51-service-single.yaml", "web2") // takes effect right after
	waitMembers(t, l, singleVIP, 4)
	allFinish(t, all)
}

// TestKillFastPath kills the fast path under transfers: its successor takes the
// flow tables over, and they finish.
func TestKillFastPath(t *testing.T) {
	l := cluster(t)
	for _, name := range l.Config.Nodes {
		t.Run(name, func(t *testing.T) {
			n := l.Nodes[name]
			all := startTransfers(t, l)
			before := remember(t, n)
			killFastPath(t, n)
			waitReady(t, l, n)
			allMove(t, all, 2*patience)
			before.same(t, remember(t, n))
			allFinish(t, all)
		})
	}
}

// TestKillController kills the controller for a minute (OUTAGE, in seconds):
// nothing changes, also not when it comes back.
func TestKillController(t *testing.T) {
	l := cluster(t)
	all := startTransfers(t, l)
	before := remember(t, l.Nodes["node1"])
	if err := l.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	allMove(t, all, patience)
	if seen := sample(t, l.Pod("client").Place, webVIP+":8888", 40); len(seen) != len(everyServer) {
		t.Errorf("40 connections without a controller were answered by %v", seen)
	}
	before.same(t, remember(t, l.Nodes["node1"]))
	for end := time.Now().Add(time.Duration(fromEnv("OUTAGE", 60)) * time.Second); time.Now().Before(end); {
		allMove(t, all, patience)
	}
	if err := l.Controller.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes {
		waitReady(t, l, n)
	}
	allMove(t, all, patience)
	before.same(t, remember(t, l.Nodes["node1"]))
	removeMember(t, l, "51-service-single.yaml", "web3") // it is heard again
	waitMembers(t, l, singleVIP, 4)
	allFinish(t, all)
}

// TestBackendsComeAndGo removes a backend and adds it again: transfers of the
// others do not notice, and the one that is back serves.
func TestBackendsComeAndGo(t *testing.T) {
	const manifest, moving = "51-service-single.yaml", "web4"
	l := cluster(t)
	client := l.Pod("client").Place
	whole, err := os.ReadFile(filepath.Join(l.ManifestDir(), manifest))
	if err != nil {
		t.Fatal(err)
	}
	var all []*transfer
	for range 8 {
		if x := startTransfer(t, client, singleVIP+":7"); x.server != moving {
			all = append(all, x)
		}
	}
	allMove(t, all, patience)
	removeMember(t, l, manifest, moving)
	waitMembers(t, l, singleVIP, len(everyServer)-1)
	allMove(t, all, patience)
	if err := l.WriteManifest(manifest, string(whole)); err != nil {
		t.Fatal(err)
	}
	waitMembers(t, l, singleVIP, len(everyServer))
	allMove(t, all, patience)
	for range 100 {
		k, err := connect(client, singleVIP+":7", 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = k.Close()
		if k.server == moving {
			allFinish(t, all)
			return
		}
	}
	t.Errorf("100 new connections, none to %s", moving)
}

// TestFastPathStopped stops the fast path for a moment: pod traffic stops at
// once, since nothing else carries it, and goes on afterwards.
func TestFastPathStopped(t *testing.T) {
	l := cluster(t)
	n := l.Nodes["node1"]
	x := startTransfer(t, l.Pod("client").Place, net.JoinHostPort(l.Pod("web1").Four.String(), echoPort))
	x.moves(t, patience)
	s, err := n.FastPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(s.PID, syscall.SIGCONT)
	if s.Offload.Mode == "off" {
		x.stands(t)
	}
	if err := syscall.Kill(s.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.moves(t, 2*patience)
	x.finish(t)
	waitReady(t, l, n)
}

// TestNothingLeaks kills the fast path while no agent can start another: what
// pods send is dropped, and never seen by the node's own stack.
func TestNothingLeaks(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	rule := []string{"PREROUTING", "-t", "raw", "-i", "tap+", "-m", "comment", "--comment", "leaks"}
	if _, err := n.Run(ctx, append([]string{"iptables", "-A"}, rule...)...); err != nil {
		t.Fatal(err)
	}
	defer n.Run(ctx, append([]string{"iptables", "-D"}, rule...)...)
	if err := n.Agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer n.Agent.Signal(syscall.SIGCONT)
	killFastPath(t, n)
	for _, to := range []string{l.Pod("web3").Four.String(), testbed.OutsideAddress, n.Address} {
		if out, err := l.Pod("client").Run(ctx, "ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", to); err == nil {
			t.Errorf("%s answers without a fast path:\n%s", to, out)
		}
	}
	out, err := n.Run(ctx, "iptables", "-t", "raw", "-nvxL", "PREROUTING")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "leaks") && strings.Fields(line)[0] != "0" {
			t.Errorf("packets of pods reached the node's stack: %s", line)
		}
	}
	if err := n.Agent.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitReady(t, l, n)
}

// memory is what must outlive every process of a node.
type memory struct {
	vmis   []rpc.VMI
	blocks []rpc.Block
	labels []table.LabelEntry
	flows  []string
}

func remember(t *testing.T, n *testbed.Node) memory {
	t.Helper()
	vmis, err := n.AskAgent(rpc.Request{VMIs: &rpc.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := n.AskAgent(rpc.Request{Blocks: &rpc.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	state, err := n.Tables()
	if err != nil {
		t.Fatal(err)
	}
	flows, err := n.Flows(control.FlowQuery{Proto: 6})
	if err != nil {
		t.Fatal(err)
	}
	m := memory{vmis: vmis.VMIs, blocks: blocks.Blocks, labels: state.Labels}
	slices.SortFunc(m.vmis, func(a, b rpc.VMI) int { return strings.Compare(a.UUID, b.UUID) })
	slices.SortFunc(m.blocks, func(a, b rpc.Block) int { return strings.Compare(a.Prefix.String(), b.Prefix.String()) })
	slices.SortFunc(m.labels, func(a, b table.LabelEntry) int { return int(a.Label) - int(b.Label) })
	for _, f := range flows {
		if f.TCP == "SSrEEr" {
			m.flows = append(m.flows, fmt.Sprintf("%d<=>%d %v %v %s%s", f.Index, f.Reverse, f.Src, f.Dst, f.Action, f.NAT))
		}
	}
	slices.Sort(m.flows)
	return m
}

// same wants all that was remembered; flows may have been added since.
func (m memory) same(t *testing.T, now memory) {
	t.Helper()
	if !reflect.DeepEqual(m.vmis, now.vmis) {
		t.Errorf("interfaces were\n%+v\nand are\n%+v", m.vmis, now.vmis)
	}
	if !reflect.DeepEqual(m.blocks, now.blocks) {
		t.Errorf("blocks were\n%+v\nand are\n%+v", m.blocks, now.blocks)
	}
	if !reflect.DeepEqual(m.labels, now.labels) {
		t.Errorf("labels were\n%+v\nand are\n%+v", m.labels, now.labels)
	}
	for _, f := range m.flows {
		if !slices.Contains(now.flows, f) {
			t.Errorf("flow %s is lost", f)
		}
	}
}

// killFastPath kills the process and waits until it is gone.
func killFastPath(t *testing.T, n *testbed.Node) {
	t.Helper()
	s, err := n.FastPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err = testbed.Until(context.Background(), patience, func() error {
		now, err := n.FastPath()
		if err == nil && now.PID == s.PID {
			return errors.New("the killed fast path still answers")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func restartAgent(t *testing.T, l *testbed.Lab, n *testbed.Node) {
	t.Helper()
	if err := n.Agent.Start(); err != nil {
		t.Fatal(err)
	}
	waitReady(t, l, n)
}

func waitReady(t *testing.T, l *testbed.Lab, n *testbed.Node) {
	t.Helper()
	if err := l.WaitNode(context.Background(), n); err != nil {
		t.Fatal(err)
	}
}
