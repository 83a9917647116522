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
	Outside  Outside      // what the kernel does for services
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
		out:  &Output{Announce: newAnnouncement()},
		vrfs: map[string]table.VRFID{}, importers: map[string][]importer{},
		routes: map[table.RouteKey]entry{},
		nhs:    map[table.NextHopID]bool{},
		local:  map[string]*Pod{},
	}
	ids.begin()
	c.fabric()
	c.networks()
	c.imports()
	c.host()
	c.subnets()
	c.remember()
	c.tunnels()
	c.remote()
	c.pods()
	c.hostRoutes()
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
	importers map[string][]importer // by the network they import
	routes    map[table.RouteKey]entry
	nhs       map[table.NextHopID]bool // made
	keys      []string                 // of all next hops' numbers asked for
	local     map[string]*Pod          // by VMI: attached here
}

func (c *compiler) problem(format string, args ...any) {
	c.out.Problems = append(c.out.Problems, fmt.Sprintf(format, args...))
}

func (c *compiler) nextHop(n table.NextHop) {
	c.nhs[n.ID] = true
	c.out.State.NextHops = append(c.out.State.NextHops, n)
}

func (c *compiler) label(key string, nh table.NextHopID) table.Label {
	l := table.Label(c.ids.Get(record.SpaceLabel, key))
	if l != 0 {
		c.out.State.Labels = append(c.out.State.Labels, table.LabelEntry{Label: l, NH: nh})
	}
	return l
}

func (c *compiler) nhID(key string) table.NextHopID {
	c.keys = append(c.keys, key)
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

// finish puts everything in order, so that equal inputs give equal outputs.
func (c *compiler) finish() {
	s := &c.out.State
	for _, r := range c.routes {
		s.Routes = append(s.Routes, r.Route)
	}
	slices.SortFunc(s.Vifs, func(a, b table.Vif) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.VRFs, func(a, b table.VRF) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.NextHops, func(a, b table.NextHop) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Labels, func(a, b table.LabelEntry) int { return cmp.Compare(a.Label, b.Label) })
	slices.SortFunc(s.Routes, func(a, b table.Route) int {
		return cmp.Or(cmp.Compare(a.VRF, b.VRF), a.Prefix.Compare(b.Prefix))
	})
	slices.SortFunc(s.PortMaps, comparePortMaps)
	c.out.Outside.sort()
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
