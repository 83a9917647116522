package show

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

// flowCell is the size of one entry of a flow table, in bytes.
const flowCell = 128

const flowLegend = `
Action:F=Forward, D=Drop N=NAT(S=SNAT, D=DNAT, Ps=SPAT, Pd=DPAT, L=Link Local Port)
 Other:K(nh)=Key_Nexthop, S(nh)=RPF_Nexthop
 Flags:E=Evicted, Ec=Evict Candidate, N=New Flow, M=Modified Dm=Delete Marked
TCP(r=reverse):S=SYN, F=FIN, R=RST, C=HalfClose, E=Established, D=Dead
`

const flowColumns = `
    Index                Source:Port/Destination:Port                      Proto(V)
-----------------------------------------------------------------------------------
`

// WriteFlowHeader prints the size and use of the tables, the legend and, if the
// list is of some flows only, which ones.
func WriteFlowHeader(w io.Writer, s *control.Status, which string) {
	var size, used, handoffs, splits uint64
	var perCPU []string
	for _, worker := range s.Workers {
		size += uint64(worker.FlowSize)
		used += uint64(worker.Flows)
		handoffs += worker.Handoffs
		splits += worker.Splits
		perCPU = append(perCPU, fmt.Sprint(worker.Flows))
	}
	fmt.Fprintf(w, "Flow table(size %d, entries %d)\n\n", size*flowCell, size)
	fmt.Fprintf(w, "Entries: Used %d Handoffs %d Splits %d\n(Used Flows/CPU: %s)\n",
		used, handoffs, splits, strings.Join(perCPU, " "))
	fmt.Fprint(w, flowLegend)
	if which != "" {
		fmt.Fprintf(w, "\nListing flows matching %s\n", which)
	}
	fmt.Fprint(w, flowColumns)
}

// WriteFlow prints one entry as Contrail's flow -l does.
func WriteFlow(w io.Writer, f control.Flow) {
	fmt.Fprintf(w, "%9d<=>%-13s%-49s%4d (%d)\n", f.Index, reverseText(f.Reverse), hostPort(f.Src), f.Proto, f.VRF)
	fmt.Fprintf(w, "%25s%s\n", "", hostPort(f.Dst))
	offloaded := ""
	if f.Offloaded {
		offloaded = ", offloaded"
	}
	fmt.Fprintf(w, "(%s,\n Stats:%d/%d,  SPort %d, Idle %.1fs%s)\n\n", flowFields(f),
		f.Packets, f.Bytes, f.Sport, float64(f.IdleMS)/1000, offloaded)
}

// flowFields are the comma separated fields of the first line in Contrail's
// order; TCP and E appear only when they mean something.
func flowFields(f control.Flow) string {
	fields := []string{
		fmt.Sprintf("Gen: %d", f.Gen),
		fmt.Sprintf("K(nh):%d", f.KeyNH),
		"Action:" + ActionText(f),
		"Flags:",
	}
	if f.Proto == 6 {
		fields = append(fields, "TCP:"+f.TCP)
	}
	if f.ECMP >= 0 {
		fields = append(fields, fmt.Sprintf("E:%d", f.ECMP))
	}
	fields = append(fields, "QOS:-1", fmt.Sprintf("S(nh):%d", f.RPF))
	return strings.Join(fields, ", ")
}

// ActionText is the action with its NAT letters or drop reason: F, N(DPd), D(…).
func ActionText(f control.Flow) string {
	switch {
	case f.Action == "N" && f.NAT != "":
		return "N(" + f.NAT + ")"
	case f.Action == "D" && f.Reason != "":
		return "D(" + f.Reason + ")"
	}
	return f.Action
}

func reverseText(index uint32) string {
	if index == control.NoIndex {
		return "-"
	}
	return fmt.Sprint(index)
}

// hostPort is Contrail's form: IPv6 addresses stand without brackets too.
func hostPort(a netip.AddrPort) string {
	return fmt.Sprintf("%v:%d", a.Addr(), a.Port())
}

// Side is what the tables say of one end of a flow: the route that covers the
// address, and where it leads.
type Side struct {
	Prefix netip.Prefix    `json:"prefix,omitzero"`
	NH     table.NextHopID `json:"nh"`
	Type   table.NHType    `json:"type"`
	Text   string          `json:"text"`
}

// FlowDetail is a flow entry, its reverse, and what the tables say of it.
type FlowDetail struct {
	control.Flow
	ReverseFlow *control.Flow `json:"reverseFlow,omitempty"`
	VRFName     string        `json:"vrfName"`
	Source      *Side         `json:"sourceRoute,omitempty"`
	Destination *Side         `json:"destinationRoute,omitempty"`
	KeyText     string        `json:"keyText"`
	NHText      string        `json:"nhText"`
}

