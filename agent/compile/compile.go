package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

// Output is what Compile makes.
type Output struct {
	State    table.State
	Announce Announcement // to be said once State is in the fast path
	Memory   *Memory      // for the next call
	// Problems are sentences about what had to be left out.
	Problems []string
}

// Compile makes the tables. ids gives the numbers and forgets those of things
// that are gone; memory is that of the last Output (or Recall of the tables in
// the fast path, or nil), so that members of a composite stay where they are.
// Equal inputs with equal ids and memory give equal tables, in any order.
func Compile(in *Input, ids *IDs, memory *Memory) *Output {
	c := &compiler{
		in: in, ids: ids, old: memory,
		out:    &Output{Announce: newAnnouncement()},
		vrfs:   map[string]table.VRFID{},
		routes: map[table.RouteKey]table.Route{},
		nhs:    map[table.NextHopID]bool{},
		local:  map[string]*Pod{},
	}
	ids.begin()
	c.fabric()
	c.networks()
	c.host()
	c.subnets()
	c.remember()
	c.tunnels()
	c.remote()
	c.pods()
	c.services()
	ids.sweep()
	c.finish()
	return c.out
}

// compiler is one compilation.
type compiler struct {
	// Set once by Compile
	in  *Input
	ids *IDs
	old *Memory

	// Results, and what later steps need of earlier ones
	out       *Output
	fabricVif table.VifID
	hostNH    table.NextHopID // 0: no host
	vrfs      map[string]table.VRFID
	routes    map[table.RouteKey]table.Route // a later step overrides
	nhs       map[table.NextHopID]bool       // made
	local     map[string]*Pod                // by VMI: attached here
}

func (c *compiler) problem(format string, args ...any) {
	c.out.Problems = append(c.out.Problems, fmt.Sprintf(format, args...))
}

func (c *compiler) nextHop(n table.NextHop) {
	c.nhs[n.ID] = true
	c.out.State.NextHops = append(c.out.State.NextHops, n)
}

func (c *compiler) route(vrf table.VRFID, prefix netip.Prefix, nh table.NextHopID, label table.Label) {
	r := table.Route{VRF: vrf, Prefix: prefix, NH: nh, Label: label}
	c.routes[r.Key()] = r
}

func (c *compiler) label(key string, nh table.NextHopID) table.Label {
	l := table.Label(c.ids.Get(record.SpaceLabel, key))
	if l != 0 {
		c.out.State.Labels = append(c.out.State.Labels, table.LabelEntry{Label: l, NH: nh})
	}
	return l
}

func (c *compiler) nhID(key string) table.NextHopID {
	return table.NextHopID(c.ids.Get(record.SpaceNH, key))
}

// fabric makes the vif tunnels leave by and come in.
func (c *compiler) fabric() {
	f := c.in.Fabric
	c.fabricVif = table.VifID(c.ids.Get(record.SpaceVif, "fabric"))
	c.out.State.Vifs = append(c.out.State.Vifs, table.Vif{
		ID: c.fabricVif, Kind: table.VifFabric, Name: f.Name, Ifindex: f.Ifindex,
		MAC: f.MAC, MTU: f.MTU, Addrs: []netip.Addr{f.Address},
	})
}

// networks makes a VRF and its label for every network that is configured or
// has a pod here.
func (c *compiler) networks() {
	for _, name := range c.networkNames() {
		id := table.VRFID(c.ids.Get(record.SpaceVRF, vrfKey(name)))
		nh := c.nhID(vrfKey(name))
		if id == 0 || nh == 0 {
			c.problem("network %s: no numbers left", name)
			continue
		}
		c.vrfs[name] = id
		c.nextHop(table.NextHop{ID: nh, Type: table.NHVRFTranslate, VRF: id})
		label := c.label(vrfKey(name), nh)
		v := table.VRF{ID: id, Name: name}
		if n := c.hostNetwork(); n != nil && n.Name == name && c.in.Host != nil {
			v.Router4, v.Router6 = byFamily(c.in.Host.Addrs)
		}
		c.out.State.VRFs = append(c.out.State.VRFs, v)
		c.out.Announce.vrf(name, label, c.in.Blocks)
	}
}

