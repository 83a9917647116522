package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// After an uninstall, in the words of packaging/README.md, nodes and API server
// are what they were before the installation, and another installation works.
// It comes last, by the name of its file: other tests' pods would lose their
// network.
func TestZUninstall(t *testing.T) {
	image := kubectl(t, "-n", "vragent-system", "get", "ds", "vragent", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	t.Cleanup(func() { _, _ = try("apply", "--server-side", "-f", runDir("vragent.yaml")) })
	t.Cleanup(func() { _, _ = try("-n", "kube-system", "scale", "deploy/coredns", "--replicas=1") })
	useEverything(t)
	noPods(t)

	successor, err := run("", "../../packaging/render.sh", "--set", "uninstall=true", "--set", "image="+image, "--show-only", "templates/uninstall.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(successor, "./kubectl", "replace", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", "vragent-system", "rollout", "status", "ds/vragent", "--timeout=120s")
	kubectl(t, "delete", "-f", runDir("vragent.yaml"), "--timeout=120s")
	for _, node := range nodes {
		asBefore(t, node)
	}
	objects := kubectl(t, "get", "crd,clusterrole,clusterrolebinding,priorityclass,namespace,validatingadmissionpolicy,apiservice", "-o", "name")
	for line := range strings.Lines(objects) {
		if strings.Contains(line, "vragent") || strings.Contains(line, "vrcontroller") {
			t.Errorf("left: %s", line)
		}
	}

	kubectl(t, "apply", "--server-side", "-f", runDir("vragent.yaml"))
	kubectl(t, "-n", "vragent-system", "rollout", "status", "deploy/vrcontroller", "--timeout=120s")
	kubectl(t, "-n", "vragent-system", "rollout", "status", "ds/vragent", "--timeout=120s")
	kubectl(t, "wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
	kubectl(t, "-n", "kube-system", "scale", "deploy/coredns", "--replicas=1")
	useEverything(t)
}

// useEverything has pods, networks, cluster IPs and node ports served on all nodes.
func useEverything(t *testing.T) {
	t.Helper()
	const ns, own = "uninstall", "uninstall-own"
	for _, name := range []string{ns, own} {
		kubectl(t, "create", "namespace", name)
		t.Cleanup(func() { _, _ = try("delete", "namespace", name, "--wait=false", "--ignore-not-found") })
	}
	kubectl(t, "annotate", "namespace", own, "opencontrail.org/isolation=true")
	deploy(t, ns, "web", 2, "  type: NodePort")
	web := clusterIP(t, ns, "web")
	port := kubectl(t, "-n", ns, "get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for _, node := range nodes {
		toolPod(t, own, "tool-"+node, node)
		within(t, 20*time.Second, "the service answers on "+node, func() error {
			_, inside := in(own, "tool-"+node, "bash", "-c", "exec 3<>/dev/tcp/"+web+"/80")
			_, outside := on(node, "bash", "-c", "exec 3<>/dev/tcp/$(hostname)/"+port)
			return errors.Join(inside, outside)
		})
	}
	for _, name := range []string{ns, own} {
		kubectl(t, "delete", "namespace", name, "--timeout=120s")
	}
}

// noPods waits until the cluster's networks have none left.
func noPods(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", "kube-system", "scale", "deploy/coredns", "--replicas=0")
	within(t, 2*time.Minute, "no pod is left", func() error {
		if left := addresses(t); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// asBefore compares a node with what install.sh has noted.
func asBefore(t *testing.T, node string) {
	t.Helper()
	within(t, 30*time.Second, node+" is as it was", func() error {
		now, err := run("", "./snapshot.sh", node)
		if err != nil {
			return err
		}
		_, err = run(now+"\n", "diff", runDir("nodes", node, "before"), "-")
		return err
	})
}