// Detail looks up what the tables say of f.
func (t *Tables) Detail(f control.Flow, reverse *control.Flow) FlowDetail {
	return FlowDetail{
		Flow: f, ReverseFlow: reverse, VRFName: t.vrfName(f.VRF),
		Source:      t.side(f.VRF, f.Src.Addr()),
		Destination: t.side(f.VRF, f.Dst.Addr()),
		KeyText:     t.Describe(f.KeyNH),
		NHText:      t.Describe(f.NH),
	}
}

func (t *Tables) side(vrf table.VRFID, a netip.Addr) *Side {
	if !a.IsValid() {
		return nil
	}
	routes := t.Routes(RouteQuery{VRF: vrf, Prefix: netip.PrefixFrom(a, a.BitLen())})
	if vrf == 0 || len(routes) == 0 {
		return nil
	}
	r := routes[0]
	return &Side{r.Prefix, r.NH, r.Type, r.Text}
}

// WriteFlowDetail prints one entry as Contrail's flow --get does.
func WriteFlowDetail(w io.Writer, d FlowDetail) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-28s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Flow Index", "%d", d.Index)
	line("Flow Generation", "%d", d.Gen)
	line("Reverse Index", "%s", reverseText(d.Reverse))
	line("Direction", "%s", directionText(d.Flow))
	line("VRF", "%d (%s)", d.VRF, d.VRFName)
	line("Flow Source", "%v", d.Src)
	line("Flow Destination", "%v", d.Dst)
	line("Protocol", "%s", ProtoName(d.Proto))
	line("Action", "%s", actionWords(d.Flow))
	if d.Action == "N" {
		line("NAT Source", "%v", d.NewSrc)
		line("NAT Destination", "%v", d.NewDst)
	}
	line("Key NextHop", "%d, %s", d.KeyNH, d.KeyText)
	line("RPF NextHop", "%d", d.RPF)
	writeSide(line, "Source", d.Source)
	writeSide(line, "Destination", d.Destination)
	line("Egress NextHop", "%d, %s", d.NH, d.NHText)
	if d.Label != 0 {
		line("Egress Label", "%d", d.Label)
	}
	if d.ECMP >= 0 {
		line("ECMP Member", "%d", d.ECMP)
	}
	if d.Proto == 6 {
		line("TCP Flags", "%s (%s)", d.TCP, tcpWords(d.TCP))
	}
	line("UDP Source Port", "%d", d.Sport)
	line("Statistics", "packets %d, bytes %d, idle %.1fs", d.Packets, d.Bytes, float64(d.IdleMS)/1000)
	line("Forwarded By", "%s", forwardedBy(d.Flow))
	if r := d.ReverseFlow; r != nil {
		line("Reverse Flow", "%v -> %v, Action %s, packets %d, bytes %d", r.Src, r.Dst, ActionText(*r), r.Packets, r.Bytes)
	}
}

func writeSide(line func(string, string, ...any), name string, s *Side) {
	if s == nil {
		line(name+" Matching Route", "none")
		return
	}
	line(name+" Matching Route", "%v", s.Prefix)
	line(name+" NextHop", "%d, %s", s.NH, s.Text)
}

func forwardedBy(f control.Flow) string {
	if f.Offloaded {
		return "the kernel (offloaded); first and last packets, fragments and what does not fit by the workers"
	}
	return "the workers"
}

func directionText(f control.Flow) string {
	if f.Forward {
		return "forward (the first packet went this way)"
	}
	return "reverse"
}

func actionWords(f control.Flow) string {
	switch f.Action {
	case "F":
		return "Forward"
	case "N":
		var words []string
		for _, l := range natLetters(f.NAT) {
			words = append(words, map[string]string{"S": "SNAT", "D": "DNAT", "Ps": "SPAT", "Pd": "DPAT"}[l])
		}
		return "NAT(" + strings.Join(words, ", ") + ")"
	case "D":
		return "Drop(" + f.Reason + ")"
	}
	return f.Action
}

// natLetters cuts "SPsDPd" into S, Ps, D, Pd.
func natLetters(s string) []string {
	var out []string
	for i := 0; i < len(s); i++ {
		if s[i] == 'P' && i+1 < len(s) {
			out = append(out, s[i:i+2])
			i++
			continue
		}
		out = append(out, s[i:i+1])
	}
	return out
}

// tcpWords spells the letters out: "SYN, SYN reverse, Established, …".
func tcpWords(s string) string {
	names := map[byte]string{'S': "SYN", 'F': "FIN", 'R': "RST", 'C': "HalfClose", 'E': "Established", 'D': "Dead"}
	var out []string
	for i := 0; i < len(s); i++ {
		if s[i] == 'r' && len(out) > 0 {
			out[len(out)-1] += " reverse"
			continue
		}
		out = append(out, names[s[i]])
	}
	return strings.Join(out, ", ")
}
