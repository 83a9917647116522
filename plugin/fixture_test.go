package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/plugin/agenttest"
)

// binDir holds the real programs, built once by TestMain.
var binDir string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vrouter-plugin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	for out, pkg := range map[string]string{"vrouter": ".", "cnitool": "github.com/containernetworking/cni/cnitool"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, out), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
			return 1
		}
	}
	return m.Run()
}

// node is a namespace in which the plugin runs, with an agent beside it.
type node struct {
	t     *testing.T
	agent *agenttest.Agent
	space
	runDir, cacheDir, logFile string
	wait                      int // seconds, of ADD

	lock   sync.Mutex
	stderr bytes.Buffer // of plugins that succeeded
}

// space is a network namespace.
type space struct {
	name   string
	path   string
	ns     netns.NsHandle
	handle *netlink.Handle
}

var spaces atomic.Int32

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	dir := t.TempDir()
	n := &node{t: t, agent: agenttest.New(), space: newSpace(t, "node"), runDir: filepath.Join(dir, "run"),
		cacheDir: filepath.Join(dir, "cache"), logFile: filepath.Join(dir, "vrouter.log"), wait: 1}
	if err := os.Mkdir(n.runDir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.startAgent()
	t.Cleanup(n.agent.Stop)
	return n
}

func (n *node) startAgent() {
	n.t.Helper()
	if err := n.agent.Serve(n.runDir); err != nil {
		n.t.Fatal(err)
	}
}

func newSpace(t *testing.T, kind string) space {
	t.Helper()
	s := space{name: fmt.Sprintf("plugin-%d-%s%d", os.Getpid(), kind, spaces.Add(1))}
	s.path = "/run/netns/" + s.name
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	back, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	s.ns, err = netns.NewNamed(s.name)
	if err == nil {
		t.Cleanup(s.remove)
		s.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err := errors.Join(err, netns.Set(back)); err != nil {
		t.Fatal(err)
	}
	return s
}

// remove may be called twice.
func (s *space) remove() {
	if s.handle != nil {
		s.handle.Close()
	}
	if s.ns.IsOpen() {
		_ = s.ns.Close()
	}
	_ = netns.DeleteNamed(s.name)
}

// within runs f on a thread that is in the namespace; children inherit it.
func (s *space) within(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	back, err := netns.Get()
	if err != nil {
		return err
	}
	defer back.Close()
	if err := netns.Set(s.ns); err != nil {
		return err
	}
	return errors.Join(f(), netns.Set(back))
}

// container is a pod's sandbox.
type container struct {
	id string
	space
}

func (n *node) container() *container {
	s := newSpace(n.t, "pod")
	return &container{id: "ctr-" + s.name, space: s}
}

func (c *container) key() string { return c.id + "/eth0" }

// network is a conflist of a version; more are further keys of our entry.
func (n *node) network(version string, more ...string) *libcni.NetworkConfigList {
	n.t.Helper()
	entry := fmt.Sprintf(`"type":"vrouter","runDir":%q,"logFile":%q,"logLevel":"debug","waitSeconds":%d`, n.runDir, n.logFile, n.wait)
	for _, key := range more {
		entry += "," + key
	}
	list, err := libcni.ConfListFromBytes(fmt.Appendf(nil, `{"cniVersion":%q,"name":"pods","plugins":[{%s}]}`, version, entry))
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

func (n *node) runtimeConf(c *container) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: c.id, NetNS: c.path, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", c.id}, {"K8S_POD_INFRA_CONTAINER_ID", c.id}},
	}
}

// call runs f with libcni in the node's namespace and keeps what plugins print
// to standard error.
func (n *node) call(f func(ctx context.Context, cni *libcni.CNIConfig) error) error {
	var stderr bytes.Buffer
	cni := libcni.NewCNIConfigWithCacheDir([]string{binDir}, n.cacheDir, &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: &stderr}})
	err := n.within(func() error { return f(n.t.Context(), cni) })
	n.lock.Lock()
	defer n.lock.Unlock()
	_, _ = n.stderr.Write(stderr.Bytes())
	return err
}

func (n *node) add(list *libcni.NetworkConfigList, c *container) (result types.Result, err error) {
	err = n.call(func(ctx context.Context, cni *libcni.CNIConfig) error {
		result, err = cni.AddNetworkList(ctx, list, n.runtimeConf(c))
		return err
	})
	return result, err
}

