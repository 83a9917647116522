package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cni "github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/integration/testbed"
)

// isCode says whether the plugin refused with this CNI error code.
func isCode(err error, code uint) bool {
	var e *cni.Error
	return errors.As(err, &e) && e.Code == code
}

// declarePods tells the controller of pods on node1, until the test ends.
func declarePods(t *testing.T, l *testbed.Lab, names ...string) {
	t.Helper()
	var docs []string
	for _, n := range names {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {namespace: demo, name: %s}\nspec: {nodeName: node1}\n", n))
	}
	file := "90-" + names[0] + ".yaml"
	if err := l.WriteManifest(file, strings.Join(docs, "---\n")); err != nil {
		t.Fatal(err)
	}
	waitExpected(t, l.Nodes["node1"], names, true)
	waitRoom(t, l.Nodes["node1"], len(names))
	t.Cleanup(func() {
		if err := l.RemoveManifest(file); err != nil {
			t.Fatal(err)
		}
		waitExpected(t, l.Nodes["node1"], names, false)
	})
}

// waitExpected waits until the agent has heard, or no longer hears, of the pods.
func waitExpected(t *testing.T, n *testbed.Node, pods []string, want bool) {
	t.Helper()
	err := testbed.Until(context.Background(), 30*time.Second, func() error {
		reply, err := n.AskAgent(rpc.Request{VMIs: &rpc.Empty{}})
		if err != nil {
			return err
		}
		for _, pod := range pods {
			known := slices.ContainsFunc(reply.VMIs, func(v rpc.VMI) bool { return v.Pod == pod })
			if known != want {
				return fmt.Errorf("%s known to the agent: %v", pod, known)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitRoom waits until the node has blocks, and routes to them, with room for more pods.
func waitRoom(t *testing.T, n *testbed.Node, pods int) {
	t.Helper()
	err := testbed.Until(context.Background(), 30*time.Second, func() error {
		reply, err := n.AskAgent(rpc.Request{Blocks: &rpc.Empty{}})
		if err != nil {
			return err
		}
		tables := tablesText(t, n)
		free := map[bool]int{} // by family
		for _, b := range reply.Blocks {
			free[b.Prefix.Addr().Is4()] += b.Free
			if !strings.Contains(tables, b.Prefix.String()) {
				return fmt.Errorf("no route to block %v", b.Prefix)
			}
		}
		if least := min(free[true], free[false]); least < pods {
			return fmt.Errorf("room for %d pods of %d in %+v", least, pods, reply.Blocks)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestChurn attaches and detaches pods many times, one after the other and all
// at once, and wants the node to be as before, down to file descriptors.
func TestChurn(t *testing.T) {
	l := cluster(t)
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprintf("churn%d", i)
	}
	declarePods(t, l, names...)
	before := snapshot(t, l.Nodes["node1"])

	var adds []time.Duration
	for range fromEnv("CYCLES", 1000) {
		adds = append(adds, cycle(t, l, names[0]))
	}
	slices.Sort(adds)
	t.Logf("ADD p50 %v, p99 %v", adds[len(adds)/2], adds[len(adds)*99/100])

	attachAll(t, l, names)
	sameSnapshot(t, before, l.Nodes["node1"])
}

// attachAll attaches pods at the same time, and detaches them when all are
// there.
func attachAll(t *testing.T, l *testbed.Lab, names []string) {
	t.Helper()
	var there, done sync.WaitGroup
	there.Add(len(names))
	for _, name := range names {
		done.Go(func() {
			err := attachDetach(l, name, &there)
			if err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
}

// cycle attaches and detaches a pod and says how long ADD took.
func cycle(t *testing.T, l *testbed.Lab, name string) time.Duration {
	t.Helper()
	ctx := context.Background()
	p, err := l.NewPod(ctx, "node1", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	started := time.Now()
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)
	if err := l.Del(ctx, p); err != nil {
		t.Fatal(err)
	}
	return took
}

// attachDetach says when its ADD is over, and waits for all others'.
func attachDetach(l *testbed.Lab, name string, there *sync.WaitGroup) error {
	ctx := context.Background()
	p, err := l.NewPod(ctx, "node1", name)
	if err == nil {
		defer l.Discard(p)
		err = l.Add(ctx, p)
	}
	there.Done()
	there.Wait()
	if err != nil {
		return fmt.Errorf("ADD %s: %w", name, err)
	}
	return l.Del(ctx, p)
}

// TestAddAgain repeats verbs: ADD gives the same answer, DEL succeeds, also
// without a namespace; another namespace for the same container is refused.
func TestAddAgain(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	declarePods(t, l, "twice")
	p, err := l.NewPod(ctx, "node1", "twice")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	four, six, mac := p.Four, p.Six, p.Result.Interfaces[1].Mac
	if err := l.Add(ctx, p); err != nil {
		t.Errorf("ADD again: %v", err)
	} else if p.Four != four || p.Six != six || p.Result.Interfaces[1].Mac != mac {
		t.Errorf("ADD again gives %v %v %s, first %v %v %s", p.Four, p.Six, p.Result.Interfaces[1].Mac, four, six, mac)
	}
	if err := l.Check(ctx, p); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	other, err := l.NewPod(ctx, "node1", "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(other)
	other.Name, other.ContainerID = p.Name, p.ContainerID
	if err := l.Add(ctx, other); err == nil {
		t.Error("ADD of the same container with another namespace succeeds")
	}
	l.Discard(p) // the namespace is gone before DEL
	for range 2 {
		if err := l.Del(ctx, p); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
}

// TestDelWithoutAgent deletes a pod while the agent is down; when it is back,
// nothing of the pod is left.
func TestDelWithoutAgent(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	declarePods(t, l, "orphan")
	before := snapshot(t, n)
	p, err := l.NewPod(ctx, "node1", "orphan")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.Del(ctx, p); err != nil {
		t.Errorf("DEL without the agent: %v", err)
	}
	restartAgent(t, l, n)
	delete(before, "fds agent") // another process, that has adopted its fast path
	sameSnapshot(t, before, n)
}

// TestCheckSeesTampering changes one thing at a time behind the plugin's back.
func TestCheckSeesTampering(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	declarePods(t, l, "checked")
	for _, c := range []struct{ name, change, names string }{
		{"address", "addr flush dev eth0 scope global", "address"},
		{"route", "route del default", "route"},
		{"mtu", "link set eth0 mtu 1400", "MTU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := l.NewPod(ctx, "node1", "checked")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Discard(p)
			if err := l.Add(ctx, p); err != nil {
				t.Fatal(err)
			}
			defer l.Del(ctx, p)
			if _, err := p.Run(ctx, append([]string{"ip"}, strings.Fields(c.change)...)...); err != nil {
				t.Fatal(err)
			}
			err = l.Check(ctx, p)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.names)) {
				t.Errorf("CHECK says %v, want a word about the %s", err, c.names)
			}
		})
	}
}

// TestCheckSeesProgramGone takes the program off a pod's tap behind the agent's back.
func TestCheckSeesProgramGone(t *testing.T) {
	l := cluster(t)
	if l.Config.AttachBy != "clsact" {
		t.Skip("programs are links, which tc does not remove: ATTACH=clsact")
	}
	ctx := context.Background()
	declarePods(t, l, "bare")
	p, err := l.Attach(ctx, "node1", "bare")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Detach(ctx, p)
	if err := l.Check(ctx, p); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Node.Run(ctx, "tc", "filter", "del", "dev", vifOf(t, p).Name, "ingress"); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(ctx, p); err == nil || !strings.Contains(err.Error(), "steering program") {
		t.Errorf("CHECK says %v, want a word about the program", err)
	}
}

// TestCnitool runs all verbs with the reference client of the specification.
func TestCnitool(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	tool := filepath.Join(t.TempDir(), "cnitool")
	if out, err := exec.Command("go", "build", "-o", tool, "github.com/containernetworking/cni/cnitool").CombinedOutput(); err != nil {
		t.Fatalf("build cnitool: %v: %s", err, out)
	}
	declarePods(t, l, "tool")
	p, err := l.NewPod(ctx, "node1", "tool")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	node := *p.Node.Place
	node.Env = append(slices.Clone(node.Env), "CNI_PATH="+l.Bin, "NETCONFPATH="+filepath.Dir(p.Node.ConflistFile()),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=tool")
	// gc would remove every other pod of the network: TestGC does it with care.
	for _, verb := range []string{"status", "add", "check", "del"} {
		if out, err := node.Run(ctx, tool, verb, "vrouter", p.Netns); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// TestGC removes what the runtime no longer lists, and only that.
func TestGC(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	declarePods(t, l, "litter")
	before := snapshot(t, n)
	p, err := l.NewPod(ctx, "node1", "litter")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	if err := l.GC(ctx, n, l.Pod("client"), l.Pod("web1"), l.Pod("web2")); err != nil {
		t.Fatal(err)
	}
	sameSnapshot(t, before, n)
	if seen := sample(t, l.Pod("client").Place, webVIP+":8888", 40); len(seen) != len(everyServer) {
		t.Errorf("after GC 40 connections are answered by %v", seen)
	}
}

// TestDelForgetsFlows wants no entry of a pod's address to outlive it.
func TestDelForgetsFlows(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	declarePods(t, l, "mortal")
	p, err := l.NewPod(ctx, "node1", "mortal")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Discard(p)
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	sample(t, p.Place, webVIP+":8888", 20)
	query := control.FlowQuery{A: netip.AddrPortFrom(p.Four, 0)}
	if flows, err := l.Nodes["node1"].Flows(query); err != nil || len(flows) < 40 {
		t.Fatalf("20 connections left %d entries, %v", len(flows), err)
	}
	if err := l.Del(ctx, p); err != nil {
		t.Fatal(err)
	}
	err = testbed.Until(ctx, patience, func() error {
		flows, err := l.Nodes["node1"].Flows(query)
		if err == nil && len(flows) > 0 {
			err = fmt.Errorf("%d entries of %v are still there", len(flows), p.Four)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
