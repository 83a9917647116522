package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// How long a change of endpoints takes to reach the data plane, with 200
// services: from before the EndpointSlice is written until a node's own request
// to the service is answered. The time kubectl takes is in it.
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
	var took []time.Duration
	for i := range changes {
		service, p := fmt.Sprintf("s%d", i*services/changes), backends[i%2]
		vip := clusterIP(t, "latency", service)
		within(t, 10*time.Second, "the service is known", func() error {
			_, err := on("node1", "bash", "-c", "curl -s -m 1 http://"+vip+"/; [ $? = 7 ]") // refused at once
			return err
		})
		probe := fmt.Sprintf("for i in $(seq 3000); do curl -s -m 0.3 -o /dev/null http://%s/ && break; sleep 0.005; done; date +%%s%%N", vip)
		seen := make(chan string, 1)
		go func() { out, _ := on("node1", "bash", "-c", probe); seen <- out }()
		began := time.Now()
		apply(t, endpointSlice(service, p))
		var at int64
		if _, err := fmt.Sscan(<-seen, &at); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Unix(0, at).Sub(began))
	}
	slices.Sort(took)
	record(t, "endpoint-latency.txt", fmt.Sprintf("endpoint change to first answer, %d services, %d changes, kubectl included: p50 %v, p99 %v, slowest %v",
		services, changes, round(took[changes/2]), round(took[changes*99/100]), round(took[changes-1])))
	if p99 := took[changes*99/100]; p99 > time.Second {
		t.Errorf("p99 is %v, more than a second", p99)
	}
}

func endpointSlice(service string, p pod) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s, namespace: latency, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [%[2]s], nodeName: %[3]s, targetRef: {kind: Pod, namespace: latency, name: %[4]s}}]
`, service, p.Status.PodIP, p.Spec.NodeName, p.Metadata.Name)
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