func (n *node) mustAdd(list *libcni.NetworkConfigList, c *container) *current.Result {
	n.t.Helper()
	result, err := n.add(list, c)
	if err != nil {
		n.t.Fatalf("add: %v", err)
	}
	r, err := current.NewResultFromResult(result)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

func (n *node) del(list *libcni.NetworkConfigList, c *container) error {
	return n.call(func(ctx context.Context, cni *libcni.CNIConfig) error {
		return cni.DelNetworkList(ctx, list, n.runtimeConf(c))
	})
}

func (n *node) check(list *libcni.NetworkConfigList, c *container) error {
	return n.call(func(ctx context.Context, cni *libcni.CNIConfig) error {
		return cni.CheckNetworkList(ctx, list, n.runtimeConf(c))
	})
}

func (n *node) status(list *libcni.NetworkConfigList) error {
	return n.call(func(ctx context.Context, cni *libcni.CNIConfig) error { return cni.GetStatusNetworkList(ctx, list) })
}

// command is the plugin without libcni; the caller runs it within the node.
func (n *node) command(verb string, c *container, stdin string) *exec.Cmd {
	plugin := exec.Command(filepath.Join(binDir, "vrouter"))
	plugin.Env = []string{"CNI_PATH=" + binDir, "CNI_COMMAND=" + verb}
	if c != nil {
		plugin.Env = append(plugin.Env, "CNI_CONTAINERID="+c.id, "CNI_NETNS="+c.path, "CNI_IFNAME=eth0",
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+c.id)
	}
	plugin.Stdin = strings.NewReader(stdin)
	return plugin
}

// stdin is a plugin's configuration as libcni would send it; more are further keys.
func (n *node) stdin(version string, more ...string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"pods","type":"vrouter","runDir":%q,"logFile":%q,"waitSeconds":1%s}`,
		version, n.runDir, n.logFile, strings.Join(append([]string{""}, more...), ","))
}

// output runs the command and returns what it printed; failure is the error it
// printed as JSON, if it failed.
func (n *node) output(plugin *exec.Cmd) (stdout, stderr string, failure error) {
	n.t.Helper()
	var out, errOut bytes.Buffer
	plugin.Stdout, plugin.Stderr = &out, &errOut
	if n.within(plugin.Run) != nil {
		known := &types.Error{}
		if err := json.Unmarshal(out.Bytes(), known); err != nil {
			n.t.Fatalf("the plugin failed without an error in JSON: %q %q", out.String(), errOut.String())
		}
		failure = known
	}
	return out.String(), errOut.String(), failure
}

// wantError holds an error against its CNI code and parts of its message.
func wantError(t *testing.T, err error, code uint, parts ...string) {
	t.Helper()
	known, ok := errors.AsType[*types.Error](err)
	if !ok {
		t.Fatalf("got %v, want a CNI error %d", err, code)
	}
	if known.Code != code {
		t.Errorf("code %d, want %d: %v", known.Code, code, known)
	}
	for _, part := range parts {
		if !strings.Contains(known.Error(), part) {
			t.Errorf("error %q does not say %q", known.Error(), part)
		}
	}
}

// snapshot is all that a pod could leave behind on the node.
func (n *node) snapshot() string {
	n.t.Helper()
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	links, err := n.handle.LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		flags := strings.ReplaceAll(a.Flags.String(), "|running", "") // the carrier comes up by itself
		add("link %s %s mtu %d alias %q", a.Name, flags, a.MTU, a.Alias)
	}
	addrs, err := n.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, a := range addrs {
		add("address %v", a)
	}
	routes, err := n.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range routes {
		add("route %v", r)
	}
	_ = filepath.WalkDir(n.runDir, func(path string, d os.DirEntry, err error) error {
		if d != nil && !d.IsDir() {
			add("file %s", strings.TrimPrefix(path, n.runDir))
		}
		return nil
	})
	for _, key := range n.agent.Attached() {
		add("attachment %s", key)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// wantSame compares snapshots.
func (n *node) wantSame(before string) {
	n.t.Helper()
	if after := n.snapshot(); after != before {
		n.t.Errorf("left behind:\n--- before\n%s\n--- after\n%s", before, after)
	}
}

// wantQuiet: a plugin that succeeded has said nothing.
func (n *node) wantQuiet() {
	n.t.Helper()
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.stderr.Len() > 0 {
		n.t.Errorf("standard error: %s", n.stderr.String())
	}
}
