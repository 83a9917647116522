package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	isolated     = "opencontrail.org/isolation=true"
	openServices = "opencontrail.org/isolation.service=false"
)

// expectation is one row of the isolation table: who may reach what.
type expectation struct {
	from, to string // namespaces
	service  bool
	want     bool
}

// The rows of the isolation table. plain-a and plain-b are not isolated; closed
// and other are; open is, with its services open to all.
var isolationTable = []expectation{
	{"closed", "closed", false, true},
	{"plain-a", "closed", false, false},
	{"other", "closed", false, false},
	{"closed", "plain-a", false, true},
	{"closed", "plain-a", true, true},
	{"closed", "closed", true, true},
	{"plain-a", "closed", true, false},
	{"other", "closed", true, false},
	{"open", "open", false, true},
	{"plain-a", "open", false, false},
	{"open", "plain-a", false, true},
	{"open", "plain-a", true, true},
	{"plain-a", "open", true, true},
	{"other", "open", true, true},
	{"plain-a", "plain-b", false, true},
	{"plain-b", "plain-a", true, true},
}

// Every row of the isolation table holds, on a node and across nodes, before and
// after restarts; names resolve in all namespaces.
func TestIsolation(t *testing.T) {
	all := map[string][]string{"plain-a": nil, "plain-b": nil, "closed": {isolated}, "other": {isolated}, "open": {isolated, openServices}}
	for ns, annotations := range all {
		namespace(t, ns, annotations...)
	}
	for ns := range all {
		deploy(t, ns, "web", 2, "")
		for _, node := range nodes {
			toolPod(t, ns, node, node)
		}
	}
	checkIsolation(t, "at first")
	restartAll(t)
	checkIsolation(t, "after restarts")
	for ns := range all {
		for _, node := range nodes {
			if _, err := in(ns, node, "nslookup", "web."+ns+".svc.cluster.local"); err != nil {
				t.Errorf("names in %s on %s: %v", ns, node, err)
			}
		}
	}
}

func checkIsolation(t *testing.T, when string) {
	t.Helper()
	addresses := map[string][]pod{}
	for _, e := range isolationTable {
		if addresses[e.to] == nil {
			addresses[e.to] = pods(t, e.to, "tool=yes")
		}
	}
	for _, e := range isolationTable {
		for _, node := range nodes {
			var err error
			if e.service {
				_, err = in(e.from, node, "bash", "-c", "exec 3<>/dev/tcp/"+clusterIP(t, e.to, "web")+"/80 && echo who >&3 && timeout 3 head -1 <&3")
				reportRow(t, when, e, node, "service", err)
				continue
			}
			for _, p := range addresses[e.to] {
				err = reaches(e.from, node, p.Status.PodIP+":8080")
				reportRow(t, when, e, node, p.Spec.NodeName, err)
			}
		}
	}
}

func reportRow(t *testing.T, when string, e expectation, node, to string, err error) {
	t.Helper()
	if (err == nil) != e.want {
		t.Errorf("%s: pod of %s on %s -> %s of %s: reached %t, want %t (%v)", when, e.from, node, to, e.to, err == nil, e.want, err)
	}
}

// restartAll restarts agents, fast paths and controllers, and waits for them.
func restartAll(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", "vragent-system", "rollout", "restart", "ds/vragent", "deploy/vrcontroller")
	kubectl(t, "-n", "vragent-system", "rollout", "status", "deploy/vrcontroller", "--timeout=180s")
	kubectl(t, "-n", "vragent-system", "rollout", "status", "ds/vragent", "--timeout=180s")
	healthy(t)
}

// healthy waits until every node says that all is well.
func healthy(t *testing.T) {
	t.Helper()
	for _, node := range nodes {
		within(t, time.Minute, "node "+node+" is healthy", func() error {
			_, err := on(node, "vragent", "status")
			return err
		})
	}
}

