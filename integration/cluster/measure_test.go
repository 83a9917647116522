package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
)

// How long a change of endpoints takes to reach the data plane, with 200
// services: from before the EndpointSlice is posted until a node's own connection
// to the service is accepted.
func TestEndpointLatency(t *testing.T) {
	const services, changes = 200, 100
	namespace(t, "latency")
	toolPod(t, "latency", "backend-1", "node1")
	toolPod(t, "latency", "backend-2", "node2")
	backends := pods(t, "latency", "tool=yes")
	var all strings.Builder
	for i := range services {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: latency}\nspec: {ports: [{port: 80}]}\n", i)
	}
	apply(t, all.String())
	api := apiSocket(t)
	var took []time.Duration
	for i := range changes {
		service, p := fmt.Sprintf("s%d", i*services/changes), backends[i%2]
		vip := net.JoinHostPort(clusterIP(t, "latency", service), "80")
		within(t, 10*time.Second, "the service is known", func() error {
			if err := connect(t, "node1", vip); !errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("%s without endpoints: %w, want a refusal", service, err)
			}
			return nil
		})
		began := time.Now()
		post(t, api, "/apis/discovery.k8s.io/v1/namespaces/latency/endpointslices", endpointSlice(service, p))
		within(t, 10*time.Second, service+" answers", func() error { return connect(t, "node1", vip) })
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	record(t, "endpoint-latency.txt", fmt.Sprintf("endpoint change to first connection, %d services, %d changes: p50 %v, p99 %v, slowest %v",
		services, changes, round(took[changes/2]), round(took[changes*99/100]), round(took[changes-1])))
	if p99 := took[changes*99/100]; p99 > time.Second {
		t.Errorf("p99 is %v, more than a second", p99)
	}
}

func endpointSlice(service string, p pod) string {
	return fmt.Sprintf(`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
"metadata": {"name": %[1]q, "namespace": "latency", "labels": {"kubernetes.io/service-name": %[1]q}},
"addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
"endpoints": [{"addresses": [%[2]q], "nodeName": %[3]q, "targetRef": {"kind": "Pod", "namespace": "latency", "name": %[4]q}}]}`,
		service, p.Status.PodIP, p.Spec.NodeName, p.Metadata.Name)
}

// apiSocket serves the API on a socket as long as the test runs: to start kubectl
// takes longer than what is measured.
func apiSocket(t *testing.T) *http.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "api.sock")
	proxy := exec.Command("./kubectl", "proxy", "--unix-socket="+socket)
	proxy.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ./kubectl is a script
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-proxy.Process.Pid, syscall.SIGKILL); _ = proxy.Wait() })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	api := &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}
	within(t, 20*time.Second, "kubectl serves the API", func() error {
		answer, err := api.Get("http://localhost/readyz")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err
	})
	return api
}

func post(t *testing.T, api *http.Client, path, object string) {
	t.Helper()
	answer, err := api.Post("http://localhost"+path, "application/json", strings.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("POST %s: %s\n%s", path, answer.Status, text)
	}
}

// connect opens a connection from a node, and closes it.
func connect(t *testing.T, node, address string) error {
	t.Helper()
	pid, err := os.ReadFile(runDir("nodes", node, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return ns.WithNetNSPath("/proc/"+strings.TrimSpace(string(pid))+"/ns/net", func(ns.NetNS) error {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// What kubelet sees when 50 pods start on one node at once: from the pod's
// creation until its sandbox, network included, is there.
func TestFiftyPods(t *testing.T) {
	const count = 50
	namespace(t, "fifty")
	var all strings.Builder
	for i := range count {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: fifty, labels: {fifty: \"yes\"}}\n"+
			"spec: {nodeName: node1, terminationGracePeriodSeconds: 0, containers: [{name: c, image: \"test.invalid/e2e/pause:3.10.1\"}]}\n", i)
	}
	began := time.Now()
	apply(t, all.String())
	kubectl(t, "-n", "fifty", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")
	record(t, "pod-start.txt", fmt.Sprintf("%d pods on one node, created at once: all Ready after %v", count, round(time.Since(began))))
	seen := map[string]string{}
	for _, p := range pods(t, "fifty", "fifty=yes") {
		for _, ip := range p.Status.PodIPs {
			if other := seen[ip.IP]; other != "" {
				t.Errorf("%s and %s both have %s", other, p.Metadata.Name, ip.IP)
			}
			seen[ip.IP] = p.Metadata.Name
		}
	}
	if len(seen) != 2*count {
		t.Errorf("%d addresses for %d pods of two families", len(seen), count)
	}
}

// record keeps a measurement where `make cluster-test` prints it at the end.
func record(t *testing.T, name, line string) {
	t.Helper()
	t.Log(line)
	dir := filepath.Join("..", "..", "build", "cluster-results")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
