package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/bench/load/result"
)

// quiet is how long the machine is watched before a run.
const quiet = 3 * time.Second

// background is the processors' time that others take: 0.1 is a tenth of one.
func background(ctx context.Context) (busy, stolen float64) {
	clock := result.Start()
	select {
	case <-ctx.Done():
	case <-time.After(quiet):
	}
	passed, cpu := clock.Stop()
	return cpu.Machine / passed.Seconds(), cpu.Steal / passed.Seconds()
}

// machine describes what the figures were taken on.
func machine(ctx context.Context, o *options) string {
	var t strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&t, "%-12s %s\n", key, value)
		}
	}
	line("processor", fmt.Sprintf("%d x %s", runtime.NumCPU(), fieldOf("/proc/cpuinfo", "model name")))
	line("virtual", said("systemd-detect-virt"))
	line("memory", fieldOf("/proc/meminfo", "MemTotal"))
	line("kernel", said("uname", "-srv"))
	line("clock", contents("/sys/devices/system/clocksource/clocksource0/current_clocksource"))
	line("governor", contents("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
	line("system", fieldOf("/etc/os-release", "PRETTY_NAME"))
	line("go", runtime.Version())
	line("revision", said("git", "-C", o.root, "describe", "--always", "--dirty", "--tags"))
	for _, v := range []string{"spectre_v2", "retbleed", "mds"} {
		line(v, contents("/sys/devices/system/cpu/vulnerabilities/"+v))
	}
	busy, stolen := background(ctx)
	line("background", fmt.Sprintf("%.2f processors busy with other things before the run, %.2f stolen", busy, stolen))
	line("run", fmt.Sprintf("%d rounds, interleaved", o.rounds))
	return t.String()
}

// fieldOf reads "key : value" or key=value.
func fieldOf(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		i := strings.IndexAny(s.Text(), ":=")
		if i > 0 && strings.TrimSpace(s.Text()[:i]) == key {
			return strings.Trim(s.Text()[i+1:], ` "`)
		}
	}
	return ""
}

func contents(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