func (c *compiler) networkNames() []string {
	var names []string
	for _, n := range c.in.Networks {
		names = append(names, n.Name)
	}
	for i := range c.in.Pods {
		names = append(names, c.in.Pods[i].Network)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostNetwork is the network of the host's interface; the first by name if
// several claim it.
func (c *compiler) hostNetwork() (found *Network) {
	for _, n := range c.in.Networks {
		if n.Host && (found == nil || n.Name < found.Name) {
			found = n
		}
	}
	return found
}

// host makes the vif of the node itself, and leads everything that is not in a
// network there.
func (c *compiler) host() {
	h, n := c.in.Host, c.hostNetwork()
	if h == nil || n == nil || c.vrfs[n.Name] == 0 {
		return
	}
	vif := table.VifID(c.ids.Get(record.SpaceVif, "host"))
	c.hostNH = c.nhID("host")
	vrf := c.vrfs[n.Name]
	c.out.State.Vifs = append(c.out.State.Vifs, table.Vif{
		ID: vif, Kind: table.VifHost, Name: h.Tap, Ifindex: h.Ifindex, VRF: vrf, NH: c.hostNH,
		MAC: h.MAC, MTU: h.MTU, Addrs: h.Addrs, Owner: "host",
	})
	c.nextHop(table.NextHop{ID: c.hostNH, Type: table.NHHost, Vif: vif, VRF: vrf})
	c.out.Announce.Host = h.Addrs
	for _, vrf := range c.vrfs {
		c.route(vrf, netip.PrefixFrom(netip.IPv4Unspecified(), 0), c.hostNH, 0)
		c.route(vrf, netip.PrefixFrom(netip.IPv6Unspecified(), 0), c.hostNH, 0)
	}
}

// subnets makes what is in a network but nowhere unreachable: without these
// routes the default route would hand it to the host, and the host hand it back.
func (c *compiler) subnets() {
	for _, n := range c.in.Networks {
		for _, list := range [][]netip.Prefix{n.Subnets, n.ServiceSubnets} {
			for _, p := range list {
				if vrf := c.vrfs[n.Name]; vrf != 0 {
					c.route(vrf, p, 0, 0)
				}
			}
		}
	}
	for _, b := range c.in.Blocks {
		if vrf := c.vrfs[b.Network]; vrf != 0 {
			c.route(vrf, b.Prefix, 0, 0)
		}
	}
}

// tunnels makes a next hop per node that anything leads to, and the list of
// nodes packets are accepted from.
func (c *compiler) tunnels() {
	ends := slices.Clone(c.in.Peers)
	for _, r := range c.in.Routes {
		for _, p := range r.Paths {
			ends = append(ends, p.Tunnel)
		}
	}
	for _, lb := range c.in.LoadBalancers {
		if c.old.fragments[lb] == nil { // else its ends are Peers
			ends = append(ends, lb.ends(c.in.Node)...)
		}
	}
	for _, dip := range sortedAddrs(ends) {
		if dip == c.in.Fabric.Address || !dip.IsValid() {
			continue
		}
		c.nextHop(c.tunnel(dip))
	}
	c.out.State.Peers = slices.DeleteFunc(sortedAddrs(c.in.Peers), func(a netip.Addr) bool { return a == c.in.Fabric.Address })
}

func (c *compiler) tunnel(dip netip.Addr) table.NextHop {
	n := table.NextHop{
		ID: c.nhID(tunnelKey(dip)), Type: table.NHTunnel, Vif: c.fabricVif,
		Sip: c.in.Fabric.Address, Dip: dip, MTU: c.in.Fabric.MTU,
	}
	via := c.in.Underlay[dip]
	if via.DstMAC == (table.MAC{}) {
		n.Type = table.NHResolve
		return n
	}
	n.SrcMAC, n.DstMAC = via.SrcMAC, via.DstMAC
	if via.MTU != 0 {
		n.MTU = min(via.MTU, n.MTU)
	}
	return n
}

func tunnelKey(dip netip.Addr) string { return "tunnel/" + dip.String() }

// tunnelTo returns a tunnel's next hop, 0 if there is none: to ourselves.
func (c *compiler) tunnelTo(dip netip.Addr) table.NextHopID {
	id := table.NextHopID(c.ids.Lookup(record.SpaceNH, tunnelKey(dip)))
	if !c.nhs[id] {
		return 0
	}
	return id
}

// remote makes the routes to other nodes' blocks.
func (c *compiler) remote() {
	for _, r := range c.in.Routes {
		vrf := c.vrfs[r.Network]
		if vrf == 0 {
			continue
		}
		var members []table.Member
		for _, p := range r.Paths {
			if nh := c.tunnelTo(p.Tunnel); nh != 0 && p.Label != 0 {
				members = append(members, table.Member{NH: nh, Label: p.Label, Key: memberKey(p.Node), Name: p.Node})
			}
		}
		switch len(members) {
		case 0:
			c.problem("route %v of %s leads nowhere", r.Prefix, r.Network)
		case 1:
			c.route(vrf, r.Prefix, members[0].NH, members[0].Label)
		default:
			c.route(vrf, r.Prefix, c.composite("route/"+r.Network+"/"+r.Prefix.String(), members, 0, 0), 0)
		}
	}
}

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
			MAC: p.MAC, MTU: p.MTU, Addrs: p.Addrs, Owner: p.Name, VMI: p.VMI,
		})
		c.nextHop(table.NextHop{ID: ids.NH, Type: table.NHEncap, Vif: ids.Vif, VRF: vrf})
		for _, a := range p.Addrs {
			c.route(vrf, netip.PrefixFrom(a, a.BitLen()), ids.NH, 0)
		}
		c.portMaps(p, ids.Vif)
		if p.Current {
			c.local[p.VMI] = p
			c.out.State.Labels = append(c.out.State.Labels, table.LabelEntry{Label: ids.Label, NH: ids.NH})
			c.out.Announce.pod(p, ids.Label)
		}
	}
	c.hostRoutes()
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

