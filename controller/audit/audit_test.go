package audit

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/controller/plan"
)

const network = "k8s-default-pod-network"

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func lease(net, node, p string) plan.Lease {
	return plan.Lease{Network: net, Node: node, Prefix: prefix(p)}
}

func pod(node, name string, ips ...string) plan.Pod {
	p := plan.Pod{Meta: plan.Meta{Namespace: "a", Name: name, UID: "uid-" + name}, Node: node}
	for _, ip := range ips {
		p.IPs = append(p.IPs, addr(ip))
	}
	return p
}

// scene is a cluster with nothing wrong: two nodes, a pod on each, one of them
// in a network of its own.
func scene() *plan.Input {
	one, two := pod("n1", "one", "198.51.100.2"), pod("n2", "two", "10.0.0.2")
	two.Network = &plan.FQName{Name: "red"}
	return &plan.Input{
		Config: plan.Config{
			Cluster: "k8s", PodSubnets: []netip.Prefix{prefix("198.51.100.0/24")},
			ServiceSubnets: []netip.Prefix{prefix("203.0.113.0/24")}, BlockBits4: 26, BlockBits6: 122,
		},
		Cluster: &plan.Cluster{
			Namespaces: []plan.Namespace{{Meta: plan.Meta{Name: "a"}}},
			Nodes:      []plan.Node{{Meta: plan.Meta{Name: "n1"}}, {Meta: plan.Meta{Name: "n2"}}},
			Pods:       []plan.Pod{one, two},
			VirtualNetworks: []plan.VirtualNetwork{
				{Meta: plan.Meta{Namespace: "a", Name: "red"}, Subnets: []netip.Prefix{prefix("10.0.0.0/16")}},
				{Meta: plan.Meta{Namespace: "a", Name: "public"}, Subnets: []netip.Prefix{prefix("192.0.2.128/25")}, External: true},
			},
			Pools:    []plan.FloatingIPPool{{Meta: plan.Meta{Namespace: "a", Name: "pool"}, Network: "public"}},
			Services: []plan.Service{service("web", "203.0.113.1", "192.0.2.130"), service("api", "203.0.113.2", "192.0.2.131")},
		},
		Leases: []plan.Lease{lease(network, "n1", "198.51.100.0/26"), lease(network, "n2", "198.51.100.64/26"), lease("k8s-a:red", "n2", "10.0.0.0/26")},
		Reports: map[string]*plan.Report{
			"n1": {Node: "n1", Synced: true, Host: []netip.Addr{addr("198.51.100.1")}, VMIs: map[string]plan.AttachedVMI{
				plan.VMIUUID(&one): {Addresses: one.IPs},
			}, Blocks: map[plan.BlockKey]uint32{{Network: network, Prefix: prefix("198.51.100.0/26")}: 2}},
			"n2": {Node: "n2", Synced: true, Host: []netip.Addr{addr("198.51.100.65")}, VMIs: map[string]plan.AttachedVMI{
				plan.VMIUUID(&two): {Addresses: two.IPs, ClusterAddresses: []netip.Addr{addr("198.51.100.66")}},
			}},
		},
	}
}

func service(name, vip, ingress string) plan.Service {
	return plan.Service{
		Meta: plan.Meta{Namespace: "a", Name: name, UID: "uid-" + name}, VIPs: []netip.Addr{addr(vip)},
		Outside: plan.Outside{LoadBalancer: true, Ingress: []netip.Addr{addr(ingress)}},
	}
}

func check1(in *plan.Input) []Finding {
	return Check(Input{Cluster: in.Cluster, Leases: in.Leases, Reports: in.Reports, Model: plan.Build(*in).Model})
}

func TestNothingIsFound(t *testing.T) {
	if f := check1(scene()); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	in := scene() // a host's own pods, what has ended, what is not scheduled: none of them has an address of ours
	in.Cluster.Pods = append(in.Cluster.Pods,
		plan.Pod{Meta: plan.Meta{Namespace: "a", Name: "host", UID: "h"}, Node: "n1", HostNetwork: true, IPs: []netip.Addr{addr("192.0.2.1")}},
		plan.Pod{Meta: plan.Meta{Namespace: "a", Name: "done", UID: "d"}, Node: "n1", Finished: true, IPs: []netip.Addr{addr("198.51.100.2")}},
		plan.Pod{Meta: plan.Meta{Namespace: "a", Name: "new", UID: "n"}})
	if f := check1(in); len(f) != 0 {
		t.Errorf("%+v", f)
	}
}

