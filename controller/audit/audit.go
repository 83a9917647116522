// Package audit compares what everybody says about addresses: the leases, the
// agents, the pods, the services. It owns no state: Check is a function of its
// Input. It repairs nothing; what may safely be given back it names.
package audit

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/plan/blocks"
)

// Input is everything a Check depends on.
type Input struct {
	Cluster *plan.Cluster
	Leases  []plan.Lease
	Reports map[string]*plan.Report // by node
	Model   *plan.Model             // of the last plan
}

// Finding is something that does not go together.
type Finding struct {
	Object   string
	Sentence string
	Fix      string // what to do
	// Leak: addresses are kept that nobody uses. Nothing is wrong with traffic.
	Leak bool
	// Release are leases that can be given back at once; no packet needs them.
	Release []plan.Lease
}

// space is an address where it means one thing.
type space struct {
	name string
	addr netip.Addr
}

// check is one Check at work.
type check struct {
	Input
	found []Finding

	nodes map[string]bool         // of the cluster
	held  map[string][]plan.Lease // by node
	table *blocks.Table
	vmis  map[string]*plan.Interface // by UUID
	users map[space]string           // who has an address
}

// Check finds leaks and contradictions, sorted by object.
func Check(in Input) []Finding {
	c := &check{
		Input: in, nodes: map[string]bool{}, held: map[string][]plan.Lease{}, table: blocks.NewTable(in.Leases),
		vmis: map[string]*plan.Interface{}, users: map[space]string{},
	}
	for _, n := range in.Cluster.Nodes {
		c.nodes[n.Name] = true
	}
	for _, l := range in.Leases {
		c.held[l.Node] = append(c.held[l.Node], l)
	}
	for _, v := range in.Model.Interfaces {
		c.vmis[v.UUID] = v
	}
	c.overlaps()
	c.leaks()
	c.agents()
	c.pods()
	c.services()
	slices.SortFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Sentence, b.Sentence))
	})
	return c.found
}

func (c *check) fault(object, fix, format string, args ...any) {
	c.found = append(c.found, Finding{Object: object, Sentence: fmt.Sprintf(format, args...), Fix: fix})
}

// overlaps are leases that cannot both be true.
func (c *check) overlaps() {
	sorted := blocks.Sorted(c.Leases)
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if blocks.Space(a.Network) == blocks.Space(b.Network) && a.Prefix.Overlaps(b.Prefix) {
			c.fault("IPBlock "+b.Prefix.String(), "move the pods of one node away, then delete its IPBlock",
				"of node %s overlaps %v of node %s: the same address may be given twice", b.Node, a.Prefix, a.Node)
		}
	}
}

// leaks are leases of nodes that are gone, and of networks that are.
func (c *check) leaks() {
	networks := map[string]bool{}
	for _, n := range c.Model.Networks {
		networks[n.Name] = true
	}
	forlorn := map[string][]plan.Lease{}
	for _, l := range c.Leases {
		switch {
		case !c.nodes[l.Node]:
			forlorn[l.Node] = append(forlorn[l.Node], l)
		case !networks[l.Network]:
			c.found = append(c.found, Finding{
				Object: "IPBlock " + l.Prefix.String(), Leak: true,
				Sentence: fmt.Sprintf("of node %s is of the network %s, which is not there", l.Node, l.Network),
				Fix:      "it is given back when the node does not use it any more",
			})
		}
	}
	for _, node := range slices.Sorted(maps.Keys(forlorn)) {
		c.forlorn(node, forlorn[node])
	}
}

// forlorn are the leases of a node that is not in the cluster. They can be given
// back unless somebody still speaks of it: its agent, or a pod that has not
// ended.
func (c *check) forlorn(node string, leases []plan.Lease) {
	f := Finding{
		Object: "Node " + node, Leak: true,
		Sentence: fmt.Sprintf("is not in the cluster and holds %s", prefixes(leases)),
		Fix:      "given back after networks.blockQuarantine; if the node does not come back, at once by: vrcontroller ipam check --repair",
	}
	switch {
	case c.Reports[node] != nil:
		f.Fix = "its agent is still heard of: stop it, or add the node to the cluster again"
	default:
		if pod := c.podWithin(node, leases); pod != "" {
			f.Fix = "pod " + pod + " has an address of it: delete the pod first"
		} else {
			f.Release = leases
		}
	}
	c.found = append(c.found, f)
}

// podWithin is a pod that has not ended, on the node or with an address of its leases.
func (c *check) podWithin(node string, leases []plan.Lease) string {
	for i := range c.Cluster.Pods {
		p := &c.Cluster.Pods[i]
		if p.Finished || p.HostNetwork {
			continue
		}
		inside := func(a netip.Addr) bool {
			return slices.ContainsFunc(leases, func(l plan.Lease) bool { return blocks.Space(l.Network) == "" && l.Prefix.Contains(a) })
		}
		if p.Node == node || slices.ContainsFunc(p.IPs, inside) {
			return p.Ref()
		}
	}
	return ""
}

func prefixes(leases []plan.Lease) string {
	const shown = 4
	out := make([]string, 0, shown)
	for _, l := range leases[:min(shown, len(leases))] {
		out = append(out, l.Prefix.String())
	}
	text := strings.Join(out, ", ")
	if more := len(leases) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
