package show

import (
	"fmt"
	"io"
	"time"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
)

// Status is the health of a node: of both processes, or why one is silent, and
// of what they depend on.
type Status struct {
	State         string          `json:"state"` // Healthy, Unhealthy, Unknown
	Problems      []string        `json:"problems"`
	Agent         *rpc.Status     `json:"agent,omitempty"`
	AgentError    string          `json:"agentError,omitempty"`
	FastPath      *control.Status `json:"fastpath,omitempty"`
	FastPathError string          `json:"fastpathError,omitempty"`
	CNI           rpc.Condition   `json:"cni"`
	Waiting       []rpc.VMI       `json:"waiting,omitempty"` // pods of this node that are not attached
}

// States of a node.
const (
	Healthy   = "healthy"
	Unhealthy = "not healthy"
	Unknown   = "unknown" // the agent, which would know, does not answer
)

// stalled is the age at which a worker's last sign of life is a fault: a
// sleeping worker wakes far more often. Milliseconds.
const stalled = 3000

// Judge fills in State and Problems: a sentence for each thing that is wrong,
// with what to do.
func (s *Status) Judge() {
	s.Problems = []string{}
	add := func(what, message, fix string) { s.Problems = append(s.Problems, withFix(what+": "+message, fix)) }
	if s.Agent == nil {
		s.Problems = append(s.Problems, s.AgentError)
	} else {
		for _, c := range s.Agent.Conditions {
			if !c.OK {
				add(c.Name, c.Message, c.Fix)
			}
		}
	}
	switch {
	case s.FastPath == nil:
		s.Problems = append(s.Problems, s.FastPathError)
	case s.FastPath.State != "running":
		add("fast path", "it is "+s.FastPath.State+" and forwards nothing", "the agent programs it: see the agent's conditions")
	default:
		for _, w := range s.FastPath.Workers {
			if w.LastAliveMS > stalled {
				add("fast path", fmt.Sprintf("worker %d has not turned for %d ms", w.Worker, w.LastAliveMS), "is its core overloaded? If not, restart vragent fastpath: flows are kept")
			}
		}
	}
	if !s.CNI.OK {
		add(s.CNI.Name, s.CNI.Message, s.CNI.Fix)
	}
	switch {
	case s.Agent == nil:
		s.State = Unknown
	case len(s.Problems) > 0:
		s.State = Unhealthy
	default:
		s.State = Healthy
	}
}

func withFix(s, fix string) string {
	if fix == "" {
		return s
	}
	return s + " (" + fix + ")"
}

// WriteStatus prints the health of the node on one screen; now dates what it says.
func WriteStatus(w io.Writer, s *Status, now time.Time) {
	node := "This node"
	if s.Agent != nil {
		node = "Node " + s.Agent.Node
	}
	switch s.State {
	case Healthy:
		fmt.Fprintf(w, "%s is healthy.\n\n", node)
	case Unhealthy:
		fmt.Fprintf(w, "%s is NOT healthy: see \"What to do\" below.\n\n", node)
	default:
		fmt.Fprintf(w, "Whether this node is healthy is UNKNOWN: the agent does not answer.\n\n")
	}
	writeAgent(w, s, now)
	writeFastPath(w, s, now)
	writeRow(w, s.CNI, now)
	if len(s.Problems) == 0 {
		return
	}
	fmt.Fprintf(w, "\nWhat to do\n")
	for _, p := range s.Problems {
		fmt.Fprintf(w, "  - %s\n", p)
	}
}

// writeRow prints one aspect: its name, how it is, since when, and why.
func writeRow(w io.Writer, c rpc.Condition, now time.Time) {
	state := "ok"
	if !c.OK {
		state = "WRONG"
	}
	fmt.Fprintf(w, "%-12s %-6s %-9s %s\n", c.Name, state, ago(now, c.Since), c.Message)
}

