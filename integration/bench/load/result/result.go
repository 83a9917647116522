// Package result is what a workload of benchload prints: one line of JSON. The
// program writes it, the orchestrator of the benchmark reads it. It holds no
// state and measures nothing but the processor time of the machine.
package result

import "time"

// Result is one run of one workload. Fields that a workload does not measure
// are left out.
type Result struct {
	Workload string   `json:"workload"`
	To       string   `json:"to,omitempty"` // address and port, or the interface a sink counts on
	Seconds  float64  `json:"seconds"`      // that were measured, warm-up not included
	Parallel int      `json:"parallel,omitempty"`
	Bytes    uint64   `json:"bytes,omitempty"` // that the receiver took (bulk, sink)
	Gbps     float64  `json:"gbps,omitempty"`  // of those bytes: payload for bulk, frames for sink
	Count    uint64   `json:"count,omitempty"` // transactions, connections or packets
	Rate     float64  `json:"rate,omitempty"`  // Count per second
	Failed   uint64   `json:"failed,omitempty"`
	Latency  *Latency `json:"latency,omitempty"`
	CPU      CPU      `json:"cpu"`
	Note     string   `json:"note,omitempty"` // what a reader must know: how frames were made, the last failure
}

// Latency of the transactions, microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

// CPU is processor time in seconds spent between start and end of the
// measurement. Work done in interrupts for others is charged to whoever happened
// to run, so that only the machine's total is comparable between subjects.
type CPU struct {
	Process float64 `json:"process"` // of the program itself
	Machine float64 `json:"machine"` // all that was not idle, all processors, everybody
	Softirq float64 `json:"softirq"` // the part of Machine in software interrupts
	Steal   float64 `json:"steal"`   // taken by the hypervisor; not in Machine
}

// Gbps converts bytes in a time to gigabits a second.
func Gbps(bytes uint64, in time.Duration) float64 {
	if in <= 0 {
		return 0
	}
	return float64(bytes) * 8 / in.Seconds() / 1e9
}
