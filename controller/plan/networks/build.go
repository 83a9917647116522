package networks

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/controller/plan/blocks"
	"github.com/vragent/vragent/controller/plan/cluster"
)

// Input is everything that networks depend on; its lists are sorted and say
// nothing twice.
type Input struct {
	Config
	Namespaces      []cluster.Namespace
	VirtualNetworks []cluster.VirtualNetwork
	Leases          []blocks.Lease
	// Outside has the networks of VirtualNetworks whose pods reached what is
	// outside, when they were last made: there may be pods without the object.
	Outside map[string]bool
}

// Problem is something the operator should know.
type Problem struct{ Object, Sentence string }

// Networks are all there are: those of the whole cluster first, the others by name.
type Networks struct {
	All      []*Network
	Projects []*Project // one per namespace that is known of
	Problems []Problem

	in         Input
	byName     map[string]*Network
	unusable   map[object]string // VirtualNetworks, and why
	namespaces map[string]*cluster.Namespace
	projects   map[string]*Project
}

type object struct{ namespace, name string }

// New makes the two networks that every cluster has, two for each isolated
// namespace, one for each VirtualNetwork, and those that pods are still in.
func New(in Input) *Networks {
	n := &Networks{
		in:         in,
		byName:     map[string]*Network{},
		unusable:   map[object]string{},
		namespaces: map[string]*cluster.Namespace{},
		projects:   map[string]*Project{},
	}
	n.pair("default", DefaultPods)
	for i := range in.Namespaces {
		ns := &in.Namespaces[i]
		n.namespaces[ns.Name] = ns
		n.Project(ns.Name)
		if ns.Isolated && n.mayIsolate(ns) {
			n.pair(ns.Name, Isolated).OpenServices = ns.OpenServices
		}
	}
	for i := range in.VirtualNetworks {
		n.virtualNetwork(&in.VirtualNetworks[i])
	}
	n.closing()
	slices.SortFunc(n.All[2:], func(x, y *Network) int { return cmp.Compare(x.Name, y.Name) })
	return n
}

// Host is the network that pods are in by default, and the hosts are.
func (n *Networks) Host() *Network { return n.All[0] }

// Named is the network of that name; nil: there is none.
func (n *Networks) Named(name string) *Network { return n.byName[name] }

// Unusable says why a VirtualNetwork is no network; empty: it is, or does not exist.
func (n *Networks) Unusable(namespace, name string) string {
	return n.unusable[object{namespace, name}]
}

// Outside is what the next Input is to say.
func (n *Networks) Outside() map[string]bool {
	out := map[string]bool{}
	for _, x := range n.All {
		if x.Kind == Custom && !x.NoOutside {
			out[x.Name] = true
		}
	}
	return out
}

func (n *Networks) problem(object, sentence string) {
	n.Problems = append(n.Problems, Problem{object, sentence})
}

func (n *Networks) add(x *Network) *Network {
	x.UUID = cluster.Derive("virtual-network", x.Name)
	n.byName[x.Name] = x
	n.Project(cmp.Or(x.Namespace, "default"))
	n.All = append(n.All, x)
	return x
}

// pair makes the networks of a namespace for pods and for services.
func (n *Networks) pair(namespace string, k Kind) *Network {
	project, of := n.in.Project(namespace), namespace
	if k == DefaultPods {
		of = ""
	}
	pods := n.add(&Network{Name: n.in.Pods(namespace), Project: project, Namespace: of, Kind: k, Subnets: n.in.PodSubnets})
	pods.VIPs = n.add(&Network{
		Name: n.in.Services(namespace), Project: project, Namespace: of, Kind: Services, Subnets: n.in.ServiceSubnets,
	})
	return pods
}

// mayIsolate refuses the one namespace whose network would have the name of
// everybody's.
func (n *Networks) mayIsolate(ns *cluster.Namespace) bool {
	if ns.Name != "default" {
		return true
	}
	n.problem("Namespace default", "cannot be isolated: its network, "+n.Host().Name+", is that of all namespaces; use another namespace")
	return false
}

// virtualNetwork makes the network of a VirtualNetwork, or notes why it cannot.
func (n *Networks) virtualNetwork(v *cluster.VirtualNetwork) {
	if why := n.unusableBecause(v); why != "" {
		n.unusable[object{v.Namespace, v.Name}] = why
		n.problem("VirtualNetwork "+v.Ref(), "is not used: "+why)
		return
	}
	x := n.custom(n.in.VirtualNetwork(v.Namespace, v.Name), v.Namespace)
	x.Subnets, x.RouteTargets, x.NoOutside = v.Subnets, v.RouteTargets, !v.SNAT
	if v.External {
		x.Kind, x.VIPs = External, nil
	}
}

func (n *Networks) custom(name, namespace string) *Network {
	return n.add(&Network{
		Name: name, Project: n.in.Project(namespace), Namespace: namespace, Kind: Custom, VIPs: n.Host().VIPs,
	})
}

// unusableBecause says why a VirtualNetwork cannot be a network; empty: it can.
func (n *Networks) unusableBecause(v *cluster.VirtualNetwork) string {
	if len(v.Faults) > 0 {
		return v.Faults[0]
	}
	if len(v.Subnets) == 0 {
		return "it has no subnets"
	}
	for i, p := range v.Subnets {
		switch {
		case !p.IsValid() || p != p.Masked():
			return p.String() + " is no subnet"
		case p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsUnspecified():
			return "addresses of " + p.String() + " cannot be those of pods"
		case overlapsAny(n.in.PodSubnets, p):
			return p.String() + " overlaps the cluster's pod subnets"
		case overlapsAny(n.in.ServiceSubnets, p):
			return p.String() + " overlaps the cluster's service subnets"
		case overlapsAny(v.Subnets[:i], p):
			return p.String() + " overlaps another of its subnets"
		}
	}
	return ""
}

func overlapsAny(subnets []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(subnets, p.Overlaps)
}

// closing are the networks that nothing asks for any more and that nodes hold
// blocks of: pods may be in them. Their namespace is not isolated any more, or
// their VirtualNetwork is gone; of that, only the blocks are left.
func (n *Networks) closing() {
	for _, l := range n.in.Leases {
		own, ours := strings.CutPrefix(l.Network, n.in.Cluster+"-")
		namespace, _, custom := strings.Cut(own, ":")
		isolated, pods := strings.CutSuffix(own, "-pod-network")
		x := n.byName[l.Network]
		switch {
		case !ours || x != nil && !x.Closing:
			continue
		case custom && x == nil:
			x = n.custom(l.Network, namespace)
			x.Closing, x.NoOutside = true, !n.in.Outside[l.Network]
		case pods && x == nil:
			n.pair(isolated, Isolated).Closing = true
		}
		if custom && !slices.Contains(x.Subnets, l.Prefix) {
			x.Subnets = append(x.Subnets, l.Prefix)
		}
	}
}
