package audit

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/plan/blocks"
)

// agents are asked what they gave out: it lies in their own blocks, and nobody
// else has it. An agent that has not said all, or is not heard now, is left out.
func (c *check) agents() {
	for _, node := range slices.Sorted(maps.Keys(c.Reports)) {
		r := c.Reports[node]
		if r.Stale || !r.Synced || !c.nodes[node] {
			continue
		}
		host := c.hostNetwork()
		for _, a := range r.Host {
			c.given("Node "+node, node, host, a)
		}
		for _, uuid := range slices.Sorted(maps.Keys(r.VMIs)) {
			v := c.vmis[uuid]
			if v == nil {
				continue // of a pod that is gone; its network is not known any more
			}
			for _, a := range r.VMIs[uuid].Addresses {
				c.given("Pod "+v.Pod.Ref(), node, v.Network.Name, a)
			}
			for _, a := range r.VMIs[uuid].ClusterAddresses {
				c.given("Pod "+v.Pod.Ref(), node, host, a)
			}
		}
		for _, b := range slices.SortedFunc(maps.Keys(r.Blocks), compareBlocks) {
			if r.Blocks[b] > 0 && !slices.Contains(c.Leases, plan.Lease{Network: b.Network, Node: node, Prefix: b.Prefix}) {
				c.fault("Node "+node, "move its pods away, and restart its agent",
					"uses %d addresses of %v in %s, which is not leased to it", r.Blocks[b], b.Prefix, b.Network)
			}
		}
	}
}

func compareBlocks(a, b plan.BlockKey) int {
	if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
		return c
	}
	return a.Prefix.Bits() - b.Prefix.Bits()
}

// hostNetwork is that of the nodes themselves.
func (c *check) hostNetwork() string {
	for _, n := range c.Model.Networks {
		if n.Kind == plan.DefaultPods {
			return n.Name
		}
	}
	return ""
}

// given holds an address that an agent gave out against the leases and against
// all others.
func (c *check) given(object, node, network string, a netip.Addr) {
	l, covered := c.table.Of(network, a)
	switch {
	case !covered:
		c.fault(object, "delete the pod, so that it gets another address",
			"has %v on node %s, which lies in no leased block: it may be given to another pod too", a, node)
	case l.Node != node || l.Network != network:
		c.fault(object, "delete the pod, so that it gets another address",
			"has %v on node %s, which lies in the block %v of node %s in %s", a, node, l.Prefix, l.Node, l.Network)
	}
	at := space{blocks.Space(network), a}
	if other, taken := c.users[at]; taken && other != object {
		c.fault(object, "delete one of them, so that it gets another address", "has %v, which %s has too", a, other)
		return
	}
	c.users[at] = object
}

// pods are held against what Kubernetes says of them: their addresses lie in
// blocks of their nodes, and no two have the same.
func (c *check) pods() {
	host := c.hostNetwork()
	for _, v := range c.Model.Interfaces {
		p := v.Pod
		if p.Finished || p.HostNetwork || v.Network == nil {
			continue
		}
		for _, a := range p.IPs {
			if !c.holds(p.Node, v.Network.Name, a) && !(v.Network.Translated() && c.holds(p.Node, host, a)) {
				c.fault("Pod "+p.Ref(), "delete the pod, so that it gets another address; pods from before vragent are found this way",
					"has %v as Kubernetes says, which lies in no block of node %s in %s", a, p.Node, v.Network.Name)
			}
			if v.Network.Translated() {
				continue // its address means nothing outside; what its agent says was looked at
			}
			at := space{"", a}
			if other, taken := c.users[at]; taken && other != "Pod "+p.Ref() {
				c.fault("Pod "+p.Ref(), "delete one of them, so that it gets another address", "has %v as Kubernetes says, which %s has too", a, other)
			} else {
				c.users[at] = "Pod " + p.Ref()
			}
		}
	}
}

func (c *check) holds(node, network string, a netip.Addr) bool {
	return slices.ContainsFunc(c.held[node], func(l plan.Lease) bool { return l.Network == network && l.Prefix.Contains(a) })
}

// services have addresses of their own, those of load balancers out of a pool.
func (c *check) services() {
	pools := c.pools()
	users := map[netip.Addr]string{}
	for i := range c.Cluster.Services {
		s := &c.Cluster.Services[i]
		object := "Service " + s.Ref()
		for _, a := range slices.Concat(s.VIPs, s.Outside.Ingress) {
			if other, taken := users[a]; taken && other != object {
				c.fault(object, "delete and create one of them, so that it gets another address", "has %v, which %s has too", a, other)
			} else {
				users[a] = object
			}
		}
		if !s.Outside.LoadBalancer {
			continue
		}
		for _, a := range s.Outside.Ingress {
			if !slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) }) {
				c.fault(object, "give its pool the subnet again, or delete and create the service", "has %v in its status, which lies in no floating IP pool", a)
			}
		}
	}
}

// pools are the subnets that floating IPs come from.
func (c *check) pools() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range c.Cluster.Pools {
		if len(p.Subnets) > 0 {
			out = append(out, p.Subnets...)
			continue
		}
		for _, n := range c.Cluster.VirtualNetworks {
			if n.Namespace == p.Namespace && n.Name == p.Network {
				out = append(out, n.Subnets...)
			}
		}
	}
	return out
}
