package api

import (
	"github.com/vragent/vragent/controller/plan"
)

// loadBalancers: Service → listeners.
func (t *tree) loadBalancers(yield func(object) bool) {
	for _, lb := range t.model.LoadBalancers {
		if !yield(object{lb.UUID, t.lbName(lb), func() fields { return t.loadBalancer(lb) }}) {
			return
		}
	}
}

func (t *tree) loadBalancer(lb *plan.LoadBalancer) fields {
	status, operating := "ACTIVE", "ONLINE"
	switch {
	case len(lb.VIPs) == 0:
		status, operating = "ERROR", "OFFLINE"
	case len(lb.Errors) > 0:
		status, operating = "DEGRADED", "DEGRADED"
	}
	properties := fields{
		"admin_state": true, "status": status, "provisioning_status": status, "operating_status": operating,
		"vip_address": nil,
	}
	fips := []fields{}
	for f := range lb.Addresses() {
		if properties["vip_address"] == nil {
			properties["vip_address"] = f.Address
		}
		fips = append(fips, t.ref("floating-ip", f.UUID, fipName(f)))
	}
	listeners := []fields{}
	for _, l := range lb.Listeners {
		listeners = append(listeners, t.ref("loadbalancer-listener", l.UUID, t.listenerName(lb, l)))
	}
	f := fields{
		"parent_type":                     "project",
		"loadbalancer_provider":           "native",
		"loadbalancer_properties":         properties,
		"loadbalancer_listener_back_refs": listeners,
		"floating_ip_refs":                fips,
		"annotations": annotations("kind", "Service", "cluster", t.model.Cluster, "namespace", lb.Service.Namespace,
			"name", lb.Service.Name, "owner", "k8s"),
	}
	if lb.Home != nil {
		f["virtual_network_refs"] = []fields{t.ref("virtual-network", lb.Home.UUID, lb.Home.FQName())}
	}
	if len(lb.Errors) > 0 {
		f["errors"] = lb.Errors
	}
	return f
}

// listeners: one per service port → its pool.
func (t *tree) listeners(yield func(object) bool) {
	for lb, l := range t.everyListener {
		body := func() fields {
			return fields{
				"parent_type": "project",
				"loadbalancer_listener_properties": fields{
					"admin_state": true, "protocol": plan.ProtocolName(l.Protocol), "protocol_port": l.Port, "connection_limit": -1,
				},
				"node_port":                   l.NodePort,
				"loadbalancer_refs":           []fields{t.ref("loadbalancer", lb.UUID, t.lbName(lb))},
				"loadbalancer_pool_back_refs": []fields{t.ref("loadbalancer-pool", l.PoolUUID, t.listenerName(lb, l))},
			}
		}
		if !yield(object{l.UUID, t.listenerName(lb, l), body}) {
			return
		}
	}
}

func (t *tree) everyListener(yield func(*plan.LoadBalancer, *plan.Listener) bool) {
	for _, lb := range t.model.LoadBalancers {
		for _, l := range lb.Listeners {
			if !yield(lb, l) {
				return
			}
		}
	}
}

// pools: one per listener → its members.
func (t *tree) pools(yield func(object) bool) {
	for lb, l := range t.everyListener {
		if !yield(object{l.PoolUUID, t.listenerName(lb, l), func() fields { return t.pool(lb, l) }}) {
			return
		}
	}
}

func (t *tree) pool(lb *plan.LoadBalancer, l *plan.Listener) fields {
	members := []fields{}
	for _, m := range l.Members {
		members = append(members, t.ref("loadbalancer-member", m.UUID, t.memberName(lb, l, m)))
	}
	return fields{
		"parent_type":                  "project",
		"loadbalancer_pool_properties": fields{"admin_state": true, "protocol": plan.ProtocolName(l.Protocol)},
		"loadbalancer_listener_refs":   []fields{t.ref("loadbalancer-listener", l.UUID, t.listenerName(lb, l))},
		"loadbalancer_members":         members,
	}
}

