// Command bench is the program behind `make bench`: it measures this router beside
// every alternative, interleaved in one run, and prints ratios. Each subject owns its
// namespaces and removes them; the figures are computed by package figures, the load
// is made by benchload. It is not a test of correctness: a subject that does not work
// is reported as missing, with the reason.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// options of a run.
type options struct {
	rounds     int
	subjects   string
	workloads  string
	factor     float64 // of the length of each sample
	out        string  // folder of the results
	k8s        string  // folder with kube-proxy
	line       bool    // measures where the line of offload: auto is, and nothing else
	smoke      bool    // proves that everything runs, on any machine: floors do not count, missing samples do
	bin, tools string  // the product's programs; benchload
	root       string  // of the repository
}

// errVoid ends a run whose figures do not count.
var errVoid = errors.New("the run is void")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := bench(ctx, os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	stop()
	if errors.Is(err, errVoid) {
		os.Exit(3)
	}
	os.Exit(1)
}

func bench(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("it makes network namespaces and loads BPF programs: run it as root")
	}
	return run(ctx, o)
}

// parse reads the flags. The program lives in build/tools, the repository is two
// folders up.
func parse(args []string) (*options, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &options{tools: filepath.Dir(self)}
	o.root = filepath.Dir(filepath.Dir(o.tools))
	o.bin = filepath.Join(o.root, "build/bin")
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.IntVar(&o.rounds, "rounds", 5, "rounds; every subject has one turn in each")
	set.StringVar(&o.subjects, "subjects", "", "subjects, separated by commas; empty: all")
	set.StringVar(&o.workloads, "workloads", "", "workloads, separated by commas; empty: all")
	set.Float64Var(&o.factor, "time", 1, "factor for the length of every sample")
	set.StringVar(&o.out, "out", filepath.Join(o.root, "integration/bench/results"), "folder for the results")
	set.StringVar(&o.k8s, "k8s", "", "folder with kube-proxy; empty: those subjects are missing")
	set.BoolVar(&o.line, "line", false, "measure flows by the workers and by the kernel at several rates, and nothing else")
	set.BoolVar(&o.smoke, "smoke", false, "fail because of what is missing, not because of a baseline below its floor")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 || o.rounds < 1 || o.factor <= 0 {
		return nil, fmt.Errorf("want flags, at least one round, and a factor above 0; got %v", args)
	}
	return o, nil
}
