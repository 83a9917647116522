package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where a workload runs.
type place struct{ netns, cpus string }

// enter moves this thread and executes the program again from it: namespace and
// processors of a thread are those of everything it executes. Moving a running
// Go program thread by thread is not possible.
func (p place) enter(args []string) error {
	runtime.LockOSThread()
	if p.netns != "" {
		fd, err := unix.Open(p.netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", p.netns, err)
		}
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", p.netns, err)
		}
	}
	if p.cpus != "" {
		set, err := cpuSet(p.cpus)
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("run on processors %s: %w", p.cpus, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, append([]string{os.Args[0]}, args...), os.Environ())
}

func cpuSet(list string) (set unix.CPUSet, err error) {
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return set, fmt.Errorf("processors %q: want numbers and commas", list)
		}
		set.Set(int(n))
	}
	return set, nil
}

// without removes flags that take a value, in each of the forms flag accepts.
func without(args []string, names ...string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") || !slices.Contains(names, name) {
			rest = append(rest, args[i])
			continue
		}
		if !joined {
			i++ // the value is the next argument
		}
	}
	return rest
}
