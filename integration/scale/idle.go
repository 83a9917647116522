package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	idlePods  = 50
	idleFor   = 20 * time.Second
	idleMost  = 0.02 // of one core
	firstMost = 200 * time.Microsecond
)

// idle watches a fast path with pods that say nothing: what it costs, and how long the
// first packet takes after a tenth of a second of silence. The same packets over a
// veth pair would show what of that is the machine's.
func idle(ctx context.Context, r *report, vragent string) error {
	b, err := build(vragent, idlePods, settings{poll: "adaptive", flows: 65536, core: core})
	if err != nil {
		return err
	}
	defer b.down()
	s, err := b.status()
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // attaching is over
	tid, err := workerThread(s.PID, core)
	if err != nil {
		return err
	}
	all, worker := fmt.Sprintf("/proc/%d/task/*/schedstat", s.PID), fmt.Sprintf("/proc/%d/task/%d/schedstat", s.PID, tid)
	spent, own := -cpuOf(all), -cpuOf(worker)
	time.Sleep(idleFor)
	spent, own = spent+cpuOf(all), own+cpuOf(worker)
	share := float64(spent) / float64(idleFor)
	r.say("%d pods, nothing said for %v: %.2f %% of one core, of which the worker %.2f %%%s", idlePods, idleFor,
		100*share, 100*float64(own)/float64(idleFor), missed(share > idleMost))
	quit := make(chan struct{})
	time.AfterFunc(idleFor, func() { close(quit) })
	got, sent, err := stream(b.pods[0], b.pods[1], 7000, 100*time.Millisecond, quit)
	if err != nil {
		return err
	}
	took := make([]time.Duration, 0, len(got))
	for _, p := range got {
		took = append(took, p.took)
	}
	p99 := quantile(took, .99)
	r.say("first packet after 100 ms: %d sent, %d lost; p50 %v p90 %v p99 %v max %v%s", sent, sent-len(got),
		quantile(took, .5), quantile(took, .9), p99, quantile(took, 1), missed(p99 > firstMost))
	return ctx.Err()
}

func missed(is bool) string {
	if is {
		return "  MISSED"
	}
	return ""
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
