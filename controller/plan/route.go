package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/southbound"
)

// routingInstances shows, per network, what the nodes say leads to them, and
// sends the blocks' routes to the other nodes.
func (b *builder) routingInstances() {
	for _, n := range b.idx.Nodes {
		r := b.in.Reports[n.Name]
		if r == nil || !b.tunnel(n.Name).IsValid() {
			continue
		}
		for _, k := range slices.SortedFunc(maps.Keys(r.Routes), compareRouteKey) {
			ri := b.instances[k.VRF]
			if ri == nil || !validLabel(r.Routes[k].Label) {
				continue
			}
			b.localRoute(ri, r, k, b.leasesOf[n.Name])
		}
	}
	b.importRoutes()
}

// importRoutes shows what is valid in a network besides its own routes.
func (b *builder) importRoutes() {
	for _, r := range b.model.RoutingInstances {
		for _, i := range r.Network.Imports {
			r.imports = append(r.imports, importedInstance{b.instances[i.Network.Name], i.ReplyOnly})
		}
	}
	for _, lb := range b.model.LoadBalancers {
		home := b.instances[lb.Home.Name]
		for vip := range lb.Addresses() {
			route := home.byPrefix[netip.PrefixFrom(vip.Address, vip.Address.BitLen())]
			for _, n := range lb.Networks {
				if route != nil && n != lb.Home {
					b.instances[n.Name].vips = append(b.instances[n.Name].vips, Imported{route, lb.Home, false})
				}
			}
		}
	}
}

// localRoute places one announcement of a node. A node may announce its own
// blocks, what lies in them, and VIPs; anything else is refused.
func (b *builder) localRoute(ri *RoutingInstance, r *Report, k RouteKey, leases []Lease) {
	local := r.Routes[k]
	path := RoutePath{
		Node: r.Node, NextHop: b.tunnel(r.Node), Label: local.Label,
		Encapsulations: local.Encapsulations, Stale: r.Stale,
	}
	lb := b.vips[k.Prefix.Addr()]
	if lb != nil && k.Prefix.IsSingleIP() && (ri.Network == lb.Home || slices.Contains(lb.Networks, ri.Network)) {
		path.Members = b.membersOf(r.Node, local.VMIs)
		b.vipRoute(lb, k.Prefix, path)
		return
	}
	for _, l := range leases {
		switch {
		case l.Network != k.VRF || !l.Prefix.Overlaps(k.Prefix) || l.Prefix.Bits() > k.Prefix.Bits():
			continue
		case l.Prefix == k.Prefix:
			ri.add(k.Prefix, "block", "", path)
			b.blockRoute(k, path)
		default:
			ri.add(k.Prefix, "host", "", path)
		}
		return
	}
	if !k.Prefix.IsSingleIP() || covers(ri.Network.Subnets, k.Prefix.Addr()) { // else a VIP that has just gone, which is no fault
		b.problem("Node "+r.Node, "announces "+k.Prefix.String()+" in "+k.VRF+", which is not leased to it")
	}
}

// blockRoute tells the other nodes where a block is.
func (b *builder) blockRoute(k RouteKey, p RoutePath) {
	prefix := k.Prefix.String()
	r := b.add(routeSet(k.VRF), southbound.Type_TYPE_ROUTE, k.VRF+"/"+prefix, &southbound.Route{
		VirtualNetwork: k.VRF,
		Prefix:         prefix,
		Paths:          []*southbound.Path{{Node: p.Node, TunnelAddress: p.NextHop.String(), Label: p.Label}},
	})
	r.NotFor = p.Node
}

// vipRoute shows a VIP in the network of its service and in that of the VIPs.
func (b *builder) vipRoute(lb *LoadBalancer, prefix netip.Prefix, p RoutePath) {
	b.instances[lb.Home.Name].add(prefix, "floating-ip", lb.Name, p)
	for f := range lb.Addresses() {
		if f.Address == prefix.Addr() {
			b.instances[f.Network.Name].add(prefix, "floating-ip", lb.Name, p)
		}
	}
}

// membersOf are the VMIs of a node that lead to a VIP.
func (b *builder) membersOf(node string, uuids []string) []*Interface {
	var out []*Interface
	for _, u := range slices.Compact(slices.Sorted(slices.Values(uuids))) {
		if v := b.vmis[u]; v != nil && v.Pod.Node == node {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(x, y *Interface) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// add puts a node's path to a prefix; one node has one path.
func (r *RoutingInstance) add(prefix netip.Prefix, kind, object string, p RoutePath) {
	route := r.byPrefix[prefix]
	if route == nil {
		route = &Route{Prefix: prefix, Kind: kind, Object: object}
		r.byPrefix[prefix] = route
		r.Routes = append(r.Routes, route)
	}
	if n := len(route.Paths); n == 0 || route.Paths[n-1].Node != p.Node { // nodes come in order
		route.Paths = append(route.Paths, p)
	}
}

func compareRouteKey(a, b RouteKey) int {
	return cmp.Or(cmp.Compare(a.VRF, b.VRF), comparePrefix(a.Prefix, b.Prefix))
}
