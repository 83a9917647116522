// Command demo is the program behind `make demo`: it shows one service, two
// nodes and six pods at work and explains what it shows. The cluster belongs to
// package testbed; this program only drives it and looks at it through the
// operator's commands. It is not a test: those are in package integration.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: demo run|up|down          build the demo, explain it, remove it again | leave it running | remove it
       demo serve NAME ADDR...   answer HTTP with NAME
       demo load COUNT ADDR      make COUNT connections and count who answered
       demo hold ADDR NAME...    keep one connection open to any of these names`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command\n%s", usage)
	}
	verb, rest := args[0], args[1:]
	if needsRoot := verb == "run" || verb == "up" || verb == "down"; needsRoot && os.Getuid() != 0 {
		return fmt.Errorf("%s makes network namespaces and loads BPF programs: run it as root", verb)
	}
	switch {
	case verb == "run":
		return run(ctx)
	case verb == "up":
		return up(ctx)
	case verb == "down":
		return down()
	case verb == "serve" && len(rest) >= 2:
		return serve(ctx, rest[0], rest[1:])
	case verb == "load" && len(rest) == 2:
		return load(ctx, rest[0], rest[1])
	case verb == "hold" && len(rest) >= 2:
		return hold(ctx, rest[0], rest[1:])
	}
	return fmt.Errorf("%q is no command of this program, or lacks an argument\n%s", args[0], usage)
}
