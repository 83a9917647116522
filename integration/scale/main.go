// Command scale loads a fast path with as much as a node is designed for and watches
// packets pass meanwhile, and watches an idle one. It owns a few network namespaces and one fast path process, and removes
// them. It does not compare with others: that is for integration/bench.
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
	if len(os.Args) > 1 && os.Args[1] == "spin" {
		spin(os.Args[2:]) // the control, as a process of its own
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "pass" {
		if err := pass(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "scale: pass:", err)
			os.Exit(1)
		}
		return
	}
	vragent := flag.String("vragent", "build/bin/vragent", "the program to measure")
	out := flag.String("o", "", "also append to this file")
	flag.Parse()
	if err := run(ctx, *vragent, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

var experiments = map[string]func(context.Context, *report, string) error{
	"load": load, "idle": idle,
}

func run(ctx context.Context, vragent, out string, names []string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: network namespaces, BPF, AF_XDP")
	}
	r := &report{}
	r.say("machine: %s, %d cores, %s", kernel(), runtime.NumCPU(), time.Now().UTC().Format(time.DateTime))
	for _, name := range names {
		do := experiments[name]
		if do == nil {
			return fmt.Errorf("experiment %q: want load or idle", name)
		}
		r.say("\n%s", name)
		if err := do(ctx, r, vragent); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if out == "" {
		return nil
	}
	return os.WriteFile(out, []byte(r.text.String()), 0o644)
}

func kernel() string {
	text, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return "unknown kernel"
	}
	return strings.TrimSpace(string(text))
}

// report is what is printed, and kept.
type report struct{ text strings.Builder }

func (r *report) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Println(line)
	fmt.Fprintln(&r.text, line)
}
