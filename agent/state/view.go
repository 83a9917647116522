package state

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

func networkKey(name string) record.ResourceKey {
	return record.ResourceKey{Type: int32(southbound.Type_TYPE_VIRTUAL_NETWORK), Name: name}
}

// States of a VMI, for people.
const (
	stateExpected  = "expected"  // no ADD yet
	stateRefused   = "refused"   // likewise, and ADD will be refused
	stateAttaching = "attaching" // recorded; the tap is being made
	stateAttached  = "attached"
	stateOrphan    = "orphan" // no longer configured
	stateLost      = "lost"   // the ledger does not know it, and the controller has not said it again
)

// VMIs lists the pods' interfaces: those expected and those here.
func (n *Node) VMIs() []rpc.VMI {
	var out []rpc.VMI
	seen := map[string]bool{}
	for _, a := range n.attachments {
		out = append(out, n.attachedVMI(a))
		seen[a.VMI] = true
	}
	for _, v := range n.config.vmis {
		if !seen[v.uuid] {
			out = append(out, expectedVMI(v))
		}
	}
	out = append(out, n.lostVMIs()...)
	slices.SortFunc(out, func(a, b rpc.VMI) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UUID, b.UUID), cmp.Compare(a.Tap, b.Tap))
	})
	return out
}

func expectedVMI(v *vmi) rpc.VMI {
	out := rpc.VMI{
		UUID: v.uuid, Name: v.name, Namespace: v.pod.namespace, Pod: v.pod.pod, Network: v.network,
		State: stateExpected, Refusal: v.refusal, FloatingIPs: floatingIPs(v.portMaps),
	}
	if v.refusal != "" {
		out.State = stateRefused
	}
	return out
}

func (n *Node) attachedVMI(a *attachment) rpc.VMI {
	out := rpc.VMI{UUID: a.VMI, Name: a.Namespace + "/" + a.Pod, State: stateOrphan}
	if v := n.config.vmis[a.VMI]; v != nil {
		out = expectedVMI(v)
		switch {
		case v.orphan:
			out.State = stateOrphan
		case a.ifindex == 0:
			out.State = stateAttaching
		default:
			out.State = stateAttached
		}
	}
	ids := n.numbers(a)
	out.Namespace, out.Pod, out.Network = a.Namespace, a.Pod, a.VN
	out.Addrs, out.ClusterAddrs, out.MAC, out.Tap = slices.Clone(a.Addrs), slices.Clone(a.ClusterAddrs), a.MAC, a.Tap
	out.Label, out.Vif = ids.Label, ids.Vif
	return out
}

// floatingIPs writes port maps as operators read them: 10.96.0.10 TCP 8888 -> 80.
func floatingIPs(maps []compile.PortMap) []string {
	names := map[uint8]string{6: "TCP", 17: "UDP", 132: "SCTP"}
	var out []string
	for _, m := range maps {
		out = append(out, fmt.Sprintf("%v %s %d -> %d", m.VIP, names[m.Proto], m.Port, m.Target))
	}
	return out
}

// Blocks lists the leases.
func (n *Node) Blocks() []rpc.Block {
	var out []rpc.Block
	for _, b := range n.blocks() {
		shown := rpc.Block{Network: b.Network, Prefix: b.Prefix, Used: b.Used}
		for _, in := range n.pool(b.Network, b.Prefix.Addr().Is4()).Blocks() {
			if in.Prefix() == b.Prefix {
				shown.Free = in.Free()
			}
		}
		out = append(out, shown)
	}
	return out
}

// Counts says how many VMIs there are and how many of them are attached.
func (n *Node) Counts() (vmis, attached int) {
	for _, v := range n.VMIs() {
		vmis++
		if v.State == stateAttached || v.State == stateOrphan {
			attached++
		}
	}
	return vmis, attached
}
