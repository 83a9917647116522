package verbs

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vragent/vragent/plugin/veth"
)

// result says what ADD made, as of the newest specification; printing converts
// it. Interface 0 is the host end, 1 the pod's. The ips are podIPs, where these
// are not the addresses of the interface itself.
func (c *call) result(p *veth.Plan, podIPs []netip.Addr) *current.Result {
	if len(podIPs) == 0 {
		podIPs = p.Addrs
	}
	mtu := p.MTU
	if newer, err := version.GreaterThanOrEqualTo(c.conf.CNIVersion, "1.1.0"); err != nil || !newer {
		mtu = 0 // interfaces had none before 1.1.0
	}
	r := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: p.Tap, Mtu: mtu},
			{Name: p.Owner.Ifname, Mac: p.MAC.String(), Mtu: mtu, Sandbox: c.args.Netns},
		},
		DNS: types.DNS{
			Nameservers: c.conf.DNS.Nameservers,
			Domain:      c.conf.DNS.Domain,
			Search:      c.conf.DNS.Search,
			Options:     c.conf.DNS.Options,
		},
	}
	for _, addr := range podIPs {
		gw, _ := p.Gateway(addr.Is4())
		r.IPs = append(r.IPs, &current.IPConfig{
			Interface: current.Int(1),
			Address:   net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
			Gateway:   gw.AsSlice(),
		})
	}
	for _, dst := range p.Routes {
		gw, _ := p.Gateway(dst.Addr().Is4())
		r.Routes = append(r.Routes, &types.Route{
			Dst: net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())},
			GW:  gw.AsSlice(),
		})
	}
	return r
}

// planOf reads a result back: what ADD made, for CHECK and DEL to find again.
// Results before 1.1.0 have no MTU.
func (c *call) planOf() (*veth.Plan, error) {
	bad := func(cause string) error {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult "+cause, "give the result of this attachment's ADD")
	}
	if c.conf.PrevResult == nil {
		return nil, bad("is missing")
	}
	whole, err := version.NewResult(c.conf.CNIVersion, c.conf.PrevResult)
	if err != nil {
		return nil, bad("cannot be read: " + err.Error())
	}
	r, err := current.NewResultFromResult(whole)
	if err != nil {
		return nil, bad("cannot be read: " + err.Error())
	}
	p := &veth.Plan{Owner: c.owner}
	ours := -1
	for i, iface := range r.Interfaces {
		switch {
		case iface == nil:
			return nil, bad(fmt.Sprintf("has an empty interface %d", i))
		case iface.Sandbox == "" && p.Tap == "":
			p.Tap = iface.Name
		case iface.Sandbox != "" && iface.Name == c.owner.Ifname:
			ours, p.MTU = i, iface.Mtu
			if err := p.MAC.UnmarshalText([]byte(iface.Mac)); err != nil {
				return nil, bad(fmt.Sprintf("has a strange MAC of %s: %v", iface.Name, err))
			}
		}
	}
	if ours < 0 || p.Tap == "" {
		return nil, bad("does not have interface " + c.owner.Ifname + " with its host end")
	}
	return p, addAddresses(p, r, ours)
}

// addAddresses fills in addresses and routes of interface number ours. Routes
// that go elsewhere are other plugins' affair.
func addAddresses(p *veth.Plan, r *current.Result, ours int) error {
	for _, ip := range r.IPs {
		if ip == nil || ip.Interface == nil || *ip.Interface != ours {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		gw, okGW := netip.AddrFromSlice(ip.Gateway)
		if !ok || !okGW {
			return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("prevResult has address %s with gateway %v", ip.Address.String(), ip.Gateway), "")
		}
		p.Addrs = append(p.Addrs, addr.Unmap())
		if _, have := p.Gateway(gw.Unmap().Is4()); !have {
			p.Gateways = append(p.Gateways, gw.Unmap())
		}
	}
	if len(p.Addrs) == 0 {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult has no address of "+p.Owner.Ifname, "")
	}
	for _, route := range r.Routes {
		if route == nil {
			continue
		}
		dst, ok := netip.AddrFromSlice(route.Dst.IP)
		gw, okGW := netip.AddrFromSlice(route.GW)
		if !ok || !okGW {
			continue
		}
		if want, have := p.Gateway(gw.Unmap().Is4()); have && want == gw.Unmap() {
			bits, _ := route.Dst.Mask.Size()
			p.Routes = append(p.Routes, netip.PrefixFrom(dst.Unmap(), bits))
		}
	}
	return nil
}
