package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/rpc"
)

func TestDelWithMuchMissing(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, n *node, c *container){
		"nothing was ever added": nil,
		"namespace deleted":      func(t *testing.T, n *node, c *container) { c.remove() },
		"name of the namespace deleted, its processes live": func(t *testing.T, n *node, c *container) {
			if err := os.Remove(c.path); err == nil {
				t.Fatal("the mount point was not busy")
			}
			keep, err := os.Open(c.path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = keep.Close() })
			c.remove()
		},
		"no namespace given":  func(t *testing.T, n *node, c *container) { c.path = "" },
		"namespace is a file": func(t *testing.T, n *node, c *container) { c.path = n.logFile },
		"interface deleted": func(t *testing.T, n *node, c *container) {
			eth0, _ := c.handle.LinkByName("eth0")
			if err := c.handle.LinkDel(eth0); err != nil {
				t.Fatal(err)
			}
		},
		"interface renamed": func(t *testing.T, n *node, c *container) {
			eth0, _ := c.handle.LinkByName("eth0")
			if err := c.handle.LinkSetDown(eth0); err != nil {
				t.Fatal(err)
			}
			if err := c.handle.LinkSetName(eth0, "eth7"); err != nil {
				t.Fatal(err)
			}
		},
		"unknown to the agent": func(t *testing.T, n *node, c *container) { n.agent.Forget(c.key()) },
		"agent says unknown": func(t *testing.T, n *node, c *container) {
			n.agent.Forget(c.key())
			n.agent.Refuse(func(r *rpc.Request) *rpc.Error { return &rpc.Error{Code: rpc.CodeUnknownPod, Message: "unknown"} })
		},
	} {
		for _, cached := range []bool{true, false} { // with prevResult, and without
			t.Run(name, func(t *testing.T) {
				n := newNode(t)
				list, pod := n.network("1.1.0"), n.container()
				before := n.snapshot()
				if damage != nil {
					n.mustAdd(list, pod)
					damage(t, n, pod)
				}
				if !cached {
					if err := os.RemoveAll(n.cacheDir); err != nil {
						t.Fatal(err)
					}
				}
				for range 3 {
					if err := n.del(list, pod); err != nil {
						t.Errorf("del: %v", err)
					}
				}
				n.wantSame(before)
				n.wantQuiet()
			})
		}
	}
}

// An agent that is alive and cannot do it is another matter: the runtime tries again.
func TestDelRefused(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	n.mustAdd(list, pod)
	n.agent.Refuse(func(r *rpc.Request) *rpc.Error {
		return &rpc.Error{Code: rpc.CodeInternal, Message: "ledger: disk full"}
	})
	wantError(t, n.del(list, pod), types.ErrInternal, "ledger: disk full")
	n.agent.Refuse(nil)
	if err := n.del(list, pod); err != nil {
		t.Error(err)
	}
}

func TestAgentDown(t *testing.T) {
	n := newNode(t)
	list, pod, second := n.network("1.1.0"), n.container(), n.container()
	n.mustAdd(list, pod)
	n.agent.Stop()
	_, err := n.add(list, second)
	wantError(t, err, types.ErrTryAgainLater, "attach pod default/"+second.id+": waited 1s: vragent is not running on this node (socket "+n.runDir+"/agent.sock: there is none)", "start vragent")
	wantError(t, n.check(list, pod), types.ErrTryAgainLater, "check", "is not running on this node")
	wantError(t, n.status(list), rpc.CodeNotAvailable, "is not running on this node")
	wantError(t, n.gc(list, pod), types.ErrTryAgainLater, "gc", "is not running on this node")
	for range 2 {
		if err := n.del(list, pod); err != nil {
			t.Errorf("del: %v", err)
		}
	}
	if _, err := pod.handle.LinkByName("eth0"); err == nil {
		t.Error("the pod's interface is left")
	}
	var note rpc.Detach
	text, err := os.ReadFile(filepath.Join(n.runDir, "detach", pod.id+"-eth0.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &note); err != nil || note.ContainerID != pod.id || note.Ifname != "eth0" || note.Network != "pods" || note.Netns != pod.path {
		t.Errorf("note %s: %v", text, err)
	}
	entries, _ := os.ReadDir(filepath.Join(n.runDir, "detach"))
	// DEL of the second pod, never attached, leaves one too; nothing half-written stays.
	if err := n.del(list, second); err != nil || len(entries) != 1 {
		t.Errorf("notes %v, %v", entries, err)
	}
	// The same pod again, before the agent read its note: the note is void.
	n.startAgent()
	n.mustAdd(list, pod)
	if _, err := os.Stat(filepath.Join(n.runDir, "detach", pod.id+"-eth0.json")); err == nil {
		t.Error("the old note will detach the new pod")
	}
}

// A socket file without an agent behind it, and a run directory that takes no note.
func TestAgentDownAndNoNotePossible(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	n.mustAdd(list, pod)
	n.agent.Stop()
	if err := os.RemoveAll(n.runDir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.runDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.del(list, pod); err != nil {
		t.Errorf("del: %v", err)
	}
	if got := n.stderr.String(); !strings.Contains(got, "vrouter: warning: leave a note for the agent: mkdir") {
		t.Errorf("standard error: %q", got)
	}
	if log, _ := os.ReadFile(n.logFile); !strings.Contains(string(log), "level=WARN msg=\"leave a note") {
		t.Errorf("log: %s", log)
	}
	if _, err := pod.handle.LinkByName("eth0"); err == nil {
		t.Error("the pod's interface is left")
	}
}

func (n *node) gc(list *libcni.NetworkConfigList, valid ...*container) error {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, c := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: c.id, IfName: "eth0"})
	}
	return n.call(func(ctx context.Context, cni *libcni.CNIConfig) error { return cni.GCNetworkList(ctx, list, args) })
}