func writeAgent(w io.Writer, s *Status, now time.Time) {
	a := s.Agent
	if a == nil {
		writeRow(w, rpc.Condition{Name: "agent", Message: "does not answer"}, now)
		return
	}
	writeRow(w, rpc.Condition{Name: "agent", OK: true, Since: a.Started,
		Message: fmt.Sprintf("process %d, version %s, fabric %s %v", a.PID, a.Version, a.Fabric, a.Address)}, now)
	for _, c := range a.Conditions {
		if c.Name == "fastpath" && c.OK && s.FastPath != nil {
			continue // it has a row of its own
		}
		writeRow(w, c, now)
		if c.Name == "controller" {
			writeControllers(w, a.Controllers, now)
		}
	}
	pods := fmt.Sprintf("%d of %d attached", a.Attached, a.VMIs)
	for i, v := range s.Waiting {
		switch {
		case i == 3:
			pods += fmt.Sprintf(", and %d more", len(s.Waiting)-i)
		case i < 3 && v.Refusal != "":
			pods += "; " + podName(v) + " is refused: " + v.Refusal
		case i < 3:
			pods += "; " + podName(v) + " has not been asked for by the runtime"
		}
	}
	fmt.Fprintf(w, "%-12s %-6s %-9s %s\n", "pods", "-", "-", pods)
	proxy := "expected to run: node ports and external addresses are its work"
	if a.KubeProxyReplacement {
		proxy = "replaced: node ports and external addresses are ours"
	}
	fmt.Fprintf(w, "%-12s %-6s %-9s %s\n", "kube-proxy", "-", "-", proxy)
}

func writeControllers(w io.Writer, list []rpc.Controller, now time.Time) {
	for _, c := range list {
		role, state := "standby", "connected"
		switch {
		case c.Primary:
			role = "primary"
		case !c.Connected:
			role = "away"
		}
		if !c.Connected {
			state = c.Error
		}
		fmt.Fprintf(w, "  %-10s %-6s %-9s %s: %s\n", role, "", ago(now, c.Since), c.Address, state)
	}
}

func writeFastPath(w io.Writer, s *Status, now time.Time) {
	f := s.FastPath
	if f == nil {
		writeRow(w, rpc.Condition{Name: "fast path", Message: "does not answer"}, now)
		return
	}
	writeRow(w, rpc.Condition{Name: "fast path", OK: f.State == "running", Since: f.Started,
		Message: fmt.Sprintf("%s, process %d, version %s, poll %s, epoch %d", f.State, f.PID, f.Version, f.Poll, f.Epoch)}, now)
	for _, k := range f.Workers {
		core := "not pinned"
		if k.Core >= 0 {
			core = fmt.Sprintf("core %d", k.Core)
		}
		fmt.Fprintf(w, "  worker %-3d alive %d ms ago, %s, rx %d, tx %d, drops %d, flows %d of %d, free frames %d\n",
			k.Worker, k.LastAliveMS, core, k.RxPackets, k.TxPackets, k.Drops, k.Flows, k.FlowSize, k.FreeFrames)
	}
	writeOffload(w, f)
	for _, l := range f.Limits {
		fmt.Fprintf(w, "  limit: %s\n", l)
	}
}

// writeOffload prints what the kernel forwards for the workers.
func writeOffload(w io.Writer, f *control.Status) {
	o := &f.Offload
	switch {
	case o.Mode == "" || o.Mode == "off":
		fmt.Fprintf(w, "  offload    off\n")
	case f.State != "running":
		fmt.Fprintf(w, "  offload    %s\n", o.Mode)
	case o.Size == 0:
		fmt.Fprintf(w, "  offload    %s, but not possible on this kernel\n", o.Mode)
	default:
		fmt.Fprintf(w, "  offload    %s, %d of %d entries in the kernel, which has forwarded %d packets, %d bytes beside the workers\n",
			o.Mode, o.Entries, o.Size, o.Packets, o.Bytes)
		fmt.Fprintf(w, "             entries put %d, deleted %d, adopted %d, refused %d, vanished %d, lost orders %d\n",
			o.Put, o.Deleted, o.Adopted, o.Refused, o.Vanished, o.Lost)
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
		if len(v.ClusterAddrs) > 0 {
			fmt.Fprintf(w, "    outside of its network %s\n", addrList(v.ClusterAddrs))
		}
		if v.Refusal != "" {
			fmt.Fprintf(w, "    refused: %s\n", v.Refusal)
		}
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
