package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// counted is a summary of the traffic program.
type counted struct {
	Asked, Answered, Failed int
	Errors                  []string
	SlowestSeconds          float64
	Backends                map[string]int
}

// client is a pod that runs the traffic program's client until it is stopped.
type client struct {
	ns, name string
}

// startClient begins traffic from a pod of a node.
func startClient(t *testing.T, ns, name, node string, args ...string) *client {
	t.Helper()
	quoted, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  nodeName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 30
  containers:
  - {name: c, image: "%s", args: %s}
`, name, ns, node, trafficImage, quoted))
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=60s")
	return &client{ns, name}
}

// stop ends the client and returns what it counted.
func (c *client) stop(t *testing.T) counted {
	t.Helper()
	logs, err := c.finish()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(logs), "\n")
	var n counted
	decode(t, lines[len(lines)-1], &n)
	return n
}

// finish follows the log while the pod is told to end.
func (c *client) finish() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	follow := exec.CommandContext(ctx, "./kubectl", "-n", c.ns, "logs", "-f", c.name)
	follow.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	follow.Stdout = &out
	if err := follow.Start(); err != nil {
		return "", err
	}
	if _, err := try("-n", c.ns, "delete", "pod", c.name, "--wait=false"); err != nil {
		return "", err
	}
	err := follow.Wait()
	return out.String(), err
}

// unharmed fails the test if anything was lost.
func (n counted) unharmed(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: %d asked, %d answered, %d failed, slowest %.3f s, %d servers", what, n.Asked, n.Answered, n.Failed, n.SlowestSeconds, len(n.Backends))
	if n.Failed > 0 || n.Answered == 0 {
		t.Errorf("%s: %d of %d failed:\n  %s", what, n.Failed, n.Asked, strings.Join(n.Errors, "\n  "))
	}
}
