package api

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan"
)

// kinds are the types of objects, in the order in which one walks them.
var kinds = [...]string{
	"loadbalancer", "loadbalancer-listener", "loadbalancer-pool", "loadbalancer-member", "floating-ip", "floating-ip-pool",
	"virtual-network", "virtual-machine-interface", "instance-ip", "routing-instance", "security-group", "project", "ip-block",
}

// fields is a JSON object.
type fields map[string]any

// object is what every kind has: names, and the rest made when it is asked for.
type object struct {
	uuid string
	fq   []string
	body func() fields
}

// tree is the model as one request sees it.
type tree struct {
	base   string // http://host:port, for references
	model  *plan.Model
	leases []plan.Lease
	fips   map[*plan.Interface][]*plan.FloatingIP // nil until somebody asks for them
}

// objects lists the objects of a kind; nil: no such kind. A flat switch.
func (t *tree) objects(kind string) iter.Seq[object] {
	switch kind {
	case "loadbalancer":
		return t.loadBalancers
	case "loadbalancer-listener":
		return t.listeners
	case "loadbalancer-pool":
		return t.pools
	case "loadbalancer-member":
		return t.members
	case "floating-ip":
		return t.floatingIPs
	case "virtual-network":
		return t.networks
	case "virtual-machine-interface":
		return t.interfaces
	case "instance-ip":
		return t.instanceIPs
	case "routing-instance":
		return t.routingInstances
	case "floating-ip-pool":
		return t.floatingIPPools
	case "security-group":
		return t.securityGroups
	case "project":
		return t.projects
	case "ip-block":
		return t.ipBlocks
	}
	return nil
}

// index points at every list, as Contrail's API does at its root.
func (t *tree) index() fields {
	var links []fields
	for _, k := range kinds {
		links = append(links, fields{"link": fields{"href": t.base + "/" + k + "s", "name": k, "rel": "collection"}})
	}
	links = append(links, fields{"link": fields{"href": t.base + "/status", "name": "status", "rel": "status"}})
	return fields{"href": t.base, "links": links}
}

func (t *tree) list(kind string, detail bool) []fields {
	out := []fields{}
	for o := range t.objects(kind) {
		switch {
		case detail:
			out = append(out, fields{kind: t.whole(kind, o)})
		case kind == "routing-instance": // the routes page
			out = append(out, t.whole(kind, o))
		default:
			out = append(out, fields{"href": t.href(kind, o.uuid), "fq_name": o.fq, "uuid": o.uuid})
		}
	}
	return out
}

func (t *tree) find(kind, uuid string) (fields, bool) {
	for o := range t.objects(kind) {
		if o.uuid == uuid {
			return t.whole(kind, o), true
		}
	}
	return nil, false
}

func (t *tree) whole(kind string, o object) fields {
	f := o.body()
	f["href"], f["fq_name"], f["uuid"] = t.href(kind, o.uuid), o.fq, o.uuid
	f["name"] = o.fq[len(o.fq)-1]
	if f["display_name"] == nil {
		f["display_name"] = f["name"]
	}
	return f
}

func (t *tree) href(kind, uuid string) string { return t.base + "/" + kind + "/" + uuid }

// ref is Contrail's reference to another object.
func (t *tree) ref(kind, uuid string, fq []string) fields {
	return fields{"to": fq, "href": t.href(kind, uuid), "uuid": uuid}
}

// annotations are Contrail's key-value pairs.
func annotations(pairs ...string) fields {
	list := []fields{}
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, fields{"key": pairs[i], "value": pairs[i+1]})
	}
	return fields{"key_value_pair": list}
}

// Fully qualified names: a child's is its parent's and its own.

func (t *tree) lbName(lb *plan.LoadBalancer) []string {
	return []string{plan.Domain, t.model.Cluster + "-" + lb.Service.Namespace, lb.Name}
}

func (t *tree) listenerName(lb *plan.LoadBalancer, l *plan.Listener) []string {
	fq := t.lbName(lb)
	fq[2] = l.Name
	return fq
}

func (t *tree) memberName(lb *plan.LoadBalancer, l *plan.Listener, m *plan.Member) []string {
	return append(t.listenerName(lb, l), m.UUID)
}

func vmiName(v *plan.Interface) []string { return append(v.Project.FQName(), v.Name) }

// fipName is in the pool that the address is from; clusterIPs, and addresses that
// somebody has chosen, are in one that has no object.
func fipName(f *plan.FloatingIP) []string {
	if f.Pool != nil {
		return append(f.Pool.FQName(), f.Name)
	}
	return append(f.Network.FQName(), "service-fip-pool", f.Name)
}

func instanceIPName(v *plan.Interface, a netip.Addr) []string {
	name := v.Name
	if slices.Contains(v.ClusterAddresses, a) {
		name += "-cluster"
	}
	if a.Is6() {
		name += "-v6"
	}
	return []string{name}
}

func instanceIPUUID(v *plan.Interface, a netip.Addr) string {
	return plan.Derive("instance-ip", v.UUID, a.String())
}
