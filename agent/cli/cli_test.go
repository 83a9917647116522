package cli

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/fastpath/control"
)

// Every verb's text, byte for byte.
func TestText(t *testing.T) {
	n := newNode(t).withFastPath(t).withAgent(t)
	for name, args := range map[string][]string{
		"vif":            {"vif"},
		"vif-get":        {"vif", "--get", "3"},
		"vif-get-name":   {"vif", "--get", "tapclient-0123"},
		"nh":             {"nh", "--list"},
		"nh-get":         {"nh", "--get", "40"},
		"nh-get-service": {"nh", "--get", "41"},
		"nh-get-tunnel":  {"nh", "--get", "30"},
		"rt":             {"rt"},
		"rt-dump":        {"rt", "--dump", "2", "--family", "inet"},
		"rt-inet6":       {"rt", "--vrf", "k8s-default-pod-network", "--family", "inet6"},
		"rt-get":         {"rt", "--vrf", "2", "--get", "203.0.113.11"},
		"rt-get-covered": {"rt", "--get", "192.0.2.99", "--vrf", "2"},
		"mpls":           {"mpls", "--dump"},
		"mpls-get":       {"mpls", "--get", "40"},
		"vrf":            {"vrf"},
		"flow":           {"flow", "-l"},
		"flow-match":     {"flow", "--match", "192.0.2.3:*,*:8888 & proto tcp & vrf 2"},
		"flow-get":       {"flow", "--get", "152860"},
		"flow-get-nat":   {"flow", "--get", "16777220"},
		"flow-get-drop":  {"flow", "--get", "7"},
		"dropstats":      {"dropstats"},
		"dropstats-all":  {"dropstats", "--all"},
		"dropstats-core": {"dropstats", "--core", "1"},
		"trace-pod":      {"trace", "--pod", "default/client", "--dst", "203.0.113.10:8888"},
		"trace-tunnel":   {"trace", "--label", "24", "--peer", "198.51.100.2", "--src", "192.0.2.70:4000", "--dst", "203.0.113.10:8888"},
		"vmi":            {"vmi"},
		"vmi-get":        {"vmi", "--get", "default/late"},
		"block":          {"block"},
		"ipam-repair":    {"ipam", "check", "--repair"},
		"version":        {"version"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := n.run(args...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d, stderr %q", code, stderr)
			}
			golden(t, name, stdout)
		})
	}
}

