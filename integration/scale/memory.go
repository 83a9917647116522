package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
)

const (
	manyFlows  = 2 << 20 // entries: 1 Mi conversations
	fewFlows   = 64
	fillRate   = 250_000 // packets a second
	fourInMost = 256 << 20
	sixInMost  = 512 << 20
)

// memory fills a flow table with two million entries of each family, by packets of
// four pods, and says what it holds of the machine's memory.
func memory(ctx context.Context, r *report) error {
	for _, f := range []struct {
		name string
		size flow.Size
		most int
	}{{"IPv4", flow.Size{Four: manyFlows, Six: fewFlows}, fourInMost}, {"IPv6", flow.Size{Four: fewFlows, Six: manyFlows}, sixInMost}} {
		if err := fillTable(ctx, r, f.name, f.size, f.most); err != nil {
			return err
		}
	}
	return nil
}

func fillTable(ctx context.Context, r *report, family string, size flow.Size, most int) error {
	const senders = 4 // each may have a quarter
	b, err := makeBed(r.vragent, senders+1, settings{poll: "adaptive", flows: size.Four, flows6: size.Six, mute: 1})
	if err != nil {
		return err
	}
	defer b.down()
	s, err := b.status()
	if err != nil {
		return err
	}
	before := memoryOf(s.PID)
	start := time.Now()
	each := manyFlows / 2 / senders
	for round := 0; round < 4 && s.Workers[0].Flows < manyFlows && ctx.Err() == nil; round++ { // what a full queue lost comes again
		for _, from := range b.pods[:senders] {
			d := shower{from: from, to: b.pods[senders], six: size.Six > size.Four, flows: each, rate: fillRate, total: each, core: otherCore}
			run, err := d.start()
			if err == nil {
				_, err = run.wait()
			}
			if err != nil {
				return err
			}
		}
		if s, err = b.status(); err != nil {
			return err
		}
	}
	held, err := onDisk(filepath.Join(b.dir, "flows", "worker-0"))
	if err != nil {
		return err
	}
	r.say("%s: %d entries after %v; before: %s; now: %s", family, s.Workers[0].Flows, time.Since(start).Round(100*time.Millisecond), before, memoryOf(s.PID))
	r.verdict(held <= most && s.Workers[0].Flows >= manyFlows*99/100, "%s: %d flow entries in %.1f MiB, %.0f bytes each; at most %d MiB", family,
		s.Workers[0].Flows, float64(held)/(1<<20), float64(held)/float64(s.Workers[0].Flows), most>>20)
	return ctx.Err()
}

// onDisk is how much memory a file of a tmpfs holds.
func onDisk(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("flow memory: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("flow memory: %s says not how much it holds", path)
	}
	return int(stat.Blocks) * 512, nil
}
