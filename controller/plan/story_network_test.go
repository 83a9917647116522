package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vragent/vragent/controller/southbound"
)

// option is the value of NAME=VALUE in a command.
func option(f []string, name string) string {
	for _, x := range f {
		if v, found := strings.CutPrefix(x, name+"="); found {
			return v
		}
	}
	return ""
}

// fqName reads [PROJECT/]NAME as an annotation's; empty: none.
func fqName(s string) *FQName {
	if s == "" {
		return nil
	}
	project, name, given := strings.Cut(s, "/")
	if !given {
		project, name = "", s
	}
	return &FQName{Project: project, Name: name}
}

func faultsOf(f []string) []string {
	if s := option(f, "fault"); s != "" {
		return []string{strings.ReplaceAll(s, "_", " ")}
	}
	return nil
}

// namespace: NAME [isolated] [open] [network=[PROJECT/]NAME] [pool=[PROJECT/]NAME] [fault=TEXT]; saying it again replaces it
func (w *world) namespace(f []string) error {
	_ = w.remove("namespace", f[1])
	n := Namespace{
		Meta: meta("Namespace", f[1], 0), Isolated: slices.Contains(f, "isolated"), OpenServices: slices.Contains(f, "open"),
		Network: fqName(option(f, "network")), Pool: fqName(option(f, "pool")),
	}
	n.Namespace, n.Faults = "", faultsOf(f)
	w.cluster.Namespaces = append(w.cluster.Namespaces, n)
	return nil
}

// network: [NAMESPACE/]NAME SUBNET … [external] [snat]; saying it again replaces it
func (w *world) network(f []string) error {
	_ = w.remove("network", f[1])
	v := VirtualNetwork{Meta: meta("VirtualNetwork", f[1], 0), External: slices.Contains(f, "external"), SNAT: slices.Contains(f, "snat")}
	for _, x := range f[2:] {
		if strings.Contains(x, "/") {
			v.Subnets = append(v.Subnets, netip.MustParsePrefix(x))
		}
	}
	w.cluster.VirtualNetworks = append(w.cluster.VirtualNetworks, v)
	return nil
}

// pod: NODE|- [NAMESPACE/]NAME [host|done] [network=[PROJECT/]NAME] [address=A[,A]] [ip=A[,A]]
// [created=N] [fault=TEXT]; saying it again replaces it
func (w *world) addPod(f []string) error {
	_ = w.remove("pod", f[2])
	created, _ := strconv.ParseInt(option(f, "created"), 10, 64)
	p := Pod{
		Meta: meta("Pod", f[2], created), Node: f[1], HostNetwork: slices.Contains(f, "host"), Finished: slices.Contains(f, "done"),
		Network: fqName(option(f, "network")),
	}
	p.Faults = faultsOf(f)
	for name, list := range map[string]*[]netip.Addr{"address": &p.Addresses, "ip": &p.IPs} {
		if s := option(f, name); s != "" {
			for a := range strings.SplitSeq(s, ",") {
				*list = append(*list, netip.MustParseAddr(a))
			}
		}
	}
	if f[1] == "-" {
		p.Node = ""
	}
	w.cluster.Pods = append(w.cluster.Pods, p)
	return nil
}

func describeNetwork(n *southbound.VirtualNetwork) string {
	s := "network " + n.Name + " [" + strings.Join(n.Subnets, " ") + "] services [" + strings.Join(n.ServiceSubnets, " ") + "]"
	if n.Translated {
		s += " translated"
	}
	if n.NoOutside {
		s += " no outside"
	}
	for _, i := range n.Imports {
		if i.ReplyOnly {
			s += " replies:" + i.VirtualNetwork
		} else {
			s += " imports:" + i.VirtualNetwork
		}
	}
	return s
}

func describeVMI(v *southbound.VMI) string {
	s := "vmi " + v.Pod
	if v.Namespace != "default" {
		s = "vmi " + v.Namespace + "/" + v.Pod
	}
	if v.Refusal != "" {
		return s + " refused: " + v.Refusal
	}
	if v.VirtualNetwork != "k8s-default-pod-network" {
		s += " in " + v.VirtualNetwork
	}
	if len(v.FixedAddresses) > 0 {
		s += " with " + strings.Join(v.FixedAddresses, ",")
	}
	return s
}

// pods adds so many pods to a node, or takes all of them away again.
func (w *world) manyPods(f []string) error {
	n, err := strconv.Atoi(f[2])
	w.cluster.Pods = slices.DeleteFunc(w.cluster.Pods, func(p Pod) bool { return p.Node == f[1] && strings.HasPrefix(p.Name, "many-") })
	for i := range n {
		w.cluster.Pods = append(w.cluster.Pods, Pod{Meta: meta("Pod", fmt.Sprintf("many-%s-%d", f[1], i), 0), Node: f[1]})
	}
	return err
}
