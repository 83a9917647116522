package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// plainPods is pods of a node that do nothing.
func plainPods(ns, node, prefix string, count int) string {
	var all strings.Builder
	for i := range count {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s%d, namespace: %s}\n"+
			"spec: {nodeName: %s, terminationGracePeriodSeconds: 0, containers: [{name: c, image: \"test.invalid/e2e/pause:3.10.1\"}]}\n", prefix, i, ns, node)
	}
	return all.String()
}

func allReady(t *testing.T, ns string) {
	t.Helper()
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")
}

// addresses are those of all pods of the cluster's networks that have not ended,
// and whose they are. No two have the same.
func addresses(t *testing.T) map[netip.Addr]string {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Spec     struct{ HostNetwork bool }
			Status   struct {
				Phase  string
				PodIPs []struct{ IP netip.Addr }
			}
		}
	}
	decode(t, kubectl(t, "get", "pods", "-A", "-o", "json"), &list)
	owner := map[netip.Addr]string{}
	for _, p := range list.Items {
		if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		name := p.Metadata.Namespace + "/" + p.Metadata.Name
		for _, ip := range p.Status.PodIPs {
			if other, taken := owner[ip.IP]; taken {
				t.Errorf("%s and %s both have %v", other, name, ip.IP)
			}
			owner[ip.IP] = name
		}
	}
	return owner
}

// block is the spec of an IPBlock.
type block struct {
	Network, Node string
	Prefix        netip.Prefix
}

// blocks are all of them, of networks that share the pod subnets. No two overlap.
func blocks(t *testing.T) []block {
	t.Helper()
	var list struct{ Items []struct{ Spec block } }
	decode(t, kubectl(t, "get", "ipblocks", "-o", "json"), &list)
	var all []block
	for _, item := range list.Items {
		for _, b := range all {
			if b.Prefix.Overlaps(item.Spec.Prefix) {
				t.Errorf("%v overlaps %v", b, item.Spec)
			}
		}
		all = append(all, item.Spec)
	}
	return all
}

func blocksOf(t *testing.T, node string) []block {
	return slices.DeleteFunc(blocks(t), func(b block) bool { return b.Node != node })
}

// ipamCheck is a program's opinion and its exit code.
func ipamCheck(node, program string, flags ...string) (string, int) {
	out, err := on(node, append([]string{program, "ipam", "check"}, flags...)...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, 0
	case errors.As(err, &exit):
		return out, exit.ExitCode()
	}
	return err.Error(), -1
}

// booksClean waits until nobody finds anything wrong with addresses.
func booksClean(t *testing.T) {
	t.Helper()
	for _, node := range nodes {
		for _, program := range []string{"vragent", "vrcontroller"} {
			within(t, 2*time.Minute, program+" of "+node+" finds nothing", func() error {
				if out, code := ipamCheck(node, program); code != 0 {
					return fmt.Errorf("exit code %d: %s", code, out)
				}
				return nil
			})
		}
	}
}

// pause ends a program of a node and keeps it down until resume, or the end of
// the test. Its containers run on.
func pause(t *testing.T, node, program string) (resume func()) {
	t.Helper()
	file := runDir("nodes", node, program+".pause")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	resume = func() { _ = os.Remove(file) }
	t.Cleanup(resume)
	pid, err := os.ReadFile(runDir("nodes", node, program+".pid")) // of the node's own pid namespace
	if err != nil {
		t.Fatal(err)
	}
	mustOn(t, node, "bash", "-c", "kill -KILL "+strings.TrimSpace(string(pid)))
	return resume
}

// An agent that has lost its disk takes its pods over as they are.
func TestAgentDiskWiped(t *testing.T) {
	const ns, own = "disk-wiped", "disk-wiped-own"
	j := beginJourney(t, ns)
	namespace(t, own, "opencontrail.org/isolation=true")
	apply(t, plainPods(own, "node1", "old", 5))
	allReady(t, own)
	before := addresses(t)

	mustOn(t, "node1", "bash", "-c", "rm /var/lib/vragent/*") // at once, as far as the agent can tell
	crash(t, "node1", "agent")
	apply(t, plainPods(ns, "node1", "new", 10)+plainPods(own, "node1", "new", 10))
	allReady(t, ns)
	allReady(t, own)
	now := addresses(t)
	for ip, pod := range before {
		if now[ip] != pod {
			t.Errorf("%v was %s's, and is %q's", ip, pod, now[ip])
		}
	}
	j.end(t) // which deletes pods that the ledger did not know
	kubectl(t, "-n", own, "delete", "pod", "old0", "old1", "old2", "old3", "old4", "--timeout=60s")
	booksClean(t)
}

