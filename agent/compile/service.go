package compile

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vragent/vragent/fastpath/table"
)

// isOn reports whether a backend is on the node.
func (lb *LoadBalancer) isOn(node string) bool {
	for i := range lb.Listeners {
		for j := range lb.Listeners[i].Members {
			if m := &lb.Listeners[i].Members[j]; m.VMI != "" && m.Node == node {
				return true
			}
		}
	}
	return false
}

// ends lists the tunnel addresses of backends on other nodes.
func (lb *LoadBalancer) ends(node string) (ends []netip.Addr) {
	for i := range lb.Listeners {
		for j := range lb.Listeners[i].Members {
			if m := &lb.Listeners[i].Members[j]; m.VMI != "" && m.Node != node {
				ends = append(ends, m.Tunnel)
			}
		}
	}
	return ends
}

// services makes, for every VIP, a composite per listener: the VIP's route
// leads to it when it is the only one, else to a service next hop that knows
// them all. A VIP with backends here also gets a label that leads to those only.
func (c *compiler) services() {
	sorted := slices.SortedFunc(slices.Values(c.in.LoadBalancers), func(a, b *LoadBalancer) int { return cmp.Compare(a.UUID, b.UUID) })
	for _, lb := range sorted {
		users := c.users(lb)
		if len(users) == 0 {
			continue
		}
		for vip, nh := range c.vips(lb) {
			for _, r := range users {
				r.Prefix, r.NH = single(vip), nh
				c.route(floating, r)
			}
		}
		if c.out.Memory.fragments[lb] == nil && lb.isOn(c.in.Node) {
			for _, vip := range sortedAddrs(slices.Concat(lb.VIPs, lb.ExternalVIPs)) {
				c.localVIP(lb, vip)
			}
		}
		c.outside(lb)
	}
}

// users are the VRFs here that have routes to a load balancer's VIPs: whose
// pods may use it, and always the host's.
func (c *compiler) users(lb *LoadBalancer) []table.Route {
	var users []table.Route
	for _, n := range c.in.Networks {
		_, may := slices.BinarySearch(lb.Networks, n.Name)
		if vrf := c.vrfs[n.Name]; vrf != 0 && (may || n == c.hostNetwork()) {
			users = append(users, table.Route{VRF: vrf, ReplyOnly: !may, Translate: n.Translated && n.Name != lb.Home})
		}
	}
	return users
}

// vip makes the next hops of one VIP and returns the one its route leads to.
// key is the start of their keys.
func (c *compiler) vip(lb *LoadBalancer, key string, doors []door) table.NextHopID {
	if len(doors) == 1 && !doors[0].hostOnly && doors[0].outside == nil {
		d := &doors[0]
		return c.composite(doorKey(key, d), table.NextHop{Members: d.members, Proto: d.proto, Port: d.port, Affinity: lb.Affinity})
	}
	nh := table.NextHop{ID: c.nhID(key), Type: table.NHService}
	for i := range doors {
		d := &doors[i]
		l := table.Listener{Proto: d.proto, Port: d.port, HostOnly: d.hostOnly}
		l.NH = c.composite(doorKey(key, d), table.NextHop{Members: d.members, Affinity: lb.Affinity})
		if d.outside != nil {
			l.OutsideNH = c.composite(doorKey(key, d)+"/outside", table.NextHop{Members: *d.outside, Affinity: lb.Affinity})
		}
		nh.Listeners = append(nh.Listeners, l)
	}
	c.nextHop(nh)
	return nh.ID
}

// localVIP announces a VIP that has backends here, under a label of its own.
func (c *compiler) localVIP(lb *LoadBalancer, vip netip.Addr) {
	var vmis []string
	for i := range lb.Listeners {
		for _, m := range lb.Listeners[i].Members {
			if c.isLocal(&m, vip) {
				vmis = append(vmis, m.VMI)
			}
		}
	}
	if len(vmis) == 0 {
		return
	}
	slices.Sort(vmis)
	key := vipKey(lb, vip)
	nh := c.vip(lb, key+"/local", c.localDoors(lb, vip))
	c.out.Announce.vip(c.home(lb), vip, c.label(key, nh), slices.Compact(vmis))
}

// home is the network a load balancer's VIPs are announced in.
func (c *compiler) home(lb *LoadBalancer) string {
	if c.vrfs[lb.Home] != 0 || len(lb.Networks) == 0 {
		return lb.Home
	}
	return lb.Networks[0]
}

// composite makes an ECMP next hop whose members keep their positions.
func (c *compiler) composite(key string, nh table.NextHop) table.NextHopID {
	nh.ID, nh.Type = c.nhID(key), table.NHComposite
	if len(nh.Members) > table.MaxMembers {
		c.problem("%s: %d members, only %d fit", key, len(nh.Members), table.MaxMembers)
		slices.SortFunc(nh.Members, func(a, b table.Member) int {
			return cmp.Or(compareBool(a.Draining, b.Draining), cmp.Compare(a.Key, b.Key))
		})
		nh.Members = nh.Members[:table.MaxMembers]
	}
	nh.Members = c.old.positions.place(nh.ID, nh.Members)
	if len(nh.Members) > 0 {
		c.out.Memory.positions[nh.ID] = keysOf(nh.Members)
	}
	c.nextHop(nh)
	return nh.ID
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func vipKey(lb *LoadBalancer, vip netip.Addr) string {
	return "lb/" + lb.UUID + "/" + vip.String()
}

func doorKey(vip string, d *door) string {
	return vip + "/" + strconv.Itoa(int(d.proto)) + "/" + strconv.Itoa(int(d.port))
}

// memberKey is equal on all nodes: it decides which flows choose the member.
func memberKey(uuid string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uuid))
	return h.Sum64()
}
