package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// lab is the cluster all tests share. It is nil when the tests may not run.
var lab *testbed.Lab

// podNodes says where the pods of the lab live.
var podNodes = []struct{ pod, node string }{
	{"client", "node1"}, {"web1", "node1"}, {"web2", "node1"},
	{"web3", "node2"}, {"web4", "node2"}, {"web5", "node2"},
}

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

// runAll builds the lab, runs the tests and removes the lab whatever happened.
func runAll(m *testing.M) int {
	if os.Getuid() != 0 {
		return m.Run() // every test skips itself and says why
	}
	ctx := context.Background()
	removeDead(ctx)
	l := testbed.New(testbed.Config{
		Name:      fmt.Sprintf("it%d", os.Getpid()),
		Bin:       absolute("../build/bin"),
		Manifests: []string{absolute("../conf/examples/demo"), absolute("testdata/manifests")},
		Nodes:     []string{"node1", "node2"},
		Workers:   fromEnv("WORKERS", 1),
		MTU:       fromEnv("MTU", 1500),
		FabricIO:  os.Getenv("FABRIC_IO"),
		Offload:   os.Getenv("OFFLOAD"),
		AttachBy:  os.Getenv("ATTACH"),
		IO:        os.Getenv("POD_IO"),
	})
	code := 1
	if err := build(ctx, l); err != nil {
		fmt.Fprintln(os.Stderr, "the lab cannot be built:", err)
	} else {
		lab = l
		code = m.Run()
	}
	if code != 0 {
		saveLogs(l)
	}
	if err := l.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "the lab cannot be removed:", err)
		return 1
	}
	return code
}

// build makes the lab, its pods and a server in each of them.
func build(ctx context.Context, l *testbed.Lab) error {
	if err := l.Up(ctx); err != nil {
		return err
	}
	for _, p := range podNodes {
		pod, err := l.Attach(ctx, p.node, p.pod)
		if err != nil {
			return err
		}
		if err := serve(pod.Place); err != nil {
			return fmt.Errorf("serve in %s: %w", p.pod, err)
		}
	}
	for _, p := range []*testbed.Place{l.Outside, l.Nodes["node1"].Place, l.Nodes["node2"].Place} {
		if err := serve(p); err != nil {
			return fmt.Errorf("serve in %s: %w", p.Name, err)
		}
	}
	if err := served(ctx, l); err != nil {
		return err
	}
	return settle(ctx, l)
}

// served waits until both nodes know all members of all services: a member is
// announced only after its own node has said that it can be reached.
func served(ctx context.Context, l *testbed.Lab) error {
	return testbed.Until(ctx, 20*time.Second, func() error {
		known := map[int]bool{}
		for name, n := range l.Nodes {
			got, err := membersOf(n, netip.MustParseAddr(singleVIP))
			if err == nil && got != len(everyServer) {
				err = fmt.Errorf("%s knows %d members of %s, want %d", name, got, singleVIP, len(everyServer))
			}
			if err != nil {
				return err
			}
			state, err := n.Tables()
			if err != nil {
				return err
			}
			known[allMembers(state)] = true
		}
		if len(known) != 1 {
			return fmt.Errorf("the nodes know different numbers of members: %v", known)
		}
		return nil
	})
}

// allMembers counts the members of everything that routes lead to.
func allMembers(s *table.State) (n int) {
	byID := map[table.NextHopID]table.NextHop{} // next hop 0 discards and is not listed
	for _, h := range s.NextHops {
		byID[h.ID] = h
	}
	for _, r := range s.Routes {
		h := byID[r.NH]
		n += len(h.Members)
		for _, l := range h.Listeners {
			n += len(byID[l.NH].Members)
		}
	}
	return n
}

// settle waits until no address of a node is tentative any more (RFC 4862):
// snapshots taken before would differ from those after.
func settle(ctx context.Context, l *testbed.Lab) error {
	return testbed.Until(ctx, 10*time.Second, func() error {
		for _, n := range l.Nodes {
			out, err := n.Run(ctx, "ip", "-6", "addr", "show", "tentative")
			if err != nil || out != "" {
				return errors.Join(err, fmt.Errorf("tentative on %s: %s", n.Name, out))
			}
		}
		return nil
	})
}

// removeDead removes labs whose test process is gone.
func removeDead(ctx context.Context) {
	dirs, _ := filepath.Glob("/run/vragent-it*")
	for _, dir := range dirs {
		name := strings.TrimPrefix(dir, "/run/vragent-")
		pid, err := strconv.Atoi(strings.TrimPrefix(name, "it"))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = testbed.New(testbed.Config{Name: name}).Down(ctx)
		}
	}
}

// saveLogs keeps what the programs said where a failed run's owner finds it.
func saveLogs(l *testbed.Lab) {
	kept := absolute("../build/integration-log")
	_ = os.RemoveAll(kept)
	if err := os.CopyFS(kept, os.DirFS(l.LogDir())); err == nil {
		fmt.Fprintln(os.Stderr, "logs of all processes:", kept)
	}
}

// cluster returns the lab, or skips the test.
func cluster(t *testing.T) *testbed.Lab {
	t.Helper()
	if lab == nil {
		t.Skip("needs root: network namespaces, BPF, AF_XDP")
	}
	return lab
}

func fromEnv(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil {
		return n
	}
	return otherwise
}

func absolute(path string) string {
	p, err := filepath.Abs(path)
	if err != nil {
		panic(err) // the working directory is gone
	}
	return p
}
