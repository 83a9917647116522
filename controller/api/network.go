package api

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan"
)

// networks: the virtual networks → their routing instances.
func (t *tree) networks(yield func(object) bool) {
	for _, n := range t.model.Networks {
		if !yield(object{n.UUID, n.FQName(), func() fields { return t.network(n) }}) {
			return
		}
	}
}

func (t *tree) network(n *plan.Network) fields {
	subnets := []fields{}
	for _, p := range n.Subnets {
		subnets = append(subnets, fields{"subnet": fields{"ip_prefix": p.Addr(), "ip_prefix_len": p.Bits()}})
	}
	instances := []fields{}
	for _, r := range t.model.RoutingInstances {
		if r.Network == n {
			instances = append(instances, t.ref("routing-instance", r.UUID, r.FQName()))
		}
	}
	imports := []fields{}
	for _, i := range n.Imports {
		imports = append(imports, fields{"to": i.Network.FQName(), "uuid": i.Network.UUID, "href": t.href("virtual-network", i.Network.UUID), "reply_only": i.ReplyOnly})
	}
	ipam := t.model.Cluster + "-pod-ipam"
	if n.Kind == plan.Services {
		ipam = t.model.Cluster + "-service-ipam"
	}
	return fields{
		"parent_type":                "project",
		"virtual_network_properties": fields{"forwarding_mode": "l3", "rpf": "enable"},
		"network_ipam_refs": []fields{{
			"to": []string{plan.Domain, n.Project, ipam}, "attr": fields{"ipam_subnets": subnets},
		}},
		"routing_instances": instances,
		"imports":           imports,
		"router_external":   n.Kind == plan.External,
		"translated":        n.Translated(),
		"route_target_list": fields{"route_target": append([]string{}, n.RouteTargets...)},
	}
}

// interfaces: the pods' VMIs → their addresses and floating IPs.
func (t *tree) interfaces(yield func(object) bool) {
	for _, v := range t.model.Interfaces {
		if !yield(object{v.UUID, vmiName(v), func() fields { return t.vmi(v) }}) {
			return
		}
	}
}

func (t *tree) vmi(v *plan.Interface) fields {
	macs, addresses, fips := []string{}, []fields{}, []fields{}
	if v.MAC != "" {
		macs = append(macs, v.MAC)
	}
	for a := range addressesOf(v) {
		addresses = append(addresses, t.ref("instance-ip", instanceIPUUID(v, a), instanceIPName(v, a)))
	}
	for _, f := range t.attached(v) {
		fips = append(fips, t.ref("floating-ip", f.UUID, fipName(f)))
	}
	project := v.Project
	f := fields{
		"parent_type":         "project",
		"parent_uuid":         project.UUID,
		"parent_href":         t.href("project", project.UUID),
		"security_group_refs": []fields{t.ref("security-group", project.SecurityGroup.UUID, project.SecurityGroup.FQName())},
		"virtual_machine_interface_mac_addresses": fields{"mac_address": macs},
		"virtual_network_refs":                    []fields{t.ref("virtual-network", v.Network.UUID, v.Network.FQName())},
		"instance_ip_back_refs":                   addresses,
		"floating_ip_back_refs":                   fips,
		"annotations": annotations("kind", "Pod", "cluster", t.model.Cluster, "namespace", v.Pod.Namespace,
			"name", v.Pod.Name, "node", v.Pod.Node, "vm", v.Pod.UID, "owner", "k8s", "index", "0/1"),
		"status": "not attached",
	}
	if v.Attached {
		f["status"], f["label"], f["tap"] = "attached", v.Label, v.Tap
	}
	if v.Stale {
		f["status"] = "stale"
	}
	if v.Refusal != "" {
		f["status"], f["status_description"] = "refused", v.Refusal
	}
	return f
}

// addressesOf are all addresses that an agent has given to a pod: its own, and
// those it has outside of a network that is translated.
func addressesOf(v *plan.Interface) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, a := range slices.Concat(v.Addresses, v.ClusterAddresses) {
			if !yield(a) {
				return
			}
		}
	}
}

// attached are the floating IPs of a VMI; the index over all is made once a request.
func (t *tree) attached(v *plan.Interface) []*plan.FloatingIP {
	if t.fips == nil {
		t.fips = map[*plan.Interface][]*plan.FloatingIP{}
		for _, f := range t.everyFloatingIP {
			for _, x := range f.Interfaces {
				t.fips[x] = append(t.fips[x], f)
			}
		}
	}
	return t.fips[v]
}

