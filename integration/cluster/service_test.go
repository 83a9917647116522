package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Every pod reaches every other, on its node and across, by both families.
func TestPodsReachEachOther(t *testing.T) {
	namespace(t, "reach")
	for _, node := range nodes {
		for i := range 2 {
			toolPod(t, "reach", fmt.Sprintf("%s-%d", node, i), node)
		}
	}
	all := pods(t, "reach", "tool=yes")
	for _, from := range all {
		for _, to := range all {
			for _, ip := range to.Status.PodIPs {
				target := ip.IP + ":8080"
				if strings.Contains(ip.IP, ":") {
					target = "[" + ip.IP + "]:8080"
				}
				if err := reaches("reach", from.Metadata.Name, target); err != nil {
					t.Errorf("%s (%s) -> %s (%s): %v", from.Metadata.Name, from.Spec.NodeName, to.Metadata.Name, ip.IP, err)
				}
			}
		}
	}
}

// Scaling 1 -> 6 -> 2 breaks no transfer and no new connection.
func TestScaleUnderTraffic(t *testing.T) {
	namespace(t, "scale")
	deploy(t, "scale", "web", 1, "")
	vip := clusterIP(t, "scale", "web") + ":80"
	rate := startClient(t, "scale", "rate", "node1", "rate", "-target", vip, "-rate", "20")
	hold := startClient(t, "scale", "hold", "node2", "hold", "-target", vip, "-streams", "5")
	kubectl(t, "-n", "scale", "scale", "deploy/web", "--replicas=6")
	kubectl(t, "-n", "scale", "rollout", "status", "deploy/web", "--timeout=120s")
	time.Sleep(5 * time.Second) // traffic over all six
	kubectl(t, "-n", "scale", "scale", "deploy/web", "--replicas=2")
	within(t, time.Minute, "four pods end", func() error {
		left := 0
		for _, p := range pods(t, "scale", "app=web") {
			if p.Metadata.DeletionTimestamp == nil {
				left++
			}
		}
		if left != 2 {
			return fmt.Errorf("%d are left", left)
		}
		return nil
	})
	time.Sleep(8 * time.Second) // beyond the time that ending servers serve on
	got := rate.stop(t)
	got.unharmed(t, "20 new connections a second")
	if len(got.Backends) < 6 {
		t.Errorf("only %d of the six servers answered: %v", len(got.Backends), got.Backends)
	}
	hold.stop(t).unharmed(t, "connections held open")
}

// Names resolve in every pod, and the API server is reached by its Service.
func TestDNSAndAPI(t *testing.T) {
	namespace(t, "names")
	deploy(t, "names", "web", 2, "")
	for _, node := range nodes {
		toolPod(t, "names", node, node)
		within(t, 20*time.Second, "names from "+node, func() error {
			_, err := in("names", node, "bash", "-c", "exec 3<>/dev/tcp/web.names.svc.cluster.local/80 && echo who >&3 && head -1 <&3")
			return err
		})
		if out, err := in("names", node, "curl", "-sk", "-m", "5", "https://kubernetes.default.svc.cluster.local/version"); err != nil || !strings.Contains(out, "gitVersion") && !strings.Contains(out, "Unauthorized") && !strings.Contains(out, "Forbidden") {
			t.Errorf("the API server from a pod of %s: %v %s", node, err, out)
		}
	}
}

// exec, logs and port-forward work, and so do kubelet's probes (deploy waits for them).
func TestKubeletPaths(t *testing.T) {
	namespace(t, "kubelet")
	deploy(t, "kubelet", "web", 2, "")
	for _, p := range pods(t, "kubelet", "app=web") {
		kubectl(t, "-n", "kubelet", "logs", p.Metadata.Name)
	}
	toolPod(t, "kubelet", "tool", "node2")
	if out, err := in("kubelet", "tool", "hostname"); err != nil || out != "tool" {
		t.Errorf("exec: %q %v", out, err)
	}
	script := `./kubectl -n kubelet port-forward pod/tool 18080:8080 >/dev/null 2>&1 & p=$!
for i in $(seq 100); do . ./lib.sh; out=$(in_cp curl -s -m 1 http://127.0.0.1:18080/hostname) && break; sleep 0.1; done
kill $p; echo "$out"`
	if out, err := run("", "bash", "-c", script); err != nil || out != "tool" {
		t.Errorf("port-forward: %q %v", out, err)
	}
}

// Node ports work on every node's address, from outside, from nodes and from pods, without kube-proxy.
func TestNodePorts(t *testing.T) {
	namespace(t, "ports")
	deploy(t, "ports", "web", 1, "  type: NodePort\n")
	port := kubectl(t, "-n", "ports", "get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	toolPod(t, "ports", "tool", "node1")
	for _, node := range nodes {
		target := "/dev/tcp/" + nodeAddress(t, node) + "/" + port
		script := "exec 3<>" + target + " && echo who >&3 && timeout 3 head -1 <&3"
		within(t, 10*time.Second, "from outside to "+node, func() error {
			_, err := run("", "bash", "-c", ". ./lib.sh; in_cp timeout 3 bash -c '"+script+"'")
			return err
		})
		for _, from := range nodes {
			if _, err := on(from, "timeout", "3", "bash", "-c", script); err != nil {
				t.Errorf("%s -> %s: %v", from, node, err)
			}
		}
		if _, err := in("ports", "tool", "timeout", "3", "bash", "-c", script); err != nil {
			t.Errorf("pod -> %s: %v", node, err)
		}
	}
}
