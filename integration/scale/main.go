// Command scale drives one fast path to what a node is designed for and says whether
// it holds: large tables learnt beside a stream of packets, two million flows, a full
// flow table under a flood, an idle node. It owns a few network namespaces and fast
// path processes, and removes them, also those of a run that was killed. It does not
// compare with others: that is for integration/bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch verb, rest := verb(os.Args); verb {
	case "spin": // these three are processes that experiments start
		err = spin(ctx, rest)
	case "pass":
		err = pass(ctx, rest)
	case "shower":
		err = pour(ctx, rest)
	default:
		err = measure(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func verb(args []string) (string, []string) {
	if len(args) < 2 {
		return "", nil
	}
	return args[1], args[2:]
}

type experiment struct {
	name string
	run  func(context.Context, *report) error
}

func experiments() []experiment {
	return []experiment{{"load", load}, {"memory", memory}, {"flood", flood}, {"idle", idle}}
}

// measure runs the experiments that args name, or all.
func measure(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("scale", flag.ContinueOnError)
	var r report
	set.StringVar(&r.vragent, "vragent", "build/bin/vragent", "the program to measure")
	set.StringVar(&r.load, "load", "build/tools/benchload", "the benchmark's load program")
	out := set.String("o", "", "also write to this file")
	if err := set.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(set.Args())
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: network namespaces, BPF, AF_XDP")
	}
	if runtime.NumCPU() < 2 {
		return errors.New("needs two cores: one of them is the worker's")
	}
	if err := sweep(); err != nil {
		return err
	}
	r.say("vragent at scale: %s, %s, %d cores, %s", kernel(), processor(), runtime.NumCPU(), time.Now().UTC().Format(time.DateTime))
	for _, e := range chosen {
		r.say("\n%s", e.name)
		if err := e.run(ctx, &r); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	r.end()
	if *out == "" {
		return nil
	}
	return os.WriteFile(*out, []byte(r.text.String()), 0o644)
}

func choose(names []string) (chosen []experiment, err error) {
	if len(names) == 0 {
		return experiments(), nil
	}
	for _, name := range names {
		known := len(chosen)
		for _, e := range experiments() {
			if e.name == name {
				chosen = append(chosen, e)
			}
		}
		if len(chosen) == known {
			return nil, fmt.Errorf("experiment %q: want load, memory, flood or idle", name)
		}
	}
	return chosen, nil
}

func kernel() string {
	text, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return "unknown kernel"
	}
	return strings.TrimSpace(string(text))
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// report is what is printed, and kept.
type report struct {
	// Set once by measure.
	vragent, load string // programs

	text        strings.Builder
	met, missed int
}

func (r *report) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Println(line)
	fmt.Fprintln(&r.text, line)
}

// verdict says a target and whether it was met.
func (r *report) verdict(met bool, format string, args ...any) {
	word := "met   "
	if met {
		r.met++
	} else {
		r.missed++
		word = "MISSED"
	}
	r.say("  %s  %s", word, fmt.Sprintf(format, args...))
}

func (r *report) end() { r.say("\n%d targets met, %d missed", r.met, r.missed) }

// rest waits for a time, or until the run ends.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
