package main

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vragent/vragent/conf"
)

// Many pods at once: a node that boots.
func TestParallelAdds(t *testing.T) {
	n := newNode(t)
	list := n.network("1.1.0")
	before := n.snapshot()
	var pods []*container
	for range 60 {
		pods = append(pods, n.container())
	}
	all := func(what string, f func(*container) error) {
		var running sync.WaitGroup
		start := time.Now()
		took := make([]time.Duration, len(pods))
		for i, pod := range pods {
			running.Go(func() {
				if err := f(pod); err != nil {
					t.Errorf("%s %s: %v", what, pod.id, err)
				}
				took[i] = time.Since(start).Round(time.Millisecond)
			})
		}
		running.Wait()
		slices.Sort(took)
		t.Logf("%d × %s at once, without the fast path: p50 %v, slowest %v", len(pods), what, took[len(took)/2], took[len(took)-1])
	}
	all("ADD", func(c *container) error { _, err := n.add(list, c); return err })
	for _, pod := range pods {
		n.wantKernel(pod, 1468)
	}
	all("CHECK", func(c *container) error { return n.check(list, c) })
	all("DEL", func(c *container) error { return n.del(list, c) })
	n.wantSame(before)
	n.wantQuiet()
}

// One after the other: nothing piles up, and it is quick.
func TestSequentialCycles(t *testing.T) {
	n := newNode(t)
	list, pod := n.network("1.1.0"), n.container()
	before := n.snapshot()
	var took []time.Duration
	for range 60 {
		start := time.Now()
		n.mustAdd(list, pod)
		took = append(took, time.Since(start))
		if err := n.del(list, pod); err != nil {
			t.Fatal(err)
		}
	}
	n.wantSame(before)
	slices.Sort(took)
	t.Logf("ADD, without the fast path: p50 %v, p95 %v", took[len(took)/2], took[len(took)*95/100])
}

// The shipped conflist works as it is (with a run directory of the test).
func TestExampleConflist(t *testing.T) {
	n := newNode(t)
	text, err := os.ReadFile("../conf/examples/10-vrouter.conflist")
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer("/run/vragent", n.runDir, "/var/log/vrouter.log", n.logFile).Replace(string(text))
	if err := conf.CheckCNIList("10-vrouter.conflist", []byte(moved)); err != nil {
		t.Fatal(err)
	}
	n.wantLife(moved)
}
