package compile

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/fastpath/table"
)

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
	for name := range c.vrfs {
		c.outward(name)
	}
}

// outward leads what is in no network to the host. Where nothing outside may be
// reached, replies still are.
func (c *compiler) outward(name string) {
	r := table.Route{VRF: c.vrfs[name], NH: c.hostNH}
	for _, n := range c.in.Networks {
		if n.Name == name {
			r.Translate, r.ReplyOnly = n.Translated, n.NoOutside
		}
	}
	for _, zero := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		r.Prefix = netip.PrefixFrom(zero, 0)
		c.route(byDefault, r)
	}
}
