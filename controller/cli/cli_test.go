package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	var out bytes.Buffer
	printStatus(&out, s, now)
	want := `vrcontroller 1.2.3  cluster k8s  running
manifests /etc/vragent/manifests
2 virtual networks, 6 virtual machine interfaces, 2 load balancers, 7 members, 4 blocks leased

Node  State      Tunnel     VMIs  Routes  Pending  Since  Agent
n1    connected  192.0.2.1  3     4       0        1m30s  1.2.3
n2    absent     -          0     0       0        -      -
n1 refuses TYPE_ROUTE x: no

problems (1):
  Service demo/b: has no clusterIP
`
	if out.String() != want {
		t.Error(out.String())
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
		{ExitUnreachable, "vrcontroller status: the controller does not answer on http://127.0.0.1:1: dial", []string{"status", "--api", "127.0.0.1:1"}},
		{ExitUnreachable, "is vrcontroller run running there? If its API is elsewhere, say --api URL", []string{"routes", "--api", "127.0.0.1:1"}},
		{ExitUsage, "is no URL", []string{"status", "--api", "ftp://192.0.2.1"}},
		{ExitFailure, "the controller's answer to /status", []string{"status", "--api", url}},
		{ExitFailure, "404 Not Found", []string{"routes", "--api", url + "/elsewhere"}},
		{ExitUsage, `"more" is not expected here (see vrcontroller status --help)`, []string{"status", "more"}},
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
		`{"agents": [{"node": "n1", "state": "connected"}, {"node": "n2", "state": "replaying"}], "notices": [{"object": "Service demo/x", "problem": "y"}]}`: 0,
		`{"problems": [{"object": "Service demo/x", "problem": "y"}]}`:                                                                                        ExitDegraded,
		`{"agents": [{"node": "n1", "state": "absent"}]}`:                                                                                                     ExitDegraded,
		`{"agents": [{"node": "n1", "state": "connected", "refusals": ["TYPE_NODE x"]}]}`:                                                                     ExitDegraded,
	} {
		url := controller(t, map[string]string{"/status": text})
		for _, form := range []string{"table", "json"} {
			out, err := command(t, Program{}, "status", "--api", url, "-o", form)
			if ExitCode(err) != want || out == "" || err != nil && err.Error() != "" {
				t.Errorf("%s: exit %d, want %d: %v\n%s", text, ExitCode(err), want, err, out)
			}
		}
	}
	if help, err := command(t, Program{}, "status", "--help"); err != nil || !strings.Contains(help, "3 when there is a problem") {
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
	text := ""
	for i, spec := range []string{"type: LoadBalancer", "type: NodePort", "externalIPs: [192.0.2.9]", "type: NodePort, externalIPs: [192.0.2.9]", "type: ClusterIP"} {
		text += fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: demo}\nspec: {clusterIP: 10.96.0.%d, %s, ports: [{port: 80}]}\n", i, i+1, spec)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, Program{}, "validate", dir)
	want := `0 namespaces, 0 nodes, 0 pods (0 with an interface), 5 services (5 with a load balancer), 0 endpoint slices
warning: Service demo/s0: type LoadBalancer: only its clusterIP is served; external addresses are not implemented yet
warning: Service demo/s1: type NodePort: only its clusterIP is served; node ports are not implemented yet
warning: Service demo/s2: externalIPs: only its clusterIP is served; external addresses are not implemented yet
warning: Service demo/s3: type NodePort, externalIPs: only its clusterIP is served; node ports and external addresses are not implemented yet
`
	if err != nil || out != want {
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
