package api

import (
	"github.com/vragent/vragent/controller/plan"
)

// projects: one per namespace.
func (t *tree) projects(yield func(object) bool) {
	for _, p := range t.model.Projects {
		body := func() fields {
			return fields{
				"parent_type":     "domain",
				"security_groups": []fields{t.ref("security-group", p.SecurityGroup.UUID, p.SecurityGroup.FQName())},
				"annotations":     annotations("kind", "Namespace", "cluster", t.model.Cluster, "name", p.Namespace, "owner", "k8s"),
			}
		}
		if !yield(object{p.UUID, p.FQName(), body}) {
			return
		}
	}
}

// securityGroups: the default one of each project.
func (t *tree) securityGroups(yield func(object) bool) {
	for _, p := range t.model.Projects {
		g := p.SecurityGroup
		body := func() fields {
			return fields{"parent_type": "project", "parent_uuid": p.UUID, "parent_href": t.href("project", p.UUID)}
		}
		if !yield(object{g.UUID, g.FQName(), body}) {
			return
		}
	}
}

// floatingIPPools: where the addresses of load balancers come from.
func (t *tree) floatingIPPools(yield func(object) bool) {
	for _, p := range t.model.Pools {
		body := func() fields {
			subnets := []fields{}
			for _, s := range p.Subnets {
				subnets = append(subnets, fields{"ip_prefix": s.Addr(), "ip_prefix_len": s.Bits()})
			}
			return fields{
				"parent_type":              "virtual-network",
				"parent_uuid":              p.Network.UUID,
				"parent_href":              t.href("virtual-network", p.Network.UUID),
				"floating_ip_pool_subnets": fields{"subnet": subnets},
			}
		}
		if !yield(object{p.UUID, p.FQName(), body}) {
			return
		}
	}
}

// ipBlocks: the leases.
func (t *tree) ipBlocks(yield func(object) bool) {
	for _, l := range t.leases {
		body := func() fields {
			f := fields{"prefix": l.Prefix, "node": l.Node, "virtual_network": l.Network, "virtual_network_refs": []fields{}}
			for _, n := range t.model.Networks {
				if n.Name == l.Network {
					f["virtual_network_refs"] = []fields{t.ref("virtual-network", n.UUID, n.FQName())}
				}
			}
			return f
		}
		name := l.Network + "/" + l.Prefix.String()
		if !yield(object{plan.Derive("ip-block", name), []string{plan.Domain, name}, body}) {
			return
		}
	}
}
