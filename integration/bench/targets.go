package main

import "github.com/vragent/vragent/integration/bench/figures"

// targets are the lines this router is to reach, as ratios of medians of one
// run. They are not moved to fit a result.
func targets() []figures.Target {
	var t []figures.Target
	for _, w := range []string{bulk1, bulk8} {
		t = append(t,
			atLeast(1.0, "pod to pod, same node", figures.Cell{Subject: "ours-auto", Workload: w, Path: local}, gbps, "bridge"),
			atLeast(1.1, "pod to VIP, local", figures.Cell{Subject: "ours-auto", Workload: w, Path: vipLocal}, gbps, "nftables"),
			atLeast(1.0, "across nodes, MPLSoUDP : VXLAN", figures.Cell{Subject: "ours-auto", Workload: w, Path: remote}, gbps, "bridge"),
			atLeast(1.0, "user plane, veth", figures.Cell{Subject: "ours-off", Workload: w, Path: local}, gbps, "ovs"),
			atLeast(3.0, "user plane, tap", figures.Cell{Subject: "ours-tap", Workload: w, Path: local}, gbps, "ovs"))
	}
	small := figures.Cell{Subject: "ours-off", Workload: flood, Path: local}
	t = append(t,
		atLeast(1.2, "user plane", small, mpps, "ovs"),
		atLeast(0.8, "user plane", small, mpps, "testpmd"),
		atLeast(1.3, "pod to pod, same node", figures.Cell{Subject: "ours-auto", Workload: flood, Path: local}, mpps, "bridge"))
	for _, p := range servicePaths {
		tenth := figures.Cell{Subject: "ours-auto", Workload: connects, Path: p}
		all := figures.Cell{Subject: "ours-auto-10k", Workload: connects, Path: p}
		t = append(t,
			atLeast(1.0, "10 services", tenth, rate, "iptables", "nftables"),
			atLeast(1.0, "10,000 services", all, rate, "iptables-10k", "nftables-10k"),
			atLeast(0.9, "10,000 services : 10, flat", all, rate, "ours-auto"))
	}
	for _, w := range []string{tcpRR, udpRR} {
		for _, p := range servicePaths {
			adaptive := figures.Cell{Subject: "ours-auto", Workload: w, Path: p}
			t = append(t, atMost(0.9, "poll: adaptive", adaptive, p50), atMost(1.0, "poll: adaptive", adaptive, p99))
		}
		busy := figures.Cell{Subject: "ours-busy", Workload: w, Path: vipLocal}
		t = append(t, atMost(0.6, "poll: busy", busy, p50), atMost(0.8, "poll: busy", busy, p99))
	}
	return t
}

// atLeast is a line for a rate, against the same workload on the same path of
// the best of others.
func atLeast(ratio float64, what string, c figures.Cell, metric string, others ...string) figures.Target {
	return figures.Target{What: what, Cell: c, Metric: metric, Against: against(c, others), AtLeast: ratio}
}

// atMost is a line for a latency to a service, against the best of kube-proxy.
func atMost(ratio float64, what string, c figures.Cell, metric string) figures.Target {
	return figures.Target{What: what, Cell: c, Metric: metric, Against: against(c, []string{"iptables", "nftables"}), AtMost: ratio}
}

func against(c figures.Cell, subjects []string) []figures.Cell {
	var cells []figures.Cell
	for _, s := range subjects {
		cells = append(cells, figures.Cell{Subject: s, Workload: c.Workload, Path: c.Path})
	}
	return cells
}