func TestFindings(t *testing.T) {
	vmi := func(in *plan.Input, node string, change func(*plan.AttachedVMI)) {
		for k, v := range in.Reports[node].VMIs {
			change(&v)
			in.Reports[node].VMIs[k] = v
		}
	}
	for name, x := range map[string]struct {
		spoil func(*plan.Input)
		want  string // object: sentence
		leak  bool
		free  int // leases that can be given back
	}{
		"a node is gone": {func(in *plan.Input) {
			in.Leases = append(in.Leases, lease(network, "gone", "198.51.100.128/26"), lease("k8s-a:red", "gone", "10.0.0.64/26"))
		}, "Node gone: is not in the cluster and holds 198.51.100.128/26, 10.0.0.64/26", true, 2},
		"a node is gone, its agent is not": {func(in *plan.Input) {
			in.Leases = append(in.Leases, lease(network, "gone", "198.51.100.128/26"))
			in.Reports["gone"] = &plan.Report{Node: "gone"}
		}, "Node gone: is not in the cluster", true, 0},
		"a node is gone, a pod of it is not": {func(in *plan.Input) {
			in.Leases = append(in.Leases, lease(network, "gone", "198.51.100.128/26"))
			in.Cluster.Pods = append(in.Cluster.Pods, pod("gone", "orphan"))
		}, "Node gone: is not in the cluster", true, 0},
		"a network is gone": {func(in *plan.Input) {
			in.Leases = append(in.Leases, lease("nonsense", "n1", "10.1.0.0/26"))
		}, "IPBlock 10.1.0.0/26: of node n1 is of the network nonsense, which is not there", true, 0},
		"blocks overlap": {func(in *plan.Input) {
			in.Leases = append(in.Leases, lease(network, "n2", "198.51.100.32/27"))
		}, "IPBlock 198.51.100.32/27: of node n2 overlaps 198.51.100.0/26 of node n1", false, 0},
		"an agent gave out what is not leased": {func(in *plan.Input) {
			vmi(in, "n1", func(v *plan.AttachedVMI) { v.Addresses = []netip.Addr{addr("198.51.100.200")} })
			in.Cluster.Pods[0].IPs = nil
		}, "Pod a/one: has 198.51.100.200 on node n1, which lies in no leased block", false, 0},
		"an agent gave out another's": {func(in *plan.Input) {
			vmi(in, "n1", func(v *plan.AttachedVMI) { v.Addresses = []netip.Addr{addr("198.51.100.70")} })
			in.Cluster.Pods[0].IPs = nil
		}, "Pod a/one: has 198.51.100.70 on node n1, which lies in the block 198.51.100.64/26 of node n2", false, 0},
		"an agent uses a block that is not its own": {func(in *plan.Input) {
			in.Reports["n1"].Blocks[plan.BlockKey{Network: network, Prefix: prefix("198.51.100.192/26")}] = 3
		}, "Node n1: uses 3 addresses of 198.51.100.192/26", false, 0},
		"two pods, says Kubernetes": {func(in *plan.Input) {
			in.Cluster.Pods = append(in.Cluster.Pods, pod("n1", "twin", "198.51.100.2"))
		}, "Pod a/twin: has 198.51.100.2 as Kubernetes says, which Pod a/one has too", false, 0},
		"a pod has a cluster address": {func(in *plan.Input) {
			in.Cluster.Pods = append(in.Cluster.Pods, pod("n2", "twin", "198.51.100.66"))
		}, "Pod a/twin: has 198.51.100.66 as Kubernetes says, which Pod a/two has too", false, 0},
		"a pod outside of its node's blocks": {func(in *plan.Input) {
			in.Cluster.Pods[0].IPs = []netip.Addr{addr("10.244.0.9")}
		}, "Pod a/one: has 10.244.0.9 as Kubernetes says, which lies in no block of node n1", false, 0},
		"a VIP twice": {func(in *plan.Input) {
			in.Cluster.Services[1].VIPs = in.Cluster.Services[0].VIPs
		}, "Service a/api: has 203.0.113.1, which Service a/web has too", false, 0},
		"a load balancer's address twice": {func(in *plan.Input) {
			in.Cluster.Services[1].Outside.Ingress = in.Cluster.Services[0].Outside.Ingress
		}, "Service a/api: has 192.0.2.130, which Service a/web has too", false, 0},
		"a load balancer's address of no pool": {func(in *plan.Input) {
			in.Cluster.Pools[0].Subnets = []netip.Prefix{prefix("192.0.2.128/31"), prefix("192.0.2.130/32")}
		}, "Service a/api: has 192.0.2.131 in its status, which lies in no floating IP pool", false, 0},
	} {
		in := scene()
		x.spoil(in)
		found := check1(in)
		ok := false
		for _, f := range found {
			if strings.HasPrefix(f.Object+": "+f.Sentence, x.want) && f.Leak == x.leak && len(f.Release) == x.free && f.Fix != "" {
				ok = true
			}
		}
		if !ok || len(found) != 1 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// What an agent has not said all of, or said before its stream was lost, is no fault.
func TestAgentsThatAreNotHeard(t *testing.T) {
	for _, change := range []func(*plan.Report){func(r *plan.Report) { r.Stale = true }, func(r *plan.Report) { r.Synced = false }} {
		in := scene()
		in.Reports["n1"].Host = []netip.Addr{addr("198.51.100.99")}
		change(in.Reports["n1"])
		if f := check1(in); len(f) != 0 {
			t.Errorf("%+v", f)
		}
	}
}
