package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/table"
)

// origin ranks the routes to one prefix of a VRF: the highest is used.
type origin uint8

const (
	byDefault      origin = iota // to the host
	importedSubnet               // what is nowhere in a network
	ownSubnet
	facing   // a pod of another network, as its host reaches it
	imported // of another network
	remote   // of another node
	local    // a pod here, the host
	floating // a VIP
)

// entry is a route that something asks for.
type entry struct {
	table.Route
	origin origin
}

// outranks is a total order, so that the order of asking does not matter.
func (e *entry) outranks(other *entry) bool {
	if e.ReplyOnly != other.ReplyOnly && e.origin == other.origin {
		return other.ReplyOnly
	}
	return cmp.Or(cmp.Compare(e.origin, other.origin), cmp.Compare(other.NH, e.NH), cmp.Compare(other.Label, e.Label)) > 0
}

// route asks for a route of one VRF.
func (c *compiler) route(from origin, r table.Route) {
	e := entry{r, from}
	if old, ok := c.routes[r.Key()]; !ok || e.outranks(&old) {
		c.routes[r.Key()] = e
	}
}

// lead asks for a route of a network and of those that import it.
func (c *compiler) lead(network string, from origin, r table.Route) {
	if r.VRF = c.vrfs[network]; r.VRF != 0 {
		c.route(from, r)
	}
	for _, to := range c.importers[network] {
		if to.keeps(r.Prefix) {
			continue
		}
		i := r
		i.VRF, i.ReplyOnly = to.vrf, r.ReplyOnly || to.replyOnly
		c.route(imported, i)
	}
}

// importer is a VRF in which the routes of another network are valid.
type importer struct {
	vrf       table.VRFID
	replyOnly bool
	own       []netip.Prefix
}

// keeps says that what a prefix means here is not for others to say: addresses
// of a translated network may be those of another one too.
func (i *importer) keeps(p netip.Prefix) bool { return slices.ContainsFunc(i.own, p.Overlaps) }

// imports notes who imports whom.
func (c *compiler) imports() {
	for _, n := range c.in.Networks {
		if c.vrfs[n.Name] == 0 {
			continue
		}
		to := importer{vrf: c.vrfs[n.Name]}
		if n.Translated {
			to.own = n.Subnets
		}
		for _, i := range n.Imports {
			if i.Network != n.Name {
				to.replyOnly = i.ReplyOnly
				c.importers[i.Network] = append(c.importers[i.Network], to)
			}
		}
	}
}

// subnets makes what is in a network but nowhere unreachable, there and where
// the network is imported: without these routes the default route would hand it
// to the host, and the host hand it back.
func (c *compiler) subnets() {
	for _, n := range c.in.Networks {
		for _, p := range slices.Concat(n.Subnets, n.ServiceSubnets) {
			if vrf := c.vrfs[n.Name]; vrf != 0 {
				c.route(ownSubnet, table.Route{VRF: vrf, Prefix: p})
			}
			for _, to := range c.importers[n.Name] {
				c.route(importedSubnet, table.Route{VRF: to.vrf, Prefix: p})
			}
		}
	}
	for _, b := range c.in.Blocks {
		if vrf := c.vrfs[b.Network]; vrf != 0 {
			c.route(ownSubnet, table.Route{VRF: vrf, Prefix: b.Prefix})
		}
	}
}

// remote makes the routes to other nodes' blocks.
func (c *compiler) remote() {
	for _, r := range c.in.Routes {
		if c.vrfs[r.Network] == 0 && len(c.importers[r.Network]) == 0 {
			continue
		}
		var members []table.Member
		for _, p := range r.Paths {
			if nh := c.tunnelTo(p.Tunnel); nh != 0 && p.Label != 0 {
				members = append(members, table.Member{NH: nh, Label: p.Label, Key: memberKey(p.Node), Name: p.Node})
			}
		}
		to := table.Route{Prefix: r.Prefix}
		switch len(members) {
		case 0:
			c.problem("route %v of %s leads nowhere", r.Prefix, r.Network)
			continue
		case 1:
			to.NH, to.Label = members[0].NH, members[0].Label
		default:
			to.NH = c.composite("route/"+r.Network+"/"+r.Prefix.String(), table.NextHop{Members: members})
		}
		c.lead(r.Network, remote, to)
	}
}

// hostRoutes leads to the host's own addresses.
func (c *compiler) hostRoutes() {
	if c.hostNH == 0 {
		return
	}
	for _, a := range c.in.Host.Addrs {
		c.lead(c.hostNetwork().Name, local, table.Route{Prefix: single(a), NH: c.hostNH})
	}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