// A node that was deleted while its pods run keeps its addresses, and comes back.
func TestNodeForceDeleted(t *testing.T) {
	const ns, own = "node-gone", "node-gone-own"
	namespace(t, ns)
	namespace(t, own, "opencontrail.org/isolation=true")
	apply(t, plainPods(ns, "node2", "old", 5)+plainPods(own, "node2", "old", 5))
	allReady(t, ns)
	allReady(t, own)
	before, held := addresses(t), blocksOf(t, "node2")

	resume := pause(t, "node2", "kubelet")
	kubectl(t, "delete", "node", "node2")
	within(t, 3*time.Minute, "Kubernetes has forgotten node2's pods", func() error {
		if out := kubectl(t, "get", "pods", "-A", "--field-selector", "spec.nodeName=node2", "-o", "name"); out != "" {
			return errors.New(out)
		}
		return nil
	})
	// They run all the same, so nobody else may get what they have: not in networks that need new blocks either.
	for i := range 3 {
		other := fmt.Sprintf("%s-%d", ns, i)
		namespace(t, other, "opencontrail.org/isolation=true")
		apply(t, plainPods(other, "node1", "new", 3))
		allReady(t, other)
	}
	apply(t, plainPods(ns, "node1", "new", 5))
	allReady(t, ns)
	for ip, pod := range addresses(t) {
		if old, taken := before[ip]; taken && old != pod {
			t.Errorf("%s has %v, which %s still uses", pod, ip, old)
		}
	}
	now := blocks(t)
	for _, b := range held {
		if !slices.Contains(now, b) {
			t.Errorf("%v was given away", b)
		}
	}
	if out, code := ipamCheck("node1", "vrcontroller"); code != 2 || !strings.Contains(out, "Node node2: is not in the cluster and holds") {
		t.Errorf("vrcontroller ipam check ends with %d and says %s", code, out)
	}

	resume()
	within(t, 2*time.Minute, "node2 is back", func() error {
		_, err := try("wait", "--for=condition=Ready", "node/node2", "--timeout=5s")
		return err
	})
	kubectl(t, "-n", "vragent-system", "rollout", "status", "ds/vragent", "--timeout=180s")
	apply(t, plainPods(ns, "node2", "again", 10)+plainPods(own, "node2", "again", 5))
	allReady(t, ns)
	allReady(t, own)
	addresses(t)
	kubectl(t, "-n", "vragent-system", "rollout", "status", "deploy/vrcontroller", "--timeout=180s")
	booksClean(t)
}

// Leaks that there really are, are found, named and repaired.
func TestIPAMCheck(t *testing.T) {
	t.Run("a lease of nobody", func(t *testing.T) {
		t.Cleanup(func() { _, _ = try("delete", "ipblock", "10-47-255-0-26-e3b0c442", "--ignore-not-found") })
		apply(t, `
apiVersion: vragent.io/v1alpha1
kind: IPBlock
metadata: {name: 10-47-255-0-26-e3b0c442}
spec: {network: k8s-default-pod-network, node: ghost, prefix: 10.47.255.0/26}
`)
		leader := leaderNode(t)
		want := "Node ghost: is not in the cluster and holds 10.47.255.0/26"
		within(t, 10*time.Second, "the controllers see it", func() error {
			for _, node := range nodes {
				if out, code := ipamCheck(node, "vrcontroller"); code != 2 || !strings.Contains(out, want) {
					return fmt.Errorf("exit code %d: %s", code, out)
				}
			}
			return nil
		})
		other := nodes[1-slices.Index(nodes, leader)]
		if out, code := ipamCheck(other, "vrcontroller", "--repair"); code != 1 {
			t.Errorf("who is not the leader ends with %d: %s", code, out)
		}
		if out, code := ipamCheck(leader, "vrcontroller", "--repair"); code != 2 || !strings.Contains(out, "gives back 1 block") {
			t.Errorf("the leader ends with %d: %s", code, out)
		}
		within(t, 30*time.Second, "it is given back", func() error {
			if out, err := try("get", "ipblock", "10-47-255-0-26-e3b0c442"); err == nil {
				return errors.New(out)
			}
			return nil
		})
		booksClean(t)
	})
	t.Run("an attachment of nobody", attachmentLeaks)
}

