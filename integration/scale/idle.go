package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	idlePods    = 50
	usualFlows  = 1 << 18 // as without configuration
	usualFlows6 = 1 << 16
	idleFor     = 20 * time.Second
	idleMost    = 0.02 // of one core
	silence     = 100 * time.Millisecond
	firstsFor   = 80 * time.Second
	settle      = 200 // packets, until a flow that goes on is in the kernel
	firstMost   = 200 * time.Microsecond
)

// idle watches a fast path with pods that say nothing: what it costs, and how long the
// first packet takes after a tenth of a second of silence.
func idle(ctx context.Context, r *report) error {
	b, err := makeBed(r.vragent, idlePods, settings{poll: "adaptive", flows: usualFlows, flows6: usualFlows6})
	if err != nil {
		return err
	}
	defer b.down()
	s, err := b.status()
	if err != nil {
		return err
	}
	if err := rest(ctx, 2*time.Second); err != nil { // attaching is over
		return err
	}
	tid, err := workerThread(s.PID, core)
	if err != nil {
		return err
	}
	all, worker := fmt.Sprintf("/proc/%d/task/*/schedstat", s.PID), fmt.Sprintf("/proc/%d/task/%d/schedstat", s.PID, tid)
	spent, own := -cpuOf(all), -cpuOf(worker)
	if err := rest(ctx, idleFor); err != nil {
		return err
	}
	spent, own = spent+cpuOf(all), own+cpuOf(worker)
	share := float64(spent) / float64(idleFor)
	r.verdict(share < idleMost, "%d pods, nothing said for %v: %.2f %% of one core, the worker %.2f %% of that; below %.0f %%", idlePods, idleFor,
		100*share, 100*float64(own)/float64(idleFor), 100*idleMost)
	return firstPackets(ctx, r, b)
}

// firstPackets sends a packet every tenth of a second between two pods of the idle node, by
// its worker; of another node, by the kernel's flow cache; and as a control over a pair of
// devices between two of them. All three at once, a third of that apart.
func firstPackets(ctx context.Context, r *report, b *bed) error {
	cached, err := makeBed(r.vragent, 2, settings{poll: "adaptive", flows: usualFlows, flows6: usualFlows6, offload: "auto"})
	if err != nil {
		return err
	}
	defer cached.down()
	one, two := *b.pods[2], *b.pods[3]
	one.addr, two.addr = netip.AddrFrom4([4]byte{203, 0, 113, 1}), netip.AddrFrom4([4]byte{203, 0, 113, 2})
	if err := sh(`ip -n %[1]s link add direct type veth peer name direct netns %[2]s
		ip -n %[1]s addr add %[3]s/24 dev direct; ip -n %[1]s link set direct up
		ip -n %[2]s addr add %[4]s/24 dev direct; ip -n %[2]s link set direct up`, one.Name, two.Name, one.addr, two.addr); err != nil {
		return err
	}
	ways := []*way{
		{what: "a pair of devices", from: &one, to: &two},
		{what: "a worker", from: b.pods[0], to: b.pods[1]},
		{what: "the kernel's flow cache", from: cached.pods[0], to: cached.pods[1]},
	}
	ctx, cancel := context.WithTimeout(ctx, firstsFor)
	defer cancel()
	var wg sync.WaitGroup
	for i, w := range ways {
		wg.Go(func() {
			w.got, w.sent, w.err = stream(ctx, w.from, w.to, silence, silence/time.Duration(len(ways))*time.Duration(i))
		})
	}
	wg.Wait()
	for _, w := range ways {
		if err := w.say(r); err != nil {
			return err
		}
	}
	for _, w := range ways[1:] {
		p99 := quantile(w.times(took), .99)
		r.verdict(p99 < firstMost, "first packet after %v of silence, by %s: p99 %v; below %v", silence, w.what, p99, firstMost)
	}
	return nil
}

// way is how first packets get from one pod to another, and what became of them.
type way struct {
	what     string
	from, to *pod
	got      []passing
	sent     int
	err      error
}

func (w *way) times(of func(passing) time.Duration) (all []time.Duration) {
	for _, p := range w.got[min(len(w.got), settle):] {
		all = append(all, of(p))
	}
	return all
}

func (w *way) say(r *report) error {
	r.say("  by %s: %d packets sent, %d lost", w.what, w.sent, w.sent-len(w.got))
	for _, x := range []struct {
		what string
		of   func(passing) time.Duration
	}{{"in the receiver's socket", arrived}, {"read by the receiver", took}} {
		t := w.times(x.of)
		r.say("    %-24s p50 %v p90 %v p99 %v max %v", x.what, quantile(t, .5), quantile(t, .9), quantile(t, .99), quantile(t, 1))
	}
	return w.err
}

func arrived(p passing) time.Duration { return p.arrived }
func took(p passing) time.Duration    { return p.took }

// cpuOf is the time the threads of these schedstat files have run.
func cpuOf(pattern string) (sum time.Duration) {
	files, _ := filepath.Glob(pattern)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread is gone
		}
		ns, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		sum += time.Duration(ns)
	}
	return sum
}
