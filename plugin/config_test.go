package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/vragent/vragent/agent/rpc"
)

func replaceAll(s, from, to string) string { return strings.ReplaceAll(s, from, to) }

func TestVersion(t *testing.T) {
	n := newNode(t)
	out, _, err := n.output(n.command("VERSION", nil, ""))
	var v struct{ SupportedVersions []string }
	if json.Unmarshal([]byte(out), &v) != nil || err != nil || strings.Join(v.SupportedVersions, " ") != "0.4.0 1.0.0 1.1.0" {
		t.Errorf("got %s, %v", out, err)
	}
}

// Bad input gets an error that says what is wrong, and touches nothing.
func TestBadInput(t *testing.T) {
	n := newNode(t)
	pod := n.container()
	good := n.stdin("1.1.0")
	with := func(key string) string { return n.stdin("1.1.0", key) }
	env := func(verb, from, to string) *exec.Cmd {
		c := n.command(verb, pod, good)
		for i := range c.Env {
			c.Env[i] = strings.Replace(c.Env[i], from, to, 1)
		}
		return c
	}
	before := n.snapshot()
	for name, row := range map[string]struct {
		command *exec.Cmd
		code    uint
		want    string
	}{
		"truncated":             {n.command("ADD", pod, good[:len(good)/2]), types.ErrDecodingFailure, "unexpected end of JSON"},
		"empty":                 {n.command("ADD", pod, ""), types.ErrDecodingFailure, ""},
		"unknown key":           {n.command("ADD", pod, with(`"mtuu":1`)), 7, "mtuu: unknown key (did you mean mtu?)"},
		"unknown key at DEL":    {n.command("DEL", pod, with(`"colour":1`)), 7, "colour: unknown key"},
		"unknown key at STATUS": {n.command("STATUS", nil, with(`"colour":1`)), 7, "colour: unknown key"},
		"key twice":             {n.command("ADD", pod, with(`"mtu":1400,"mtu":1400`)), 7, "mtu: is given twice"},
		"wrong type":            {n.command("ADD", pod, with(`"mtu":"big"`)), 7, `mtu: is the text "big", must be a number`},
		"ipam":                  {n.command("ADD", pod, with(`"ipam":{"type":"host-local"}`)), 7, "ipam.type: host-local cannot be used"},
		"small MTU":             {n.command("ADD", pod, with(`"mtu":100`)), 7, "mtu: 100 is not between 1280 and 65535"},
		"large MTU":             {n.command("ADD", pod, with(`"mtu":9000`)), 7, "mtu 9000 is more than the 1468 bytes the fabric carries"},
		"prevResult":            {n.command("ADD", pod, with(`"prevResult":{"cniVersion":"1.1.0"}`)), 7, "put vrouter first"},
		"old version":           {n.command("ADD", pod, n.stdin("0.3.1")), types.ErrIncompatibleCNIVersion, "incompatible CNI versions"},
		"GC in an old version":  {n.command("GC", nil, n.stdin("1.0.0")), types.ErrIncompatibleCNIVersion, "does not allow GC"},
		"no pod":                {env("ADD", "K8S_POD_NAME=", "OTHER="), types.ErrInvalidEnvironmentVariables, "CNI_ARGS names no pod"},
		"strange argument":      {env("ADD", "IgnoreUnknown=1", "IgnoreUnknown=0;X=1"), types.ErrInvalidEnvironmentVariables, "CNI_ARGS"},
		"missing netns":         {env("ADD", "CNI_NETNS=", "CNI_NETNS=/nonexistent"), 8, "is no usable network namespace: it does not exist"},
		"netns is a file":       {env("ADD", "CNI_NETNS="+pod.path, "CNI_NETNS=/etc/passwd"), 8, "/etc/passwd is no usable network namespace: it is another kind of file"},
		"the node's own netns":  {env("ADD", "CNI_NETNS="+pod.path, "CNI_NETNS="+n.path), 8, "it is the plugin's own"},
		"no container id":       {env("ADD", "CNI_CONTAINERID="+pod.id, "X="), types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID"},
		"evil container id":     {env("ADD", "CNI_CONTAINERID=", "CNI_CONTAINERID=../../"), types.ErrInvalidEnvironmentVariables, ""},
		"long interface name":   {env("ADD", "CNI_IFNAME=eth0", "CNI_IFNAME=abcdefghijklmnop"), types.ErrInvalidEnvironmentVariables, ""},
		"long container id":     {env("ADD", pod.id, strings.Repeat("x", 250)), types.ErrInternal, "longer than an interface's alias can hold"},
		"unknown verb":          {env("REPAIR", "", ""), types.ErrInvalidEnvironmentVariables, "REPAIR"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := n.output(row.command)
			wantError(t, err, row.code, row.want)
			n.wantSame(before)
		})
	}
}

// A log that cannot be written is no reason to leave a pod without network.
func TestLog(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	n.mustAdd(list, pod)
	if err := n.del(list, pod); err != nil {
		t.Fatal(err)
	}
	n.agent.Refuse(func(*rpc.Request) *rpc.Error { return &rpc.Error{Code: 11, Message: "not now"} })
	_, _ = n.add(list, pod)
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"msg=attached verb=ADD container=" + pod.id, "tap=tap00000000001", "msg=done verb=DEL",
		"level=ERROR msg=\"attach pod default/" + pod.id + ": not now\" verb=ADD"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("log does not say %q:\n%s", want, log)
		}
	}
	if info, _ := os.Stat(n.logFile); info.Mode().Perm() != 0o600 {
		t.Errorf("log has mode %v", info.Mode())
	}
	n.wantQuiet()
	n.agent.Refuse(nil)
	n.logFile = "/nonexistent/vrouter.log"
	n.mustAdd(n.network("1.1.0"), pod)
	if got := n.stderr.String(); !strings.Contains(got, "warning: open log: open /nonexistent/vrouter.log") {
		t.Errorf("standard error: %q", got)
	}
}

// cnitool, the reference runtime, runs all verbs.
func (n *node) wantLife(conflist string) {
	n.t.Helper()
	dir := n.t.TempDir()
	// cnitool remembers attachments in /var/lib/cni, by the network's name.
	name := "cnitool-" + n.name
	conflist = strings.Replace(conflist, `"name": "vrouter"`, `"name": "`+name+`"`, 1)
	if err := os.WriteFile(filepath.Join(dir, "10-vrouter.conflist"), []byte(conflist), 0o600); err != nil {
		n.t.Fatal(err)
	}
	pod := n.container()
	before := n.snapshot()
	for _, step := range []struct {
		verb   string
		failed string // empty: succeeds
	}{{"status", ""}, {"add", ""}, {"check", ""}, {"gc", ""}, {"check", "missing"}, {"del", ""}, {"del", ""}, {"gc", ""}} {
		tool := exec.Command(filepath.Join(binDir, "cnitool"), step.verb, name, pod.path)
		tool.Env = []string{"CNI_PATH=" + binDir, "NETCONFPATH=" + dir, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
		var text []byte
		err := n.within(func() (err error) { text, err = tool.CombinedOutput(); return err })
		if (err != nil) != (step.failed != "") || !strings.Contains(string(text), step.failed) {
			n.t.Errorf("cnitool %s: %v: %s", step.verb, err, text)
		}
	}
	n.wantSame(before)
}
