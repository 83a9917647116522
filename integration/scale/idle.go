package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	idlePods    = 50
	usualFlows  = 1 << 18 // as without configuration
	usualFlows6 = 1 << 16
	idleFor     = 20 * time.Second
	idleMost    = 0.02 // of one core
	firstMost   = 200 * time.Microsecond
)

// idle watches a fast path with pods that say nothing: what it costs, and how long the
// first packet takes after a tenth of a second of silence. The same packets over a
// veth pair show what of that is the machine's.
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

// firstPackets sends one packet every tenth of a second, to another pod and, as a
// control, over a pair of devices between the same two.
func firstPackets(ctx context.Context, r *report, b *bed) error {
	one, two := *b.pods[0], *b.pods[1]
	one.addr, two.addr = netip.AddrFrom4([4]byte{203, 0, 113, 1}), netip.AddrFrom4([4]byte{203, 0, 113, 2})
	if err := sh(`ip -n %[1]s link add direct type veth peer name direct netns %[2]s
		ip -n %[1]s addr add %[3]s/24 dev direct; ip -n %[1]s link set direct up
		ip -n %[2]s addr add %[4]s/24 dev direct; ip -n %[2]s link set direct up`, one.Name, two.Name, one.addr, two.addr); err != nil {
		return err
	}
	if _, err := firsts(ctx, r, "veth alone", &one, &two); err != nil {
		return err
	}
	p99, err := firsts(ctx, r, "fast path", b.pods[0], b.pods[1])
	if err != nil {
		return err
	}
	r.verdict(p99 < firstMost, "first packet after 100 ms of silence: p99 %v; below %v", p99, firstMost)
	return nil
}

func firsts(ctx context.Context, r *report, what string, from, to *pod) (p99 time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, idleFor)
	defer cancel()
	got, sent, err := stream(ctx, from, to, 7000, 100*time.Millisecond)
	if err != nil {
		return 0, err
	}
	took := make([]time.Duration, 0, len(got))
	for _, p := range got {
		took = append(took, p.took)
	}
	r.say("  %-10s first packets: %d sent, %d lost; p50 %v p90 %v p99 %v max %v", what, sent, sent-len(got),
		quantile(took, .5), quantile(took, .9), quantile(took, .99), quantile(took, 1))
	return quantile(took, .99), nil
}

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
