package show

import (
	"fmt"
	"io"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
)

// Status is the health of a node: of both processes, or why one is silent.
type Status struct {
	OK            bool            `json:"ok"`
	Agent         *rpc.Status     `json:"agent,omitempty"`
	AgentError    string          `json:"agentError,omitempty"`
	FastPath      *control.Status `json:"fastpath,omitempty"`
	FastPathError string          `json:"fastpathError,omitempty"`
}

// stalled is the age at which a worker's last sign of life is a fault: a
// sleeping worker wakes far more often. Milliseconds.
const stalled = 3000

// Problems says, a sentence each, what is wrong; none means healthy.
func (s *Status) Problems() []string {
	var out []string
	if s.Agent == nil {
		out = append(out, s.AgentError)
	} else {
		for _, c := range s.Agent.Conditions {
			if !c.OK {
				out = append(out, withFix(c.Name+": "+c.Message, c.Fix))
			}
		}
	}
	if s.FastPath == nil {
		return append(out, s.FastPathError)
	}
	if s.FastPath.State != "running" {
		out = append(out, "the fast path is "+s.FastPath.State+": it forwards nothing until the agent has programmed it")
	}
	for _, w := range s.FastPath.Workers {
		if w.LastAliveMS > stalled {
			out = append(out, fmt.Sprintf("worker %d of the fast path has not turned for %d ms", w.Worker, w.LastAliveMS))
		}
	}
	return out
}

func withFix(s, fix string) string {
	if fix == "" {
		return s
	}
	return s + " (" + fix + ")"
}

// WriteStatus prints the health of the node; now dates the uptimes.
func WriteStatus(w io.Writer, s *Status, now time.Time) {
	writeAgent(w, s, now)
	fmt.Fprintln(w)
	writeFastPath(w, s, now)
	fmt.Fprintln(w)
	problems := s.Problems()
	if len(problems) == 0 {
		fmt.Fprintln(w, "vRouter is PRESENT and healthy")
		return
	}
	fmt.Fprintf(w, "Problems: %d\n", len(problems))
	for _, p := range problems {
		fmt.Fprintf(w, "  - %s\n", p)
	}
}

func writeAgent(w io.Writer, s *Status, now time.Time) {
	fmt.Fprintln(w, "== vragent ==")
	a := s.Agent
	if a == nil {
		fmt.Fprintf(w, "agent: unreachable\n")
		return
	}
	fmt.Fprintf(w, "agent: active (node %s, pid %d, version %s, up %s)\n", a.Node, a.PID, a.Version, ago(now, a.Started))
	fmt.Fprintf(w, "fabric: %s %v   VMIs: %d, attached: %d\n", a.Fabric, a.Address, a.VMIs, a.Attached)
	for _, c := range a.Conditions {
		state := "ok"
		if !c.OK {
			state = "DEGRADED"
		}
		fmt.Fprintf(w, "  %-12s %-9s %-8s %s\n", c.Name, state, ago(now, c.Since), c.Message)
	}
}

func writeFastPath(w io.Writer, s *Status, now time.Time) {
	fmt.Fprintln(w, "== vragent fastpath ==")
	f := s.FastPath
	if f == nil {
		fmt.Fprintf(w, "fastpath: unreachable\n")
		return
	}
	fmt.Fprintf(w, "fastpath: %s (node %s, pid %d, version %s, up %s, poll %s, epoch %d)\n",
		f.State, f.Node, f.PID, f.Version, ago(now, f.Started), f.Poll, f.Epoch)
	for _, k := range f.Workers {
		core := "not pinned"
		if k.Core >= 0 {
			core = fmt.Sprintf("core %d", k.Core)
		}
		fmt.Fprintf(w, "  worker %d (%s): rx %d packets/%d bytes, tx %d packets/%d bytes, drops %d\n",
			k.Worker, core, k.RxPackets, k.RxBytes, k.TxPackets, k.TxBytes, k.Drops)
		fmt.Fprintf(w, "    flows %d of %d, free frames %d, handoffs %d, splits %d, loops %d, sleeps %d, alive %d ms ago\n",
			k.Flows, k.FlowSize, k.FreeFrames, k.Handoffs, k.Splits, k.Loops, k.Sleeps, k.LastAliveMS)
	}
	for _, l := range f.Limits {
		fmt.Fprintf(w, "  limit: %s\n", l)
	}
}

// ago is how long t lies before now, to the second; "-" when unset.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return now.Sub(t).Truncate(time.Second).String()
}

// WriteVMIs prints a block of lines for each VMI.
func WriteVMIs(w io.Writer, vmis []rpc.VMI) {
	fmt.Fprintf(w, "%-30s %-9s %-24s %7s %5s  %-15s %s\n", "Pod", "State", "Addresses", "Label", "Vif", "Tap", "Network")
	for _, v := range vmis {
		fmt.Fprintf(w, "%-30s %-9s %-24s %7s %5s  %-15s %s\n", podName(v), v.State, addrList(v.Addrs),
			orDash(uint32(v.Label)), orDash(uint32(v.Vif)), orText(v.Tap), v.Network)
		fmt.Fprintf(w, "    uuid %s\n", v.UUID)
		for _, f := range v.FloatingIPs {
			fmt.Fprintf(w, "    floating IP %s\n", f)
		}
	}
}

func podName(v rpc.VMI) string {
	if v.Namespace == "" {
		return v.Name
	}
	return v.Namespace + "/" + v.Pod
}

func orDash(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func orText(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// WriteBlocks prints a line for each leased block.
func WriteBlocks(w io.Writer, blocks []rpc.Block) {
	width := len("Block")
	for _, b := range blocks {
		width = max(width, len(b.Prefix.String()))
	}
	fmt.Fprintf(w, "%-*s  %6s %6s  %s\n", width, "Block", "Used", "Free", "Network")
	for _, b := range blocks {
		fmt.Fprintf(w, "%-*s  %6d %6d  %s\n", width, b.Prefix, b.Used, b.Free, b.Network)
	}
}

// WriteVersions prints the versions of the program and of what runs.
func WriteVersions(w io.Writer, v Versions) {
	fmt.Fprintf(w, "%-10s %s\n%-10s %s\n%-10s %s\n", "vragent", v.Client, "agent", v.Agent, "fastpath", v.FastPath)
}

// Versions are the versions of the program asked and of the running processes.
type Versions struct {
	Client   string `json:"client"`
	Agent    string `json:"agent"`
	FastPath string `json:"fastpath"`
}