// hostRoutes leads to the host's own addresses.
func (c *compiler) hostRoutes() {
	if c.hostNH == 0 {
		return
	}
	for _, a := range c.in.Host.Addrs {
		c.route(c.vrfs[c.hostNetwork().Name], netip.PrefixFrom(a, a.BitLen()), c.hostNH, 0)
	}
}

// finish puts everything in order, so that equal inputs give equal outputs.
func (c *compiler) finish() {
	s := &c.out.State
	for _, r := range c.routes {
		s.Routes = append(s.Routes, r)
	}
	slices.SortFunc(s.Vifs, func(a, b table.Vif) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.VRFs, func(a, b table.VRF) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.NextHops, func(a, b table.NextHop) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Labels, func(a, b table.LabelEntry) int { return cmp.Compare(a.Label, b.Label) })
	slices.SortFunc(s.Routes, func(a, b table.Route) int {
		return cmp.Or(cmp.Compare(a.VRF, b.VRF), a.Prefix.Compare(b.Prefix))
	})
	slices.SortFunc(s.PortMaps, comparePortMaps)
	slices.Sort(c.out.Problems)
}

func comparePortMaps(a, b table.PortMap) int {
	return cmp.Or(cmp.Compare(a.Vif, b.Vif), a.VIP.Compare(b.VIP), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
}

func sortedAddrs(in []netip.Addr) []netip.Addr {
	out := slices.Clone(in)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// byFamily returns the first IPv4 and the first IPv6 address.
func byFamily(list []netip.Addr) (four, six netip.Addr) {
	for _, a := range list {
		switch {
		case a.Is4() && !four.IsValid():
			four = a
		case !a.Is4() && !six.IsValid():
			six = a
		}
	}
	return four, six
}
