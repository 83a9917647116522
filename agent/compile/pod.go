package compile

import (
	"cmp"
	"slices"

	"github.com/vragent/vragent/fastpath/table"
)

// pods makes a vif, a next hop, routes, a label and port maps for each pod
// whose interface is there.
func (c *compiler) pods() {
	pods := slices.Clone(c.in.Pods)
	slices.SortFunc(pods, func(a, b Pod) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	for i := range pods {
		p := &pods[i]
		ids := c.ids.Pod(p.Key, p.VMI)
		vrf := c.vrfs[p.Network]
		if p.Ifindex == 0 || vrf == 0 || ids.Vif == 0 || ids.NH == 0 {
			continue
		}
		c.out.State.Vifs = append(c.out.State.Vifs, table.Vif{
			ID: ids.Vif, Kind: table.VifVirtual, Name: p.Tap, Ifindex: p.Ifindex, VRF: vrf, NH: ids.NH,
			MAC: p.MAC, MTU: p.MTU, Addrs: p.Addrs, ClusterAddrs: p.ClusterAddrs, Tap: p.Device, Owner: p.Name, VMI: p.VMI,
		})
		c.nextHop(table.NextHop{ID: ids.NH, Type: table.NHEncap, Vif: ids.Vif, VRF: vrf})
		c.podRoutes(p, ids.NH)
		c.portMaps(p, ids.Vif)
		if p.Current {
			c.local[p.VMI] = p
			c.out.State.Labels = append(c.out.State.Labels, table.LabelEntry{Label: ids.Label, NH: ids.NH})
			c.out.Announce.pod(p, ids.Label)
		}
	}
}

// podRoutes leads to a pod's own addresses, and from the host's network to its
// cluster addresses; the host itself reaches it by its own too.
func (c *compiler) podRoutes(p *Pod, nh table.NextHopID) {
	for _, a := range p.Addrs {
		c.lead(p.Network, local, table.Route{Prefix: single(a), NH: nh})
	}
	host := c.hostNetwork()
	if host == nil || host.Name == p.Network {
		return
	}
	for _, a := range p.ClusterAddrs {
		c.lead(host.Name, local, table.Route{Prefix: single(a), NH: nh, ReplyOnly: true})
	}
	if vrf := c.vrfs[host.Name]; vrf != 0 && !p.Hidden {
		for _, a := range p.Addrs {
			c.route(facing, table.Route{VRF: vrf, Prefix: single(a), NH: nh, ReplyOnly: true})
		}
	}
}

func (c *compiler) portMaps(p *Pod, vif table.VifID) {
	fixed4, fixed6 := byFamily(p.Addrs)
	seen := map[table.PortMapKey]bool{}
	for _, m := range p.PortMaps {
		fixed := fixed6
		if m.VIP.Is4() {
			fixed = fixed4
		}
		to := table.PortMap{Vif: vif, VIP: m.VIP, Proto: m.Proto, Port: m.Port, Fixed: fixed, Target: m.Target}
		if fixed.IsValid() && !seen[to.Key()] {
			seen[to.Key()] = true
			c.out.State.PortMaps = append(c.out.State.PortMaps, to)
		}
	}
}
