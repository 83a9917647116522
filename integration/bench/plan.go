package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/bench/figures"
	"github.com/vragent/vragent/integration/bench/load/result"
)

// Paths a workload takes. The client's pod is on node1, as is the local server's;
// the remote server's is on node2.
const (
	local     = "local"      // pod to pod, same node
	remote    = "remote"     // pod to pod, across nodes
	vipLocal  = "vip-local"  // pod to service, backend on the same node
	vipRemote = "vip-remote" // pod to service, backend on the other node
)

var (
	podPaths     = []string{local, remote}
	servicePaths = []string{vipLocal, vipRemote}
	allPaths     = []string{local, remote, vipLocal, vipRemote}
)

// Metrics of samples.
const (
	gbps    = "gbps"    // of TCP payload
	rate    = "rate"    // transactions or connections a second
	mpps    = "mpps"    // packets that arrived
	p50     = "p50_us"  // latencies
	p99     = "p99_us"  //
	p999    = "p999_us" //
	cpu     = "cpu_s"   // of the whole machine, see measure
	cpuUnit = "cpu_per" // cpu seconds per unit of the workload
	steal   = "steal_s" // what the hypervisor took from us
)

// workload is one kind of load.
type workload struct {
	name, title string
	args        []string // of benchload
	long        time.Duration
	unit        string // of cpuUnit
	metrics     []string
	values      func(*result.Result) map[string]float64
}

const (
	bulk1    = "tcp-bulk-1"
	bulk8    = "tcp-bulk-8"
	tcpRR    = "tcp-rr"
	udpRR    = "udp-rr"
	connects = "connections"
	flood    = "udp-64"
)

// workloads are run in this order. flows of the flood: enough that no cache of a
// single entry answers them all, few enough for every table.
func workloads() []workload {
	rr := []string{p50, p99, p999}
	return []workload{
		{bulk1, "TCP bulk, 1 stream: Gb/s", []string{"tcp-bulk", "-streams", "1"}, 1500 * time.Millisecond, "GB", []string{gbps}, bulkValues},
		{bulk8, "TCP bulk, 8 streams: Gb/s", []string{"tcp-bulk", "-streams", "8"}, 1500 * time.Millisecond, "GB", []string{gbps}, bulkValues},
		{tcpRR, "TCP request/response: p50/p99/p99.9 us", []string{"tcp-rr"}, 1500 * time.Millisecond, "M requests", rr, requestValues},
		{udpRR, "UDP request/response: p50/p99/p99.9 us", []string{"udp-rr"}, 1500 * time.Millisecond, "M requests", rr, requestValues},
		{connects, "new TCP connections: 1/s", []string{"conn-rate"}, 1500 * time.Millisecond, "M connections", []string{rate}, requestValues},
		{flood, "UDP, 64-byte frames: Mpps received", []string{"udp-flood", "-flows", "64"}, 1500 * time.Millisecond, "M packets", []string{mpps}, packetValues},
	}
}

func bulkValues(r *result.Result) map[string]float64 {
	return map[string]float64{gbps: r.Gbps, cpuUnit: r.CPU.Machine / (float64(r.Bytes) / 1e9)}
}

func requestValues(r *result.Result) map[string]float64 {
	v := map[string]float64{rate: r.Rate, cpuUnit: r.CPU.Machine / (float64(r.Count) / 1e6)}
	if r.Latency != nil {
		v[p50], v[p99], v[p999] = r.Latency.P50, r.Latency.P99, r.Latency.P999
	}
	return v
}

func packetValues(r *result.Result) map[string]float64 {
	return map[string]float64{mpps: r.Rate / 1e6, cpuUnit: r.CPU.Machine / (float64(r.Count) / 1e6)}
}

// entrant is one subject of the benchmark, and what it is asked to do.
type entrant struct {
	name string
	what string // one line for people
	// resident: it costs nothing while others are measured, and is built once. The
	// others are built afresh for each of their turns.
	resident bool
	build    func(*options) subject
	tasks    []task
}

// task is a workload on a path.
type task struct{ workload, path string }