// members: one per backend and family → its VMI.
func (t *tree) members(yield func(object) bool) {
	for lb, l := range t.everyListener {
		for _, m := range l.Members {
			if !yield(object{m.UUID, t.memberName(lb, l, m), func() fields { return t.member(lb, l, m) }}) {
				return
			}
		}
	}
}

func (t *tree) member(lb *plan.LoadBalancer, l *plan.Listener, m *plan.Member) fields {
	properties := fields{"admin_state": true, "protocol_port": m.Port, "weight": 1, "address": nil}
	if m.Address.IsValid() {
		properties["address"] = m.Address
	}
	switch {
	case m.Pending != "":
		properties["status"], properties["status_description"] = "PENDING", m.Pending
	case m.Draining:
		properties["status"], properties["status_description"] = "DRAINING", "not ready: keeps its flows, takes no new ones"
	default:
		properties["status"] = "ACTIVE"
	}
	f := fields{
		"display_name":                   m.Name,
		"parent_type":                    "loadbalancer-pool",
		"parent_uuid":                    l.PoolUUID,
		"parent_href":                    t.href("loadbalancer-pool", l.PoolUUID),
		"loadbalancer_member_properties": properties,
		"annotations":                    annotations("name", m.Name, "node", m.Node),
	}
	if v := m.Interface; v != nil {
		f["annotations"] = annotations("name", m.Name, "node", m.Node, "vm", v.Pod.UID, "vmi", v.UUID)
		f["virtual_machine_interface_refs"] = []fields{t.ref("virtual-machine-interface", v.UUID, vmiName(v))}
	}
	return f
}

// floatingIPs: one per address of a service, attached to the members' VMIs.
func (t *tree) floatingIPs(yield func(object) bool) {
	for lb, f := range t.everyFloatingIP {
		if !yield(object{f.UUID, fipName(f), func() fields { return t.floatingIP(lb, f) }}) {
			return
		}
	}
}

func (t *tree) everyFloatingIP(yield func(*plan.LoadBalancer, *plan.FloatingIP) bool) {
	for _, lb := range t.model.LoadBalancers {
		for f := range lb.Addresses() {
			if !yield(lb, f) {
				return
			}
		}
	}
}

func (t *tree) floatingIP(lb *plan.LoadBalancer, f *plan.FloatingIP) fields {
	maps := []fields{}
	for _, m := range f.Maps {
		maps = append(maps, fields{"protocol": plan.ProtocolName(m.Protocol), "src_port": m.Port, "dst_port": m.Target})
	}
	vmis := []fields{}
	for _, v := range f.Interfaces {
		vmis = append(vmis, t.ref("virtual-machine-interface", v.UUID, vmiName(v)))
	}
	out := fields{
		"parent_type":                      "floating-ip-pool",
		"floating_ip_address":              f.Address,
		"floating_ip_address_family":       family(f.Address.Is6()),
		"floating_ip_traffic_direction":    "ingress",
		"floating_ip_port_mappings_enable": true,
		"floating_ip_port_mappings":        fields{"port_mappings": maps},
		"virtual_machine_interface_refs":   vmis,
		"loadbalancer_back_refs":           []fields{t.ref("loadbalancer", lb.UUID, t.lbName(lb))},
		"virtual_network_refs":             []fields{t.ref("virtual-network", f.Network.UUID, f.Network.FQName())},
		"external":                         f.External,
		"status":                           "ACTIVE",
	}
	if f.Pending != "" {
		out["status"], out["status_description"] = "PENDING", f.Pending
	}
	if f.Pool != nil {
		out["parent_uuid"], out["parent_href"] = f.Pool.UUID, t.href("floating-ip-pool", f.Pool.UUID)
	}
	return out
}

func family(v6 bool) string {
	if v6 {
		return "v6"
	}
	return "v4"
}
