package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// image is the traffic program's; TestMain packs it.
const trafficImage = "test.invalid/e2e/traffic:1"

var nodes = []string{"node1", "node2"}

func TestMain(m *testing.M) {
	if _, err := os.Stat(runDir("settings")); err != nil {
		fmt.Println("integration/cluster: no cluster is up; `make cluster-test` brings one up and runs these tests")
		return
	}
	os.Exit(m.Run())
}

// runDir is a path below the running cluster's state.
func runDir(name ...string) string {
	dir := os.Getenv("RUN")
	if dir == "" {
		dir = filepath.Join("..", "..", "build", "cluster")
	}
	return filepath.Join(append([]string{dir}, name...)...)
}

// run runs a program and returns what it printed.
func run(stdin, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// try is kubectl; it may fail.
func try(args ...string) (string, error) { return run("", "./kubectl", args...) }

// kubectl must not fail.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// on runs a command on a node; vragent and vrcontroller are those in their containers.
func on(node string, args ...string) (string, error) {
	return run("", "./on", append([]string{node}, args...)...)
}

// mustOn is on, and must not fail.
func mustOn(t *testing.T, node string, args ...string) string {
	t.Helper()
	out, err := on(node, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func apply(t *testing.T, yaml string) {
	t.Helper()
	if _, err := run(yaml, "./kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// namespace makes one that goes with the test. Annotations are key=value.
func namespace(t *testing.T, name string, annotations ...string) {
	t.Helper()
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try("-n", name, "get", "pods,services,endpointslices,events", "-o", "wide")
			t.Logf("namespace %s at the end:\n%s", name, out)
		}
		_, _ = try("delete", "namespace", name, "--wait=false")
	})
	for _, a := range annotations {
		kubectl(t, "annotate", "namespace", name, a)
	}
}

// within waits until ok, and fails the test after the time.
func within(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pod of the cluster, as far as tests look at it.
type pod struct {
	Metadata struct {
		Name              string
		DeletionTimestamp *string
	}
	Spec   struct{ NodeName string }
	Status struct {
		Phase  string
		PodIP  string
		PodIPs []struct{ IP string }
	}
}

func pods(t *testing.T, ns, selector string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	decode(t, kubectl(t, "-n", ns, "get", "pods", "-l", selector, "-o", "json"), &list)
	return list.Items
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
}

// nodeAddress is a node's IPv4 address.
func nodeAddress(t *testing.T, node string) string {
	t.Helper()
	all := kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`)
	return strings.Fields(all)[0]
}

func clusterIP(t *testing.T, ns, service string) string {
	t.Helper()
	return kubectl(t, "-n", ns, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}")
}

// servers is a Deployment of the traffic program's server with a Service. A pod
// that is told to end serves on for a while, as servers behind a load balancer do.
func servers(name string, replicas int, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 60
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: %[1]s}}}]
      containers:
      - name: server
        image: %[3]s
        args: [serve, -port, "8080"]
        lifecycle: {preStop: {sleep: {seconds: 5}}}
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{name: tcp, port: 80, targetPort: 8080}, {name: udp, port: 80, protocol: UDP, targetPort: 8080}]
%[4]s
`, name, replicas, trafficImage, more)
}

// deploy applies servers in a namespace and waits for them.
func deploy(t *testing.T, ns, name string, replicas int, more string) {
	t.Helper()
	if _, err := run(servers(name, replicas, more), "./kubectl", "-n", ns, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", ns, "rollout", "status", "deploy/"+name, "--timeout=120s")
	// Kubernetes takes its time to name the endpoints, most of all after an outage.
	within(t, 2*time.Minute, "Kubernetes names the endpoints of "+ns+"/"+name, func() error {
		ready := kubectl(t, "-n", ns, "get", "endpointslices", "-l", "kubernetes.io/service-name="+name,
			"-o", `jsonpath={.items[*].endpoints[*].conditions.ready}`)
		if n := strings.Count(ready, "true"); n < replicas {
			return fmt.Errorf("%d of %d", n, replicas)
		}
		return nil
	})
}

// toolPod is a pod with a shell and network tools on a node.
func toolPod(t *testing.T, ns, name, node string, annotations ...string) {
	t.Helper()
	notes := "{}"
	if len(annotations) > 0 {
		notes = "{" + strings.Join(annotations, ", ") + "}"
	}
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {tool: "yes"}, annotations: %s}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "test.invalid/e2e/agnhost:1", args: [netexec, --http-port=8080, --udp-port=8081]}
`, name, ns, notes, node))
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
}

// in runs a command in a pod.
func in(ns, name string, args ...string) (string, error) {
	return try(append([]string{"-n", ns, "exec", name, "--"}, args...)...)
}

// reaches asks from a pod which server answers at an HTTP address.
func reaches(ns, name, target string) error {
	_, err := in(ns, name, "curl", "-sS", "-m", "3", "-o", "/dev/null", "http://"+target+"/hostname")
	return err
}
