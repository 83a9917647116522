package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// removeMember takes a pod's endpoint out of a manifest until the test ends.
func removeMember(t *testing.T, l *testbed.Lab, manifest, pod string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.ManifestDir(), manifest))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	lines := strings.SplitAfter(string(text), "\n")
	for _, line := range lines {
		// An endpoint is three lines; the last one names the pod.
		if strings.Contains(line, "targetRef") && strings.Contains(line, "name: "+pod+"}") {
			kept = kept[:len(kept)-2]
			continue
		}
		kept = append(kept, line)
	}
	if len(kept) == len(lines) {
		t.Fatalf("%s has no endpoint %s", manifest, pod)
	}
	if err := l.WriteManifest(manifest, strings.Join(kept, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.WriteManifest(manifest, string(text)); err != nil {
			t.Fatal(err)
		}
		waitMembers(t, l, singleVIP, len(everyServer))
	})
}

// waitMembers waits until both nodes' fast paths have so many members for the
// VIP of a single listener.
func waitMembers(t *testing.T, l *testbed.Lab, vip string, want int) {
	t.Helper()
	for name, n := range l.Nodes {
		err := testbed.Until(context.Background(), 30*time.Second, func() error {
			got, err := membersOf(n, netip.MustParseAddr(vip))
			if err == nil && got != want {
				err = fmt.Errorf("%s has %d members on %s, want %d", vip, got, name, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// membersOf counts the members of the composite a VIP's route leads to.
func membersOf(n *testbed.Node, vip netip.Addr) (int, error) {
	state, err := n.Tables()
	if err != nil {
		return 0, err
	}
	for _, r := range state.Routes {
		if r.Prefix.Addr() != vip || !r.Prefix.IsSingleIP() {
			continue
		}
		i := slices.IndexFunc(state.NextHops, func(h table.NextHop) bool { return h.ID == r.NH })
		if i < 0 {
			return 0, fmt.Errorf("%v leads to next hop %d, which is not there", vip, r.NH)
		}
		live := 0
		for _, m := range state.NextHops[i].Members {
			if m.NH != 0 && !m.Draining {
				live++
			}
		}
		return live, nil
	}
	return 0, fmt.Errorf("no route to %v", vip)
}
