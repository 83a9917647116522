package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

// picture is what a node looks like: one text per aspect.
type picture map[string]string

// snapshot pictures links, addresses, routes, firewall rules, bpffs, the file
// descriptors of our processes, and what the agent and the fast path hold.
func snapshot(t *testing.T, n *testbed.Node) picture {
	t.Helper()
	s := picture{}
	for name, command := range map[string]string{
		"links":     "ip -o link",
		"addresses": "ip -o addr",
		"routes":    "ip route show table all",
		"routes6":   "ip -6 route show table all",
		"iptables":  "iptables-save",
		"ip6tables": "ip6tables-save",
		"bpffs":     "find " + n.RunDir() + " -printf %P\\n",
		"state":     "find " + n.StateDir() + " -not -path */cni/* -printf %P\\n",
	} {
		out, err := n.Run(context.Background(), strings.Fields(command)...)
		if err != nil {
			t.Fatal(err)
		}
		s[name] = withoutComments(out)
	}
	fast, err := n.FastPath()
	if err != nil {
		t.Fatal(err)
	}
	s["fds agent"] = descriptors(t, n.Agent.PID())
	s["fds fast path"] = descriptors(t, fast.PID)
	s["tables"] = tablesText(t, n)
	blocks, err := n.AskAgent(rpc.Request{Blocks: &rpc.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks.Blocks {
		s["blocks"] += fmt.Sprintf("%+v\n", b)
	}
	vmis, err := n.AskAgent(rpc.Request{VMIs: &rpc.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(vmis.VMIs, func(a, b rpc.VMI) int { return strings.Compare(a.UUID, b.UUID) })
	for _, v := range vmis.VMIs {
		s["vmis"] += fmt.Sprintf("%+v\n", v)
	}
	return s
}

// sameSnapshot waits until the node looks as before: aging of flows and sockets
// that close take a moment.
func sameSnapshot(t *testing.T, before picture, n *testbed.Node) {
	t.Helper()
	err := testbed.Until(context.Background(), time.Minute, func() error {
		now := snapshot(t, n)
		var changed []error
		for name, was := range before {
			if now[name] != was {
				changed = append(changed, fmt.Errorf("%s have changed:\n%s", name, difference(was, now[name])))
			}
		}
		return errors.Join(changed...)
	})
	if err != nil {
		t.Error(err)
	}
}

// difference lists the lines that only one of two texts has.
func difference(was, is string) string {
	old, now := slices.Collect(strings.Lines(was)), slices.Collect(strings.Lines(is))
	var out strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			out.WriteString("- " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			out.WriteString("+ " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return out.String()
}

func withoutComments(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ":") {
			kept = append(kept, line)
		}
	}
	slices.Sort(kept)
	return strings.Join(kept, "")
}

// descriptors counts the open files of a process by kind.
func descriptors(t *testing.T, pid int) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed since
		}
		kind, _, _ := strings.Cut(target, ":[")
		count[kind]++
	}
	var lines []string
	for kind, n := range count {
		lines = append(lines, fmt.Sprintf("%s %d\n", kind, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// tablesText is the fast path's state without its order.
func tablesText(t *testing.T, n *testbed.Node) string {
	t.Helper()
	s, err := n.Tables()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(v any) { lines = append(lines, fmt.Sprintf("%T%+v\n", v, v)) }
	for _, v := range s.Vifs {
		add(v)
	}
	for _, v := range s.VRFs {
		add(v)
	}
	for _, v := range s.NextHops {
		slices.SortFunc(v.Members, func(a, b table.Member) int { return strings.Compare(a.Name, b.Name) })
		add(v)
	}
	for _, v := range s.Routes {
		add(v)
	}
	for _, v := range s.Labels {
		add(v)
	}
	for _, v := range s.PortMaps {
		add(v)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