// A pod goes without a DEL: its kubelet was away, its namespace and its container
// are gone when that is back.
func attachmentLeaks(t *testing.T) {
	const ns, id = "leak", "leak0000000000000000000000000000"
	namespace(t, ns)
	resume := pause(t, "node1", "kubelet")
	apply(t, plainPods(ns, "node1", "p", 1))
	// What kubelet's runtime would do.
	script := fmt.Sprintf(`
ip netns add leak
export CNI_PATH=/opt/cni/bin NETCONFPATH=/etc/cni/net.d CNI_CONTAINERID=%s CNI_IFNAME=eth0
export CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=p0;K8S_POD_UID=%s"
cnitool add vrouter /run/netns/leak
ip netns del leak`, id, ns, kubectl(t, "-n", ns, "get", "pod", "p0", "-o", "jsonpath={.metadata.uid}"))
	out := mustOn(t, "node1", "bash", "-c", script)
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	decode(t, out, &result)
	kubectl(t, "-n", ns, "delete", "pod", "p0", "--force")
	resume()
	within(t, time.Minute, "node1 is Ready", func() error {
		_, err := try("wait", "--for=condition=Ready", "node/node1", "--timeout=5s")
		return err
	})
	within(t, 4*time.Minute, "the agent names it", func() error { // what is younger than two minutes may be on its way
		out, code := ipamCheck("node1", "vragent")
		for _, ip := range result.IPs {
			if code != 3 || !strings.Contains(out, ip.Address.Addr().String()) {
				return fmt.Errorf("exit code %d: %s", code, out)
			}
		}
		return nil
	})
	if out, code := ipamCheck("node1", "vragent", "--repair"); code != 0 || !strings.Contains(out, "repaired") {
		t.Errorf("--repair ends with %d: %s", code, out)
	}
	booksClean(t)
}

// leaderNode is where the controller runs that holds the Lease.
func leaderNode(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", "vragent-system", "get", "pod", leader(t), "-o", "jsonpath={.spec.nodeName}")
}

func leader(t *testing.T) string {
	t.Helper()
	holder := kubectl(t, "-n", "vragent-system", "get", "lease", "vrcontroller", "-o", "jsonpath={.spec.holderIdentity}")
	pod, _, _ := strings.Cut(holder, "_")
	return pod
}

// Whoever leads, and whenever it is killed: no block is leased twice.
func TestTwoControllersRace(t *testing.T) {
	const rounds = 5
	var all []string
	for round := range rounds {
		for i := range 2 {
			ns := fmt.Sprintf("race-%d-%d", round, i)
			all = append(all, ns)
			namespace(t, ns, "opencontrail.org/isolation=true")
			apply(t, plainPods(ns, "node1", "a", 2)+plainPods(ns, "node2", "b", 2))
		}
		killLeader(t)
	}
	for _, ns := range all {
		allReady(t, ns)
	}
	count := 0
	for _, pod := range addresses(t) {
		if strings.HasPrefix(pod, "race-") {
			count++
		}
	}
	if want := len(all) * 4 * 2; count != want {
		t.Errorf("%d addresses for %d networks with four pods each, want %d", count, len(all), want)
	}
	blocks(t)
	kubectl(t, "-n", "vragent-system", "rollout", "status", "deploy/vrcontroller", "--timeout=300s")
	booksClean(t)
}

// killLeader kills the leader and waits for the next.
func killLeader(t *testing.T) {
	t.Helper()
	pod, holder := leader(t), func() string {
		return kubectl(t, "-n", "vragent-system", "get", "lease", "vrcontroller", "-o", "jsonpath={.spec.holderIdentity}")
	}
	before := holder()
	id := kubectl(t, "-n", "vragent-system", "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	mustOn(t, leaderNode(t), "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", strings.TrimPrefix(id, "containerd://"))
	within(t, 2*time.Minute, "another leader", func() error {
		if now := holder(); now == "" || now == before {
			return fmt.Errorf("it is %s", now)
		}
		return nil
	})
}
