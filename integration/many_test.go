package integration

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// TestManyAdds runs 60 ADDs at once with the reference client of the
// specification, and 60 one after the other, and prints how long they took.
func TestManyAdds(t *testing.T) {
	l := cluster(t)
	names := make([]string, 60)
	for i := range names {
		names[i] = fmt.Sprintf("many%d", i)
	}
	declarePods(t, l, names...)
	before := snapshot(t, l.Nodes["node1"])
	var adds []time.Duration
	for _, name := range names {
		adds = append(adds, cycle(t, l, name))
	}
	slices.Sort(adds)
	t.Logf("one after the other: ADD p50 %v, p99 %v", adds[len(adds)/2], adds[len(adds)*99/100])
	tool := filepath.Join(t.TempDir(), "cnitool")
	if out, err := exec.Command("go", "build", "-o", tool, "github.com/containernetworking/cni/cnitool").CombinedOutput(); err != nil {
		t.Fatalf("build cnitool: %v: %s", err, out)
	}
	var pods []*testbed.Pod
	for _, name := range names {
		p, err := l.NewPod(context.Background(), "node1", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Discard(p)
		pods = append(pods, p)
	}
	for _, verb := range []string{"add", "del"} {
		took := atOnce(t, l, tool, verb, pods)
		t.Logf("%d at once by cnitool: %s p50 %v, slowest %v", len(pods), verb, took[len(took)/2], took[len(took)-1])
	}
	sameSnapshot(t, before, l.Nodes["node1"])
}

// atOnce runs a verb for all pods at once; the durations are sorted.
func atOnce(t *testing.T, l *testbed.Lab, tool, verb string, pods []*testbed.Pod) []time.Duration {
	t.Helper()
	took := make([]time.Duration, len(pods))
	var running sync.WaitGroup
	started := time.Now()
	for i, p := range pods {
		running.Go(func() {
			node := *p.Node.Place
			node.Env = append(slices.Clone(node.Env), "CNI_PATH="+l.Bin, "NETCONFPATH="+filepath.Dir(p.Node.ConflistFile()),
				"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME="+p.Name)
			if out, err := node.Run(context.Background(), tool, verb, "vrouter", p.Netns); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			took[i] = time.Since(started)
		})
	}
	running.Wait()
	slices.Sort(took)
	return took
}
