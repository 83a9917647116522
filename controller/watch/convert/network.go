package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
)

// VirtualNetwork reads a network by the rules that the API server has for it
// (conf/v1alpha1): manifests have no other judge.
func VirtualNetwork(o *v1alpha1.VirtualNetwork) (plan.VirtualNetwork, error) {
	var f faults
	n := plan.VirtualNetwork{
		Meta:         meta(&o.ObjectMeta),
		Subnets:      subnets(o.Spec.Subnets, &f),
		RouteTargets: routeTargets(o.Spec.RouteTargets, &f),
		External:     o.Spec.External,
		SNAT:         o.Spec.SNAT == nil || *o.Spec.SNAT,
	}
	if len(o.Spec.Subnets) == 0 {
		f.add(errors.New("none; a network has at least one"), "spec.subnets")
	}
	return n, f.err()
}

// Pool reads a FloatingIPPool.
func Pool(o *v1alpha1.FloatingIPPool) (plan.FloatingIPPool, error) {
	var f faults
	p := plan.FloatingIPPool{Meta: meta(&o.ObjectMeta), Network: o.Spec.VirtualNetwork, Subnets: subnets(o.Spec.Subnets, &f)}
	if p.Network == "" {
		f.add(errors.New("missing"), "spec.virtualNetwork")
	}
	return p, f.err()
}

// Lease reads an IPBlock.
func Lease(o *v1alpha1.IPBlock) (plan.Lease, error) {
	l := plan.Lease{Network: o.Spec.Network, Node: o.Spec.Node}
	p, err := prefix(string(o.Spec.Prefix))
	if err != nil {
		return l, fmt.Errorf("field spec.prefix: %w", err)
	}
	l.Prefix = p
	return l, nil
}

func subnets(in []v1alpha1.Prefix, f *faults) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range in {
		p, err := prefix(string(s))
		for _, other := range out {
			if err == nil && other.Overlaps(p) {
				err = fmt.Errorf("%v overlaps %v", p, other)
			}
		}
		f.add(err, "spec.subnets[%d]", i)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no prefix in CIDR form, such as 10.0.0.0/16", s)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("%v has host bits; the prefix is %v", p, p.Masked())
	case p.Bits() == 0 || !p.Addr().IsGlobalUnicast():
		return netip.Prefix{}, fmt.Errorf("%v is not of addresses that hosts may have", p)
	}
	return p, nil
}

func routeTargets(in []v1alpha1.RouteTarget, f *faults) []string {
	var out []string
	for i, t := range in {
		err := checkRouteTarget(string(t))
		f.add(err, "spec.routeTargets[%d]", i)
		if err == nil {
			out = append(out, string(t))
		}
	}
	return out
}

// checkRouteTarget accepts two octets of AS number with four of a number, and
// four with two (RFC 4360, RFC 5668).
func checkRouteTarget(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) == 3 && parts[0] == "target" {
		as, e1 := strconv.ParseUint(parts[1], 10, 32)
		n, e2 := strconv.ParseUint(parts[2], 10, 32)
		if e1 == nil && e2 == nil && (as <= 65535 || n <= 65535) {
			return nil
		}
	}
	return fmt.Errorf("%q is no route target, such as target:64512:100", s)
}
