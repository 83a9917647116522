package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// journey is traffic from both nodes through one service: held connections and new ones.
type journey struct{ hold, rate []*client }

func beginJourney(t *testing.T, ns string) *journey {
	t.Helper()
	namespace(t, ns)
	deploy(t, ns, "web", 4, "")
	vip := clusterIP(t, ns, "web") + ":80"
	j := &journey{}
	for _, node := range nodes {
		j.hold = append(j.hold, startClient(t, ns, "hold-"+node, node, "hold", "-target", vip, "-streams", "10"))
		j.rate = append(j.rate, startClient(t, ns, "rate-"+node, node, "rate", "-target", vip, "-rate", "20"))
	}
	return j
}

// end wants no loss among held connections; new ones may be late, not lost.
func (j *journey) end(t *testing.T) {
	t.Helper()
	for _, c := range j.hold {
		c.stop(t).unharmed(t, c.name)
	}
	for _, c := range j.rate {
		c.stop(t).unharmed(t, c.name)
	}
}

// restarts of a container, by the pid its runtime knows: as a crash.
func crash(t *testing.T, node, container string) {
	t.Helper()
	pod := kubectl(t, "-n", "vragent-system", "get", "pod", "-l", "app=vragent", "--field-selector", "spec.nodeName="+node, "-o", "name")
	count := func() string {
		return kubectl(t, "-n", "vragent-system", "get", pod, "-o", fmt.Sprintf(`jsonpath={.status.containerStatuses[?(@.name==%q)].restartCount}`, container))
	}
	before := count()
	id := kubectl(t, "-n", "vragent-system", "get", pod, "-o", fmt.Sprintf(`jsonpath={.status.containerStatuses[?(@.name==%q)].containerID}`, container))
	mustOn(t, node, "bash", "-c", "ctr -n k8s.io tasks kill -s SIGKILL "+strings.TrimPrefix(id, "containerd://"))
	within(t, 2*time.Minute, container+" of "+node+" restarts", func() error {
		if count() == before {
			return fmt.Errorf("restart count is still %s", before)
		}
		return nil
	})
	kubectl(t, "-n", "vragent-system", "rollout", "status", "ds/vragent", "--timeout=180s")
}

// Crashed agents cost nothing at all.
func TestAgentCrashes(t *testing.T) {
	j := beginJourney(t, "agent-crash")
	for _, node := range nodes {
		crash(t, node, "agent")
	}
	j.end(t)
}

// Crashed fast paths: their successors take the flow tables over.
func TestFastpathCrashes(t *testing.T) {
	j := beginJourney(t, "fastpath-crash")
	for _, node := range nodes {
		crash(t, node, "fastpath")
	}
	j.end(t)
}

// A rolling restart of everything breaks no connection.
func TestRollingRestart(t *testing.T) {
	j := beginJourney(t, "rolling")
	restartAll(t)
	j.end(t)
}

// While the API server is away, forwarding, and whatever the nodes know, goes on.
// OUTAGE is its length.
func TestAPIServerOutage(t *testing.T) {
	outage := time.Minute
	if s := os.Getenv("OUTAGE"); s != "" {
		var err error
		if outage, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	j := beginJourney(t, "outage")
	pause := runDir("cp", "kube-apiserver.pause")
	if err := os.WriteFile(pause, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(pause) })
	text, err := os.ReadFile(runDir("cp", "kube-apiserver.pid"))
	if err != nil {
		t.Fatal(err)
	}
	// The pid is one of the control plane's own pid namespace.
	if _, err := run("", "bash", "-c", ". ./lib.sh; nsenter -t $(cat $RUN/cp/pid) -m -p kill -KILL "+strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(outage) // the outage is what is tested
	if err := os.Remove(pause); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the API server is back", func() error { _, err := try("get", "--raw", "/readyz"); return err })
	within(t, 2*time.Minute, "nodes are Ready", func() error {
		_, err := try("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s")
		return err
	})
	j.end(t)
	toolPod(t, "outage", "after", "node1") // and life goes on
	healthy(t)
}

// A drained node's pods move; those who hold connections to the others notice nothing.
func TestDrain(t *testing.T) {
	namespace(t, "drain")
	deploy(t, "drain", "web", 2, "")
	vip := clusterIP(t, "drain", "web") + ":80"
	rate := startClient(t, "drain", "rate", "node1", "rate", "-target", vip, "-rate", "20")
	t.Cleanup(func() { _, _ = try("uncordon", "node2") })
	kubectl(t, "drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=web", "--timeout=120s")
	kubectl(t, "-n", "drain", "rollout", "status", "deploy/web", "--timeout=120s")
	rate.stop(t).unharmed(t, "20 new connections a second")
	for _, p := range pods(t, "drain", "app=web") {
		if p.Metadata.DeletionTimestamp == nil && p.Spec.NodeName != "node1" {
			t.Errorf("%s is on %s", p.Metadata.Name, p.Spec.NodeName)
		}
	}
}
