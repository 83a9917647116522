package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
)

func command(t *testing.T, p Program, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	p.Out, p.Version = &out, "1.2.3"
	err := App(p).RunContext(context.Background(), append([]string{"vrcontroller"}, args...))
	return out.String(), err
}

// controller answers with fixed texts.
func controller(t *testing.T, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, known := answers[r.URL.Path]
		if !known {
			http.Error(w, `{"error":"there is nothing"}`, http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(a))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

const page = `{"routing-instances": [
  {"fq_name": ["d", "p", "pods", "pods"], "uuid": "u1", "virtual_network": "pods", "tables": [
    {"name": "d:p:pods:pods.inet.0", "routes": [
      {"prefix": "198.51.100.0/26", "kind": "block", "paths": [{"source": "n1", "next_hop": "192.0.2.1", "label": 16, "tunnel_encap": ["udp"]}]},
      {"prefix": "203.0.113.10/32", "kind": "floating-ip", "loadbalancer": "demo-web", "paths": [
        {"source": "n1", "next_hop": "192.0.2.1", "label": 17, "tunnel_encap": ["udp"], "members": [{"pod": "demo/a", "label": 20}, {"pod": "demo/b", "label": 21}]},
        {"source": "n2", "next_hop": "192.0.2.2", "label": 18, "tunnel_encap": ["udp"], "members": [{"pod": "demo/c", "label": 22}], "stale": true}]}]},
    {"name": "d:p:pods:pods.inet6.0", "routes": []}]},
  {"fq_name": ["d", "p", "services", "services"], "uuid": "u2", "virtual_network": "services", "tables": []}]}`

func TestRoutes(t *testing.T) {
	url := controller(t, map[string]string{"/routing-instances": page})
	got, err := command(t, Program{}, "routes", "--api", url)
	want := `Routing instance d:p:pods:pods

d:p:pods:pods.inet.0
Prefix           Kind                  Source      Next hop   Label  Encap  Members
198.51.100.0/26  block                 n1          192.0.2.1  16     udp    
203.0.113.10/32  floating-ip demo-web  n1          192.0.2.1  17     udp    demo/a(20) demo/b(21)
                                       n2 (stale)  192.0.2.2  18     udp    demo/c(22)

Routing instance d:p:services:services
  no routes
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	for _, vrf := range []string{"services", "d:p:services:services"} {
		if got, err := command(t, Program{}, "routes", "--api", strings.TrimPrefix(url, "http://"), "--vrf", vrf); err != nil || !strings.HasPrefix(got, "Routing instance d:p:services") {
			t.Error(got, err)
		}
	}
	var fromJSON, fromYAML []routingInstance
	j, err := command(t, Program{}, "routes", "--api", url, "-o", "json")
	if err != nil || json.Unmarshal([]byte(j), &fromJSON) != nil || len(fromJSON) != 2 {
		t.Error(j, err)
	}
	y, err := command(t, Program{}, "routes", "--api", url, "-o", "yaml")
	if err != nil || yaml.UnmarshalStrict([]byte(y), &fromYAML) != nil || len(fromYAML) != 2 || strings.Contains(y, "{") {
		t.Error(y, err)
	}
}

func TestStatus(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := &api.Status{
		Version: "1.2.3", Cluster: "k8s", State: "running", Manifests: "/etc/vragent/manifests",
		Counts: api.Counts{VirtualNetworks: 2, VirtualInterfaces: 6, LoadBalancers: 2, Members: 7},
		Leases: make([]api.Lease, 4),
		Agents: []api.Agent{
			{Node: "n1", State: "connected", TunnelAddress: "192.0.2.1", VMIs: 3, Routes: 4, Since: now.Add(-90 * time.Second), AgentVersion: "1.2.3", Refusals: []string{"TYPE_ROUTE x: no"}},
			{Node: "n2", State: "absent"},
		},
		Problems: []api.Problem{{Object: "Service demo/b", Problem: "has no clusterIP"}},
	}
	s.Judge("")
	var out bytes.Buffer
	printStatus(&out, s, now)
	want := `vrcontroller 1.2.3  cluster k8s  running  NOT HEALTHY
manifests /etc/vragent/manifests
2 virtual networks, 6 virtual machine interfaces, 2 load balancers, 7 members, 4 blocks leased

Node  State      Tunnel     VMIs  Routes  Pending  Since  Agent
n1    connected  192.0.2.1  3     4       0        1m30s  1.2.3
n2    absent     -          0     0       0        -      -

problems (3):
  Node n1: refuses TYPE_ROUTE x: no
    → look at its vragent: systemctl status vragent
  Node n2: no agent has connected
    → look at its vragent: systemctl status vragent
  Service demo/b: has no clusterIP
`
	if out.String() != want {
		t.Error(out.String())
	}
	out.Reset()
	printStatus(&out, &api.Status{Version: "1", Cluster: "k8s", State: "running", Healthy: true, APIServer: &api.APIServer{
		Address: "https://192.0.2.1:6443", Connected: true, Since: now.Add(-time.Hour),
		Leader: api.Leader{Name: "vrcontroller-x", Self: true, Since: now.Add(-time.Minute)},
	}}, now)
	want = `vrcontroller 1  cluster k8s  running  healthy
API server https://192.0.2.1:6443  connected since 1h0m0s
leader vrcontroller-x (this replica) since 1m0s
`
	if !strings.HasPrefix(out.String(), want) || !strings.HasSuffix(out.String(), "\nno problems\n") {
		t.Error(out.String())
	}
}

func TestIPAMCheck(t *testing.T) {
	found := `{"blocks": 4, "findings": [
		{"object": "Node gone", "problem": "is not in the cluster and holds 198.51.100.0/26", "fix": "repair", "leak": true, "release": ["198.51.100.0/26"]},
		{"object": "Pod a/b", "problem": "has 198.51.100.9, which Pod a/c has too", "fix": "delete one of them"}]}`
	well := controller(t, map[string]string{"/ipam": `{"blocks": 4, "findings": []}`})
	if out, err := command(t, Program{}, "ipam", "check", "--api", well); err != nil || out != "4 blocks leased, nothing found\n" {
		t.Error(out, err)
	}
	ill := controller(t, map[string]string{"/ipam": found, "/ipam/repair": found})
	out, err := command(t, Program{}, "ipam", "check", "--api", ill)
	want := `leak: Node gone: is not in the cluster and holds 198.51.100.0/26
  → repair
Pod a/b: has 198.51.100.9, which Pod a/c has too
  → delete one of them
2 faults found; --repair would give back 1 block
`
	if out != want || ExitCode(err) != ExitUnhealthy || err.Error() != "" {
		t.Error(out, err)
	}
	out, err = command(t, Program{}, "ipam", "check", "--api", ill, "--repair")
	if !strings.HasSuffix(out, "2 faults found; the leader gives back 1 block now\n") || ExitCode(err) != ExitUnhealthy {
		t.Error(out, err)
	}
	out, err = command(t, Program{}, "ipam", "check", "--api", well, "--repair")
	if ExitCode(err) != ExitUnknown || !strings.Contains(err.Error(), "vrcontroller ipam check: the controller answers 404") {
		t.Error(out, err)
	}
	var page api.IPAM
	if out, _ = command(t, Program{}, "ipam", "check", "--api", ill, "-o", "json"); json.Unmarshal([]byte(out), &page) != nil || len(page.Findings) != 2 {
		t.Error(out)
	}
}

func TestMistakes(t *testing.T) {
	url := controller(t, map[string]string{"/routing-instances": page, "/status": "no JSON"})
	for _, x := range []struct {
		code int
		want string
		args []string
	}{
		{ExitUsage, `vrcontroller routes: output "xml" is unknown: want table, json or yaml (see vrcontroller routes --help)`, []string{"routes", "-o", "xml"}},
		{ExitFailure, `vrcontroller routes: no routing instance "x"; there are pods, services`, []string{"routes", "--api", url, "--vrf", "x"}},
		{ExitUnknown, "vrcontroller status: the controller does not answer on http://127.0.0.1:1: dial", []string{"status", "--api", "127.0.0.1:1"}},
		{ExitUnreachable, "is vrcontroller run running there? If its API is elsewhere, say --api URL", []string{"routes", "--api", "127.0.0.1:1"}},
		{ExitUnknown, "is no URL", []string{"status", "--api", "ftp://192.0.2.1"}},
		{ExitFailure, "the controller's answer to /status", []string{"status", "--api", url}},
		{ExitFailure, "404 Not Found", []string{"routes", "--api", url + "/elsewhere"}},
		{ExitUnknown, "vrcontroller status: flag provided but not defined: -nope (see", []string{"status", "--nope"}},
		{ExitUnknown, "vrcontroller ipam check: flag provided but not defined: -nope (see", []string{"ipam", "check", "--nope"}},
		{ExitUnknown, "vrcontroller ipam check: the controller does not answer", []string{"ipam", "check", "--api", "127.0.0.1:1"}},
		{ExitUsage, `vrcontroller ipam: there is no command "chek"`, []string{"ipam", "chek"}},
		{ExitUnknown, `"more" is not expected here (see vrcontroller status --help)`, []string{"status", "more"}},
		{ExitFailure, "no such file", []string{"run", "--config", "/nonexistent"}},
		{ExitUsage, "nothing to make", []string{"certs"}},
		{ExitUsage, "give one directory", []string{"validate"}},
		{ExitUsage, "vrcontroller completion: want one of bash|zsh|fish", []string{"completion"}},
		{ExitUsage, `completion for "tcsh" is unknown`, []string{"completion", "tcsh"}},
		{ExitUsage, "vrcontroller certs: flag provided but not defined: -nod (see vrcontroller certs --help)", []string{"certs", "--nod", "n1"}},
		{ExitUsage, `vrcontroller: there is no command "nope" (see vrcontroller --help)`, []string{"nope"}},
		{ExitUsage, "vrcontroller: flag provided but not defined: -nope", []string{"--nope"}},
	} {
		if out, err := command(t, Program{}, x.args...); err == nil || !strings.Contains(err.Error(), x.want) || ExitCode(err) != x.code {
			t.Errorf("%v: exit %d, want %d: %v\n%s", x.args, ExitCode(err), x.code, err, out)
		}
	}
}

// The exit code of status says whether somebody should look.
func TestStatusExitCode(t *testing.T) {
	for text, want := range map[string]int{
		`{"healthy": true, "notices": [{"object": "Service demo/x", "problem": "y"}]}`:   0,
		`{"healthy": false, "problems": [{"object": "Service demo/x", "problem": "y"}]}`: ExitUnhealthy,
	} {
		url := controller(t, map[string]string{"/status": text})
		for _, form := range []string{"table", "json"} {
			out, err := command(t, Program{}, "status", "--api", url, "-o", form)
			if ExitCode(err) != want || out == "" || err != nil && err.Error() != "" {
				t.Errorf("%s: exit %d, want %d: %v\n%s", text, ExitCode(err), want, err, out)
			}
		}
	}
	if help, err := command(t, Program{}, "status", "--help"); err != nil || !strings.Contains(help, "2 when there is a problem") {
		t.Error(help, err)
	}
}

func TestRunHandsOverTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("cluster: other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var got *conf.Controller
	run := func(_ context.Context, c *conf.Controller) error { got = c; return enough }
	if _, err := command(t, Program{Run: run}, "run", "--config", file); !errors.Is(err, enough) || got.Cluster != "other" {
		t.Error(got, err)
	}
}

func TestTheConfiguredAPIIsAsked(t *testing.T) {
	url := controller(t, map[string]string{"/routing-instances": page})
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: {api: \"0.0.0.0:"+port+"\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t, Program{}, "routes", "--config", file); err != nil {
		t.Error(err)
	}
	t.Setenv("VRCONTROLLER_API", url)
	if _, err := command(t, Program{}, "routes", "--config", "/nonexistent"); err != nil {
		t.Error(err)
	}
}

func TestCertsThenValidate(t *testing.T) {
	dir := t.TempDir()
	out, err := command(t, Program{}, "certs", "--dir", dir, "--controller-address", "192.0.2.10,controller.example", "--node", "n1", "--node", "n2")
	if err != nil || strings.Count(out, "made ") != 4 {
		t.Error(out, err)
	}
	out, err = command(t, Program{}, "certs", "--dir", dir, "--node", "n1")
	if err != nil || strings.Count(out, "kept ") != 2 {
		t.Error(out, err)
	}
	out, err = command(t, Program{}, "validate", filepath.Join("..", "..", "conf", "examples", "demo"))
	if err != nil || !strings.Contains(out, "2 nodes, 6 pods (6 with an interface)") {
		t.Error(out, err)
	}
	bad := t.TempDir()
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n"
	if err := os.WriteFile(filepath.Join(bad, "a.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err = command(t, Program{}, "validate", bad)
	if err == nil || !strings.Contains(out, "Service default/web: has no clusterIP") {
		t.Error(out, err)
	}
}

func TestValidateOfNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "README.md")
	if err := os.WriteFile(file, []byte("not ours"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                        "no manifests in " + dir,
		file:                       "is a file, not a directory",
		filepath.Join(dir, "none"): "no such file or directory",
	} {
		out, err := command(t, Program{}, "validate", path)
		if ExitCode(err) != ExitFailure || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "in force") || out != "" {
			t.Errorf("%s: %q %v", path, out, err)
		}
	}
}

// What is not implemented yet is said, and is no mistake.
func TestValidateWarns(t *testing.T) {
	dir := t.TempDir()
	text := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: demo}\nspec: {podSelector: {}}\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, Program{}, "validate", dir)
	if err != nil || !strings.Contains(out, "\nwarning: NetworkPolicy demo/deny: is not enforced yet") {
		t.Error(out, err)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	if out, err := command(t, Program{}, "version"); err != nil || out != "vrcontroller 1.2.3\n" {
		t.Error(out, err)
	}
	for shell, want := range map[string]string{"bash": "complete ", "zsh": "#compdef vrcontroller", "fish": "complete -c vrcontroller"} {
		if out, err := command(t, Program{}, "completion", shell); err != nil || !strings.Contains(out, want) {
			t.Error(out, err)
		}
	}
}