func TestGC(t *testing.T) {
	n := newNode(t)
	list := n.network("1.1.0")
	kept, gone, foreign := n.container(), n.container(), n.container()
	n.mustAdd(list, kept)
	before := n.snapshot()
	n.mustAdd(list, gone)
	// libcni would DEL what it has in its cache; here nobody remembers it.
	if err := os.RemoveAll(n.cacheDir); err != nil {
		t.Fatal(err)
	}
	// A tap whose record was lost, and one of another network.
	stray := n.container()
	n.mustAdd(list, stray)
	n.agent.Forget(stray.key())
	if err := os.RemoveAll(n.cacheDir); err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(n.stdin("1.1.0"), `"name":"pods"`, `"name":"others"`, 1)
	if _, _, err := n.output(n.command("ADD", foreign, other)); err != nil {
		t.Fatal(err)
	}
	if err := n.gc(list, kept); err != nil {
		t.Fatal(err)
	}
	if got := n.agent.Attached(); !slices.Equal(got, sorted(kept.key(), foreign.key())) {
		t.Errorf("attached: %v", got)
	}
	n.wantKernel(kept, 1468)
	n.wantKernel(foreign, 1468)
	for _, c := range []*container{gone, stray} {
		if _, err := c.handle.LinkByName("eth0"); err == nil {
			t.Errorf("%s still has its interface", c.id)
		}
	}
	if _, _, err := n.output(n.command("DEL", foreign, other)); err != nil {
		t.Fatal(err)
	}
	n.wantSame(before)
	if err := n.gc(list); err != nil { // none is valid
		t.Fatal(err)
	}
	if got := n.agent.Attached(); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}

// No list is not an empty list.
func TestGCWithoutList(t *testing.T) {
	n := newNode(t)
	pod := n.container()
	n.mustAdd(n.network("1.1.0"), pod)
	if _, _, err := n.output(n.command("GC", nil, n.stdin("1.1.0"))); err != nil {
		t.Errorf("gc: %v", err)
	}
	n.wantKernel(pod, 1468)
	if _, _, err := n.output(n.command("GC", nil, n.stdin("1.1.0", `"cni.dev/valid-attachments":[{"containerID":"x"}]`))); err == nil {
		t.Error("half an attachment is taken")
	}
	n.wantKernel(pod, 1468)
	if _, _, err := n.output(n.command("GC", nil, n.stdin("1.1.0", `"cni.dev/valid-attachments":null`))); err != nil {
		t.Errorf("gc: %v", err)
	}
	if got := n.agent.Attached(); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}

func TestStatus(t *testing.T) {
	n := newNode(t)
	list := n.network("1.1.0")
	if err := n.status(list); err != nil {
		t.Error(err)
	}
	for _, refusal := range []*rpc.Error{
		{Code: 50, Message: "no block of addresses yet", Fix: "is the controller up?"},
		{Code: 51, Message: "the fast path is down", Fix: "see its log"},
	} {
		n.agent.Refuse(func(*rpc.Request) *rpc.Error { return refusal })
		wantError(t, n.status(list), refusal.Code, refusal.Message, refusal.Fix)
	}
	n.wantQuiet()
}

func sorted(s ...string) []string { slices.Sort(s); return s }

// linkUp is for tests that need a second interface.
func addBridge(h *netlink.Handle, name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
}
