package integration

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/vragent/vragent/agent/ledger"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/integration/testbed"
)

// TestLedgerGone kills the agent under transfers and takes its ledger away. Its
// successor learns its pods from their interfaces: transfers go on, every pod has
// the address, label and vif it had, and no address is given a second time.
func TestLedgerGone(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	all := startTransfers(t, l)
	before := remember(t, n)
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(n.StateDir(), ledger.FileName)); err != nil {
		t.Fatal(err)
	}
	allMove(t, all, patience)
	restartAgent(t, l, n)
	allMove(t, all, patience)
	now := remember(t, n)
	now.labels = before.labels // those of services may be new
	before.same(t, now)
	restartAgentAgain(t, l, n, now)
	allMove(t, all, patience)
	taken := map[string]bool{}
	for _, v := range before.vmis {
		for _, a := range v.Addrs {
			taken[a.String()] = true
		}
	}
	names := []string{"late1", "late2", "late3"}
	declarePods(t, l, names...)
	for _, name := range names {
		late, err := l.Attach(ctx, "node1", name)
		if err != nil {
			t.Fatal(err)
		}
		if taken[late.Four.String()] || taken[late.Six.String()] {
			t.Errorf("%v or %v is given twice", late.Four, late.Six)
		}
		if err := l.Detach(ctx, late); err != nil {
			t.Error(err)
		}
	}
	if err := l.Check(ctx, l.Pod("client")); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	noLeaks(t, n)
	if k, err := connect(l.Pod("client").Place, webVIP+":8888", 0); err != nil {
		t.Errorf("a new connection: %v", err)
	} else {
		_ = k.Close()
	}
	allFinish(t, all)
}

// restartAgentAgain wants the new ledger to be as good as the old one.
func restartAgentAgain(t *testing.T, l *testbed.Lab, n *testbed.Node, was memory) {
	t.Helper()
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	restartAgent(t, l, n)
	if now := remember(t, n); !reflect.DeepEqual(was.vmis, now.vmis) {
		t.Errorf("interfaces were\n%+v\nand are\n%+v", was.vmis, now.vmis)
	}
}

// noLeaks wants the node to find nothing wrong with its addresses.
func noLeaks(t *testing.T, n *testbed.Node) {
	t.Helper()
	r, err := n.AskAgent(rpc.Request{Leaks: &rpc.Leaks{}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Leaks == nil || r.Leaks.Addresses == 0 || slices.ContainsFunc(r.Leaks.Leaks, func(rpc.Leak) bool { return true }) {
		t.Errorf("addresses: %+v", r.Leaks)
	}
}
