package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vragent/vragent/controller/plan/networks"
)

// placing knows the networks, and the interfaces in them.
type placing struct {
	nets      *networks.Networks
	groups    map[string][]string // by namespace: security groups, as the wire has them
	instances map[string]*RoutingInstance
	pods      map[podKey]*Interface
	vmis      map[string]*Interface
	refused   []*Interface
	moving    []*Interface // refused until another node has let go of their addresses
}

// place puts an interface into the network its pod asks for. One that is
// attached cannot move: it stays, and there is a problem.
func (b *builder) place(v *Interface) {
	want, why := b.networkOf(v.Pod)
	v.Network = want
	switch {
	case v.Attached:
		v.Network = b.attachedIn(v, v.Addresses, want)
	case !b.heard(v.Pod.Node) && len(v.Pod.IPs) > 0: // it is attached, as Kubernetes says
		v.Network = b.attachedIn(v, v.Pod.IPs, want)
	}
	reason := reasonOf(v.Pod)
	switch {
	case v.Network == nil:
		b.refuse(v, reason, why)
		return
	case want == nil:
		b.problem(reason, why+"; pods that are attached stay in "+v.Network.Name)
	case v.Network != want:
		b.problem(reason, "asks for network "+want.Name+" now; pods that are attached stay in "+v.Network.Name+" until they are recreated")
	}
	b.model.Interfaces = append(b.model.Interfaces, v)
}

// attachedIn is the network of which the node holds a block with the address
// of an attached interface. Blocks of two VirtualNetworks may overlap: then the
// network it was last planned in, or is now, is the more likely one.
func (b *builder) attachedIn(v *Interface, addresses []netip.Addr, want *Network) *Network {
	last := b.nets.Named(b.in.Memory.places[v.UUID])
	if len(addresses) == 0 {
		return cmp.Or(last, want)
	}
	var found []*Network
	for _, l := range b.leasesOf[v.Pod.Node] {
		if n := b.nets.Named(l.Network); n != nil && l.Prefix.Contains(addresses[0]) {
			found = append(found, n)
		}
	}
	for _, n := range []*Network{last, want} {
		if n != nil && slices.Contains(found, n) {
			return n
		}
	}
	if len(found) == 0 || !v.Attached && want != nil && want.Translated() {
		return cmp.Or(last, want) // Kubernetes may know the pod by its address in the hosts' network
	}
	return found[0]
}

// heard tells whether the agent of a node has said all.
func (b *builder) heard(node string) bool {
	r := b.in.Reports[node]
	return r != nil && r.Synced
}

// spot is an address among those it must be the only one of.
type spot struct {
	space string
	addr  netip.Addr
}

// fixedAddresses refuses the pods that ask for addresses they cannot have. Who
// has one keeps it, then the older pod gets it.
func (b *builder) fixedAddresses() {
	var asking []*Interface
	for _, v := range b.model.Interfaces {
		if len(v.Pod.Addresses) > 0 {
			asking = append(asking, v)
		}
	}
	slices.SortStableFunc(asking, func(x, y *Interface) int {
		if x.Attached != y.Attached {
			return map[bool]int{true: -1, false: 1}[x.Attached]
		}
		return cmp.Or(x.Pod.Created.Compare(y.Pod.Created), cmp.Compare(x.UUID, y.UUID))
	})
	owner := map[spot]*Interface{}
	for _, v := range asking {
		why := b.unfixable(v, owner)
		if why == "" {
			for _, a := range v.Pod.Addresses {
				owner[spot{AddressSpace(v.Network.Name), a}] = v
			}
		}
		switch {
		case v.Attached && (why != "" || !subset(v.Pod.Addresses, v.Addresses)):
			b.problem("Pod "+v.Pod.Ref(), fmt.Sprintf("asks for %v now and keeps %v until it is recreated", v.Pod.Addresses, v.Addresses))
		case why != "":
			b.refuse(v, "Pod "+v.Pod.Ref(), "Pod "+v.Pod.Ref()+" "+why)
		}
	}
}

func subset(part, whole []netip.Addr) bool {
	return !slices.ContainsFunc(part, func(a netip.Addr) bool { return !slices.Contains(whole, a) })
}

// unfixable says why a pod cannot have the addresses it asks for; empty: it can.
func (b *builder) unfixable(v *Interface, owner map[spot]*Interface) string {
	node := v.Pod.Node
	families := map[bool]bool{}
	for _, a := range v.Pod.Addresses {
		l, leased := b.table.Of(v.Network.Name, a)
		first := owner[spot{AddressSpace(v.Network.Name), a}]
		switch {
		case families[a.Is6()]:
			return "asks for two " + familyOf(a.Is6()) + " addresses"
		case !covers(v.Network.Subnets, a):
			return fmt.Sprintf("asks for %v, which is not in the subnets of %s", a, v.Network.Name)
		case first != nil:
			return fmt.Sprintf("asks for %v, as pod %s does", a, first.Pod.Ref())
		case leased && l.Node == node && l.Network == v.Network.Name:
			if other := b.holderOf(v, a); other != "" {
				return fmt.Sprintf("asks for %v, which %s has", a, other)
			}
		case leased && l.Prefix.IsSingleIP():
			b.moving = append(b.moving, v)
			return fmt.Sprintf("asks for %v, which node %s has not given back yet", a, l.Node)
		case leased:
			return fmt.Sprintf("asks for %v, which lies in the block %v of node %s (network %s)", a, l.Prefix, l.Node, l.Network)
		}
		families[a.Is6()] = true
	}
	return ""
}

// holderOf is who has an address of the node's own blocks, beside v.
func (b *builder) holderOf(v *Interface, a netip.Addr) string {
	r := b.in.Reports[v.Pod.Node]
	if r == nil {
		return ""
	}
	if slices.Contains(r.Host, a) {
		return "the host " + r.Node
	}
	for uuid, o := range r.VMIs {
		inNetwork := slices.Contains(o.Addresses, a) && (!v.Network.Translated() || len(o.ClusterAddresses) > 0)
		if uuid != v.UUID && (inNetwork || slices.Contains(o.ClusterAddresses, a)) {
			return "another pod of the node"
		}
	}
	return ""
}