func tasks(names []string, paths []string) []task {
	var list []task
	for _, w := range names {
		for _, p := range paths {
			if w == connects && !slices.Contains(servicePaths, p) {
				continue // it is services that new connections are dear for
			}
			list = append(list, task{w, p})
		}
	}
	return list
}

// Numbers of services.
const (
	few  = 10
	many = 10_000
)

// entrants take their turns in this order, round by round.
func entrants() []entrant {
	every := []string{bulk1, bulk8, tcpRR, udpRR, connects, flood}
	plain := []string{bulk1, bulk8, tcpRR, udpRR, flood}
	return []entrant{
		{"ours-off", "this router, offload: off", false, newOurs(ours{offload: "off", services: few}), tasks(every, allPaths)},
		{"bridge", "Linux bridge, VXLAN between nodes, no services", true, newBridge("", few), tasks(plain, podPaths)},
		{"ours-auto", "this router, offload: auto", false, newOurs(ours{offload: "auto", services: few}), tasks(every, allPaths)},
		{"nftables", "Linux bridge, VXLAN, kube-proxy nftables, 10 services", true, newBridge("nftables", few), tasks(every, servicePaths)},
		{"ours-busy", "this router, offload: auto, poll: busy, one node", false, newOurs(ours{offload: "auto", poll: "busy", alone: true, services: few}), tasks([]string{tcpRR, udpRR}, []string{local, vipLocal})},
		{"iptables", "Linux bridge, VXLAN, kube-proxy iptables, 10 services", true, newBridge("iptables", few), tasks(every, servicePaths)},
		{"ours-tap", "this router, offload: off, io: tap", false, newOurs(ours{offload: "off", io: "tap", services: few}), tasks([]string{bulk1, bulk8, tcpRR, flood}, allPaths[:2])},
		{"ours-afxdp", "this router, offload: off, fabric.io: afxdp", false, newOurs(ours{offload: "off", fabric: "afxdp", services: few}), tasks([]string{bulk1, bulk8, tcpRR, flood}, []string{remote})},
		{"ovs", "Open vSwitch, user space datapath, AF_XDP ports", false, newScript("ovs"), tasks(plain, podPaths[:1])},
		{"testpmd", "DPDK testpmd, net_af_xdp, forwards and does nothing else", false, newScript("testpmd"), tasks([]string{flood}, podPaths[:1])},
		{"ours-auto-10k", "this router, offload: auto, 10,000 services", false, newOurs(ours{offload: "auto", services: many}), tasks([]string{connects}, servicePaths)},
		{"nftables-10k", "the same bridge, kube-proxy nftables, 10,000 services", true, newBridge("nftables", many), tasks([]string{connects}, servicePaths)},
		{"iptables-10k", "the same bridge, kube-proxy iptables, 10,000 services", true, newBridge("iptables", many), tasks([]string{connects}, servicePaths)},
		{"veth", "a veth pair and nothing between its ends: limit of the machine", true, newVeth, tasks(plain, podPaths[:1])},
		{"loopback", "127.0.0.1: limit of the machine", true, newLoopback, tasks([]string{bulk1, bulk8, tcpRR, udpRR}, podPaths[:1])},
	}
}

// choose keeps what was asked for: names separated by commas, "" for all.
func choose[T any](all []T, name func(T) string, asked string) ([]T, error) {
	if asked == "" {
		return all, nil
	}
	var chosen []T
	for _, want := range strings.FieldsFunc(asked, func(r rune) bool { return r == ',' || r == ' ' }) {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == want })
		if i < 0 {
			var known []string
			for _, t := range all {
				known = append(known, name(t))
			}
			return nil, fmt.Errorf("%q is unknown; known: %s", want, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// floors void a run.
func floors() []figures.Floor {
	return []figures.Floor{
		{Cell: figures.Cell{Subject: "bridge", Workload: bulk1, Path: local}, Metric: gbps, AtLeast: 6},
		{Cell: figures.Cell{Subject: "testpmd", Workload: flood, Path: local}, Metric: mpps, AtLeast: 0.4},
	}
}