// JSON field names are a promise; YAML says the same.
func TestForms(t *testing.T) {
	n := newNode(t).withFastPath(t).withAgent(t)
	for _, args := range [][]string{
		{"vif", "--get", "3"}, {"nh", "--get", "40"}, {"rt", "--get", "203.0.113.10"}, {"mpls"}, {"vrf"}, {"flow"},
		{"flow", "--get", "152860"}, {"dropstats"}, {"trace", "--vif", "3", "--dst", "192.0.2.4"}, {"vmi"}, {"block"}, {"version"},
	} {
		name := strings.Join(args[:min(2, len(args))], "")
		t.Run(name, func(t *testing.T) {
			asJSON, stderr, code := n.run(append(args, "-o", "json")...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d, stderr %q", code, stderr)
			}
			golden(t, "json-"+name, asJSON)
			asYAML, _, _ := n.run(append(args, "-o", "yaml")...)
			var a, b any
			if err := json.Unmarshal([]byte(asJSON), &a); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(asYAML), &b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("yaml differs from json:\n%s", diff)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for name, c := range map[string]struct {
		node *node
		code int
	}{
		"status-healthy":     {newNode(t).withFastPath(t).withHealthyAgent(t).withCNI(t), 0},
		"status-degraded":    {newNode(t).withFastPath(t).withAgent(t).withCNI(t), ExitUnhealthy}, // the agent has a bad condition
		"status-no-plugin":   {newNode(t).withFastPath(t).withHealthyAgent(t), ExitUnhealthy},
		"status-no-agent":    {newNode(t).withFastPath(t).withCNI(t), ExitUnknown},
		"status-no-fastpath": {newNode(t).withHealthyAgent(t).withCNI(t), ExitUnhealthy},
		"status-none":        {newNode(t), ExitUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, _, code := c.node.run("status")
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			golden(t, name, strings.ReplaceAll(stdout, c.node.dir, "RUNDIR"))
			if out, _, _ := c.node.run("status", "-o", "json"); !json.Valid([]byte(out)) {
				t.Errorf("not JSON: %s", out)
			}
		})
	}
}

// Diagnostics go to stderr, name the cause and choose the exit code.
func TestRefusals(t *testing.T) {
	n := newNode(t).withFastPath(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"flow --match 192.0.2.1:x", ExitUsage, `"x" is not a port`},
		{"flow --match 192.0.2.300", ExitUsage, "is not an IP address"},
		{"flow --get x", ExitUsage, "want a flow index"},
		{"flow --get 99", ExitFailure, "no flow with index 99"},
		{"flow extra", ExitUsage, `unexpected argument "extra"`},
		{"flow --nope", ExitUsage, "nope"},
		{"nh --get 99", ExitFailure, "no next hop 99"},
		{"nh -o xml", ExitUsage, `unknown output form "xml"`},
		{"rt --family bridge", ExitUsage, "want inet or inet6"},
		{"rt --vrf 9", ExitFailure, `no VRF "9"`},
		{"rt --get nowhere", ExitUsage, "neither an address nor a prefix"},
		{"rt --get 2001:db8:ffff::1", ExitFailure, "no route covers"},
		{"mpls --get 99", ExitFailure, "no label 99"},
		{"vif --get 99", ExitFailure, `no vif "99"`},
		{"dropstats --core 2", ExitFailure, "the fast path has 2"},
		{"dropstats --core -1", ExitUsage, "numbered from 0"},
		{"trace --dst 192.0.2.1", ExitUsage, "where does the packet come from"},
		{"trace --vif 3", ExitUsage, "--dst is missing"},
		{"trace --vif 3 --pod a/b --dst 192.0.2.1", ExitUsage, "give one"},
		{"trace --vif 3 --label 20 --dst 192.0.2.1", ExitUsage, "out of a tunnel"},
		{"trace --label 20 --dst 192.0.2.1", ExitUsage, "needs --label, --peer and --src"},
		{"trace --vif 3 --dst 192.0.2.1 --ttl 300", ExitUsage, "at most 255"},
		{"trace --vif 3 --dst 192.0.2.1 --size 70000", ExitUsage, "at most 65535"},
		{"trace --vif 3 --dst 192.0.2.1 --flags X", ExitUsage, "want letters"},
		{"trace --vif 3 --dst nowhere:1", ExitUsage, "want IP:PORT"},
		{"trace --vif 3 --dst 192.0.2.1 --proto nope", ExitUsage, "protocol"},
		{"trace --pod default/nobody --dst 192.0.2.1", ExitFailure, "default/client, default/web1"},
		{"trace --vif 3 --dst 192.0.2.1:5 --proto sctp", ExitFailure, "no IPv6 address"},
		{"vmi", ExitUnreachable, "vragent vmi: the agent does not answer"},
		{"block", ExitUnreachable, "is vragent run running"},
		{"status --nope", ExitUnknown, "vragent status: "},
		{"status -o xml", ExitUnknown, "unknown output form"},
		{"ipam", ExitUsage, "want check"},
		{"ipam mend", ExitUsage, `there is no "mend": want check`},
		{"ipam check extra", ExitUsage, `unexpected argument "extra"`},
		{"ipam check", ExitUnreachable, "vragent ipam check: the agent does not answer"},
		{"nope", ExitUsage, `vragent: there is no command "nope" (see vragent --help)`},
		{"--nope", ExitUsage, "not defined: -nope"},
		{"completion", ExitUsage, "bash, zsh, fish"},
		{"completion tcsh", ExitUsage, "tcsh"},
	} {
		t.Run(c.args, func(t *testing.T) {
			stdout, stderr, code := n.run(strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
				t.Errorf("exit %d (want %d), stdout %q, stderr %q lacks %q", code, c.code, stdout, stderr, c.want)
			}
		})
	}
}

// With the fast path down every data-plane verb says so and exits with 4.
func TestUnreachable(t *testing.T) {
	n := newNode(t)
	for _, args := range []string{"vif", "nh", "rt", "mpls", "vrf", "flow", "dropstats", "trace --vif 1 --dst 192.0.2.1"} {
		_, stderr, code := n.run(strings.Fields(args)...)
		if code != ExitUnreachable || !strings.Contains(stderr, n.dir+"/fastpath.sock") || !strings.Contains(stderr, "vragent fastpath") {
			t.Errorf("%s: exit %d, stderr %q", args, code, stderr)
		}
	}
}

func TestParseMatch(t *testing.T) {
	port := func(a string, p uint16) netip.AddrPort { return netip.AddrPortFrom(addr(a), p) }
	for in, want := range map[string]control.FlowQuery{
		"192.0.2.1:80":                 {A: port("192.0.2.1", 80)},
		"192.0.2.1":                    {A: port("192.0.2.1", 0)},
		"192.0.2.1:*":                  {A: port("192.0.2.1", 0)},
		"*:80":                         {A: port("0.0.0.0", 80)},
		"[*]:*":                        {},
		"*":                            {},
		"*:*, 192.0.2.2:8888":          {B: port("192.0.2.2", 8888)},
		"[2001:db8::1]:53,2001:db8::2": {A: port("2001:db8::1", 53), B: port("2001:db8::2", 0)},
		"192.0.2.1:1& proto udp":       {A: port("192.0.2.1", 1), Proto: 17},
		"proto icmp6 & vrf 3":          {Proto: 58, VRF: 3},
		"* & proto 47":                 {Proto: 47},
	} {
		got, err := parseMatch(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "192.0.2.1:70000", "192.0.2.1 & proto nope", "192.0.2.1 & vrf x", "192.0.2.1 & colour red"} {
		if got, err := parseMatch(in); err == nil {
			t.Errorf("%q accepted as %+v", in, got)
		}
	}
}

// The scripts are what the shells accept, and complete verbs and flags.
func TestCompletion(t *testing.T) {
	n := newNode(t)
	bash, _, code := n.run("completion", "bash")
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	out, err := exec.Command("bash", "-c", bash+`
COMP_WORDS=(vragent dr); COMP_CWORD=1; _vragent; echo "${COMPREPLY[@]}"
COMP_WORDS=(vragent flow --ma); COMP_CWORD=2; _vragent; echo "${COMPREPLY[@]}"`).CombinedOutput()
	if err != nil || string(out) != "dropstats\n--match\n" {
		t.Errorf("bash: %v, %q", err, out)
	}
	for _, shell := range []string{"zsh", "fish"} {
		if script, _, _ := n.run("completion", shell); !strings.Contains(script, "dropstats") {
			t.Errorf("%s: %q", shell, script)
		}
	}
}

// The exit code of ipam check says whether something is left to do.
func TestIPAMCheck(t *testing.T) {
	for name, c := range map[string]struct {
		node *node
		args []string
		code int
	}{
		"ipam-check":  {newNode(t).withAgent(t), []string{"ipam", "check"}, ExitDegraded},
		"ipam-repair": {newNode(t).withAgent(t), []string{"ipam", "check", "--repair"}, 0},
		"ipam-clean":  {newNode(t).withHealthyAgent(t), []string{"ipam", "check"}, 0},
	} {
		stdout, stderr, code := c.node.run(c.args...)
		if code != c.code || stderr != "" {
			t.Errorf("%s: exit %d, stderr %q", name, code, stderr)
		}
		golden(t, name, stdout)
	}
}