// instanceIPs: the addresses that agents have given to pods.
func (t *tree) instanceIPs(yield func(object) bool) {
	for _, v := range t.model.Interfaces {
		for a := range addressesOf(v) {
			if !yield(object{instanceIPUUID(v, a), instanceIPName(v, a), func() fields { return t.instanceIP(v, a) }}) {
				return
			}
		}
	}
}

func (t *tree) instanceIP(v *plan.Interface, a netip.Addr) fields {
	network, secondary := v.Network, slices.Contains(v.ClusterAddresses, a)
	if secondary && len(t.model.Networks) > 0 {
		network = t.model.Networks[0] // that of the hosts
	}
	return fields{
		"instance_ip_address":            a,
		"instance_ip_family":             family(a.Is6()),
		"instance_ip_mode":               "active-active",
		"instance_ip_secondary":          secondary,
		"virtual_network_refs":           []fields{t.ref("virtual-network", network.UUID, network.FQName())},
		"virtual_machine_interface_refs": []fields{t.ref("virtual-machine-interface", v.UUID, vmiName(v))},
	}
}

// routingInstances: the VRFs with their routes, one path per node.
func (t *tree) routingInstances(yield func(object) bool) {
	for _, r := range t.model.RoutingInstances {
		if !yield(object{r.UUID, r.FQName(), func() fields { return t.routingInstance(r) }}) {
			return
		}
	}
}

func (t *tree) routingInstance(r *plan.RoutingInstance) fields {
	return fields{
		"parent_type":     "virtual-network",
		"parent_uuid":     r.Network.UUID,
		"parent_href":     t.href("virtual-network", r.Network.UUID),
		"virtual_network": r.Network.Name,
		"tables":          []Table{table(r, false), table(r, true)},
	}
}

// Table is one family of a routing instance.
type Table struct {
	Name   string  `json:"name"` // …:k8s-default-pod-network.inet.0
	Routes []Route `json:"routes"`
}

// Route is a prefix with a path per node.
type Route struct {
	Prefix       netip.Prefix `json:"prefix"`
	Kind         string       `json:"kind"` // block, host, floating-ip
	LoadBalancer string       `json:"loadbalancer,omitempty"`
	From         string       `json:"imported_from,omitempty"` // the virtual network it is of
	ReplyOnly    bool         `json:"reply_only,omitempty"`    // leads to nobody who is not answered
	Paths        []Path       `json:"paths"`
}

// Path is the way over one node.
type Path struct {
	Source              string     `json:"source"` // the node whose agent announced it
	NextHop             netip.Addr `json:"next_hop"`
	Label               uint32     `json:"label"`
	TunnelEncapsulation []string   `json:"tunnel_encap"`
	Members             []Member   `json:"members,omitempty"`
	Stale               bool       `json:"stale,omitempty"`
}

// Member is a VMI that a path leads to.
type Member struct {
	Pod       string       `json:"pod"`
	VMI       string       `json:"virtual_machine_interface"`
	Addresses []netip.Addr `json:"addresses"`
	Label     uint32       `json:"label"`
}

func table(r *plan.RoutingInstance, v6 bool) Table {
	t := Table{Name: r.Table(v6), Routes: []Route{}}
	for _, own := range r.Routes {
		if own.Prefix.Addr().Is6() == v6 {
			t.Routes = append(t.Routes, route(own))
		}
	}
	for i := range r.Imported() {
		if i.Prefix.Addr().Is6() == v6 {
			out := route(i.Route)
			out.From, out.ReplyOnly = i.From.Name, i.ReplyOnly
			t.Routes = append(t.Routes, out)
		}
	}
	slices.SortFunc(t.Routes, func(a, b Route) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.From, b.From))
	})
	return t
}

func route(r *plan.Route) Route {
	out := Route{Prefix: r.Prefix, Kind: r.Kind, LoadBalancer: r.Object}
	for _, p := range r.Paths {
		path := Path{
			Source: p.Node, NextHop: p.NextHop, Label: p.Label,
			TunnelEncapsulation: append([]string{}, p.Encapsulations...), Stale: p.Stale,
		}
		for _, v := range p.Members {
			path.Members = append(path.Members, Member{v.Pod.Ref(), v.UUID, v.Addresses, v.Label})
		}
		out.Paths = append(out.Paths, path)
	}
	return out
}
