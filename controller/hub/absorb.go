package hub

import (
	"fmt"
	"maps"
	"math"
	"net/netip"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// said is what an agent has said since its stream began; at its in_sync the
// rest of the report is swept.
type said struct {
	vmis   map[string]bool
	routes map[plan.RouteKey]bool
	blocks map[plan.BlockKey]bool
}

func newSaid() said {
	return said{map[string]bool{}, map[plan.RouteKey]bool{}, map[plan.BlockKey]bool{}}
}

// absorb applies a publication to a report; what cannot be is left out and
// returned as sentences.
func absorb(old *plan.Report, p *southbound.Publish, s said) (*plan.Report, []error) {
	r := old.Clone()
	var faults []error
	for _, v := range p.GetVmis() {
		a, err := attachedVMI(v)
		if err != nil {
			faults = append(faults, fmt.Errorf("vmi %q: %w", v.GetUuid(), err))
			continue
		}
		r.VMIs[v.GetUuid()] = a
		s.vmis[v.GetUuid()] = true
	}
	for _, u := range p.GetRemovedVmis() {
		delete(r.VMIs, u)
	}
	faults = append(faults, absorbRoutes(r, p, s)...)
	for _, b := range p.GetBlocks() {
		prefix, err := parsePrefix(b.GetPrefix())
		if err != nil {
			faults = append(faults, fmt.Errorf("block: %w", err))
			continue
		}
		k := plan.BlockKey{Network: b.GetVirtualNetwork(), Prefix: prefix}
		r.Blocks[k] = b.GetUsed()
		s.blocks[k] = true
	}
	if p.GetHost() != nil {
		host, err := parseAddrs(p.GetHost().GetAddresses())
		if err != nil {
			faults = append(faults, fmt.Errorf("host: %w", err))
		} else {
			r.Host = host
		}
	}
	return r, faults
}

func absorbRoutes(r *plan.Report, p *southbound.Publish, s said) (faults []error) {
	for _, l := range p.GetRoutes() {
		prefix, err := parsePrefix(l.GetPrefix())
		if err != nil {
			faults = append(faults, fmt.Errorf("route: %w", err))
			continue
		}
		k := plan.RouteKey{VRF: l.GetVrf(), Prefix: prefix}
		r.Routes[k] = plan.LocalRoute{Label: l.GetLabel(), Encapsulations: l.GetEncapsulations(), VMIs: l.GetVmis()}
		s.routes[k] = true
	}
	for _, n := range p.GetRemovedRoutes() {
		prefix, err := parsePrefix(n.GetPrefix())
		if err != nil {
			faults = append(faults, fmt.Errorf("removed route: %w", err))
			continue
		}
		delete(r.Routes, plan.RouteKey{VRF: n.GetVrf(), Prefix: prefix})
	}
	return faults
}

// sweep removes from a report what was not said again.
func sweep(old *plan.Report, s said) *plan.Report {
	r := old.Clone()
	maps.DeleteFunc(r.VMIs, func(k string, _ plan.AttachedVMI) bool { return !s.vmis[k] })
	maps.DeleteFunc(r.Routes, func(k plan.RouteKey, _ plan.LocalRoute) bool { return !s.routes[k] })
	maps.DeleteFunc(r.Blocks, func(k plan.BlockKey, _ uint32) bool { return !s.blocks[k] })
	return r
}

func attachedVMI(v *southbound.VMIStatus) (plan.AttachedVMI, error) {
	addrs, err := parseAddrs(v.GetAddresses())
	if err != nil {
		return plan.AttachedVMI{}, err
	}
	cluster, err := parseAddrs(v.GetClusterAddresses())
	if err != nil {
		return plan.AttachedVMI{}, err
	}
	maps, err := portMaps(v.GetPortMaps())
	if err != nil {
		return plan.AttachedVMI{}, err
	}
	return plan.AttachedVMI{
		Addresses:        addrs,
		ClusterAddresses: cluster,
		MAC:              v.GetMac(),
		Label:            v.GetLabel(),
		Tap:              v.GetTap(),
		PortMaps:         maps,
	}, nil
}

func portMaps(in []*southbound.PortMap) (map[plan.PortMapKey]uint16, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make(map[plan.PortMapKey]uint16, len(in))
	for _, m := range in {
		vip, err := netip.ParseAddr(m.GetVip())
		if err != nil || m.GetProtocol() > math.MaxUint8 || m.GetPort() > math.MaxUint16 || m.GetTarget() > math.MaxUint16 {
			return nil, fmt.Errorf("port map %v cannot be", m)
		}
		out[plan.PortMapKey{VIP: vip.Unmap(), Protocol: uint8(m.GetProtocol()), Port: uint16(m.GetPort())}] = uint16(m.GetTarget())
	}
	return out, nil
}

func parseAddrs(in []string) ([]netip.Addr, error) {
	out := make([]netip.Addr, len(in))
	for i, s := range in {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%q is no address", s)
		}
		out[i] = a.Unmap()
	}
	return out, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is no prefix", s)
	}
	return p, nil
}
