package main

import (
	"fmt"
	"time"
)

// The line of offload: auto, between flows that go to the kernel and those that stay with
// the workers (forward/bulk): the same flows by both, at several rates.
// `make bench-line` prints what its constants were set by.

// streams are echoed datagrams, so many a second of such a size: a flow and its answers.
var streams = []struct{ rate, size int }{
	{1000, 64}, {5000, 64}, {20_000, 64}, {60_000, 64}, {1000, 1400}, {5000, 1400}, {20_000, 1400},
}

func lineWorkloads() []workload {
	all := workloads()
	list := []workload{all[workloadAt(all, tcpRR)], all[workloadAt(all, udpRR)]}
	for _, s := range streams {
		list = append(list, workload{
			fmt.Sprintf("stream-%dk-%d", s.rate/1000, s.size), fmt.Sprintf("UDP, %d datagrams/s of %d bytes, echoed: p50/p99/p99.9 us", s.rate, s.size),
			[]string{"udp-stream", "-rate", fmt.Sprint(s.rate), "-size", fmt.Sprint(s.size)}, 1500 * time.Millisecond, "M echoes", []string{p50, p99, p999}, requestValues,
		})
	}
	return append(list, all[workloadAt(all, bulk1)])
}

// lineEntrants are this router alone: workers or kernel, workers that sleep or spin.
func lineEntrants() []entrant {
	var names []string
	for _, w := range lineWorkloads() {
		names = append(names, w.name)
	}
	on := func(offload, poll string) func(*options) subject {
		return newOurs(ours{offload: offload, poll: poll, alone: true, services: few})
	}
	mine := tasks(names, []string{local, vipLocal})
	return []entrant{
		{"workers", "offload: off", false, on("off", ""), mine},
		{"kernel", "offload: force", false, on("force", ""), mine},
		{"workers-busy", "offload: off, poll: busy", false, on("off", "busy"), mine},
		{"kernel-busy", "offload: force, poll: busy", false, on("force", "busy"), mine},
	}
}