// Two custom networks with the same addresses stay apart; each has names, the API
// server, its own services, and kubelet's probes.
func TestOverlappingNetworks(t *testing.T) {
	namespace(t, "nets")
	for _, name := range []string{"red", "blue"} {
		apply(t, fmt.Sprintf(`
apiVersion: vragent.io/v1alpha1
kind: VirtualNetwork
metadata: {name: %s, namespace: nets}
spec: {subnets: [192.0.2.0/24]}
`, name))
	}
	for _, name := range []string{"red", "blue"} {
		namespace(t, name, fmt.Sprintf(`opencontrail.org/network={"domain":"default-domain","project":"k8s-nets","name":%q}`, name))
		deploy(t, name, "web", 2, "")
		for _, node := range nodes {
			toolPod(t, name, name+"-"+node, node)
		}
	}
	for _, name := range []string{"red", "blue"} {
		vip := clusterIP(t, name, "web")
		for _, node := range nodes {
			from := name + "-" + node
			for _, p := range pods(t, name, "tool=yes") {
				if !strings.HasPrefix(p.Status.PodIP, "192.0.2.") {
					t.Errorf("%s has %s, which is not of its network", p.Metadata.Name, p.Status.PodIP)
				}
				out, err := in(name, from, "curl", "-sS", "-m", "3", "http://"+p.Status.PodIP+":8080/hostname")
				if err != nil || out != p.Metadata.Name {
					t.Errorf("%s -> %s %s: %q %v", from, p.Metadata.Name, p.Status.PodIP, out, err)
				}
			}
			if _, err := in(name, from, "bash", "-c", "exec 3<>/dev/tcp/"+vip+"/80 && echo who >&3 && timeout 3 head -1 <&3"); err != nil {
				t.Errorf("%s -> its service: %v", from, err)
			}
			if _, err := in(name, from, "nslookup", "web."+name+".svc.cluster.local"); err != nil {
				t.Errorf("names from %s: %v", from, err)
			}
			if out, err := in(name, from, "curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "https://kubernetes.default.svc.cluster.local/version"); err != nil {
				t.Errorf("API server from %s: %s %v", from, out, err)
			}
		}
	}
	for _, pair := range [][2]string{{"red", "blue"}, {"blue", "red"}} {
		vip := clusterIP(t, pair[1], "web")
		if _, err := in(pair[0], pair[0]+"-node1", "bash", "-c", "exec 3<>/dev/tcp/"+vip+"/80 && echo who >&3 && timeout 3 head -1 <&3"); err == nil {
			t.Errorf("%s reaches the service of %s", pair[0], pair[1])
		}
	}
}

// A pod whose network does not exist says so in its events.
func TestMissingNetworkIsNamed(t *testing.T) {
	namespace(t, "missing", `opencontrail.org/network={"domain":"default-domain","project":"k8s-missing","name":"nowhere"}`)
	kubectl(t, "-n", "missing", "run", "p", "--image=test.invalid/e2e/agnhost:1")
	within(t, time.Minute, "an event names the network", func() error {
		out := kubectl(t, "-n", "missing", "get", "events")
		if !strings.Contains(out, "missing/nowhere") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// A service of type LoadBalancer gets an address of the pool, keeps it over
// restarts, answers on it from outside, and gives it back.
func TestLoadBalancerAddress(t *testing.T) {
	namespace(t, "public")
	apply(t, `
apiVersion: vragent.io/v1alpha1
kind: VirtualNetwork
metadata: {name: public, namespace: public}
spec: {subnets: [203.0.113.0/28], external: true}
---
apiVersion: vragent.io/v1alpha1
kind: FloatingIPPool
metadata: {name: pool, namespace: public}
spec: {virtualNetwork: public}
`)
	kubectl(t, "annotate", "namespace", "public", `opencontrail.org/fip-pool={"domain":"default-domain","project":"k8s-public","network":"public","name":"pool"}`)
	deploy(t, "public", "web", 2, "  type: LoadBalancer\n")
	address := func() string {
		return kubectl(t, "-n", "public", "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}
	within(t, 20*time.Second, "an address", func() error {
		if !strings.HasPrefix(address(), "203.0.113.") {
			return fmt.Errorf("%q", address())
		}
		return nil
	})
	first := address()
	ask := "exec 3<>/dev/tcp/" + first + "/80 && echo who >&3 && timeout 3 head -1 <&3"
	toolPod(t, "public", "tool", "node1")
	within(t, 20*time.Second, "a pod reaches it", func() error { _, err := in("public", "tool", "bash", "-c", ask); return err })
	within(t, 20*time.Second, "a node reaches it", func() error { _, err := on("node2", "timeout", "3", "bash", "-c", ask); return err })
	_, _ = run("", "bash", "-c", ". ./lib.sh; in_cp ip route replace "+first+"/32 via "+nodeAddress(t, "node2"))
	t.Cleanup(func() { _, _ = run("", "bash", "-c", ". ./lib.sh; in_cp ip route del "+first+"/32") })
	within(t, 20*time.Second, "a host outside reaches it by way of node2", func() error {
		_, err := run("", "bash", "-c", ". ./lib.sh; in_cp timeout 3 bash -c '"+ask+"'")
		return err
	})
	restartAll(t)
	if address() != first {
		t.Errorf("after restarts the address is %s, was %s", address(), first)
	}
	kubectl(t, "-n", "public", "patch", "service", "web", "-p", `{"spec":{"type":"ClusterIP"}}`)
	within(t, 20*time.Second, "the address is given back", func() error {
		if address() != "" {
			return fmt.Errorf("still %s", address())
		}
		return nil
	})
}
