package state

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/rpc"
)

// grant is what a pod is given: its own addresses, and if its network is a
// translated one, addresses of the network with the host besides.
type grant struct {
	network string
	addrs   []netip.Addr
	outer   string // network of cluster; empty: none
	cluster []netip.Addr
	hidden  bool // the host cannot reach addrs
}

// allocate takes all addresses of a pod, or none.
func (n *Node) allocate(v *vmi, now time.Time) (*grant, *rpc.Error) {
	g := &grant{network: v.network}
	var refusal *rpc.Error
	if g.addrs, refusal = n.own(v, now); refusal != nil {
		return nil, refusal
	}
	if !n.config.networks[v.network].Translated {
		return g, nil
	}
	g.hidden = n.isHidden(g.addrs)
	if refusal = n.translate(g, now); refusal != nil {
		n.giveBack(g, now)
		return nil, refusal
	}
	return g, nil
}

// own takes the addresses that the controller asks for, and one of each other
// family of the network.
func (n *Node) own(v *vmi, now time.Time) ([]netip.Addr, *rpc.Error) {
	for _, addr := range v.fixed {
		if who := n.owner(v.network, addr); who != "" {
			return nil, tryAgain(fmt.Sprintf("address %v is still that of %s", addr, who), "")
		}
	}
	addrs := slices.Clone(v.fixed)
	for _, addr := range v.fixed { // it may lie outside of our blocks
		n.pool(v.network, addr.Is4()).Take(addr)
	}
	for _, v4 := range families(n.config.networks[v.network]) {
		if slices.ContainsFunc(v.fixed, func(a netip.Addr) bool { return a.Is4() == v4 }) {
			continue
		}
		a, ok := n.free(v.network, v4, now)
		if !ok {
			n.release(v.network, addrs, now)
			return nil, tryAgain(n.noAddress(v.network, v4), "")
		}
		addrs = append(addrs, a)
	}
	if len(addrs) == 0 {
		return nil, tryAgain("network "+v.network+" has no subnets", "")
	}
	return addrs, nil
}

// translate takes an address of the host's network for each family that both
// have.
func (n *Node) translate(g *grant, now time.Time) *rpc.Error {
	host := n.hostNetwork()
	if host == nil {
		return tryAgain("the network of the hosts, of which a pod in "+g.network+" needs an address, has not come from the controller yet", "")
	}
	g.outer = host.Name
	for _, v4 := range families(host) {
		if !slices.ContainsFunc(g.addrs, func(a netip.Addr) bool { return a.Is4() == v4 }) {
			continue
		}
		a, ok := n.free(host.Name, v4, now)
		if !ok {
			return tryAgain(n.noAddress(host.Name, v4)+", and a pod in "+g.network+" needs one besides its own", "")
		}
		g.cluster = append(g.cluster, a)
	}
	if len(g.cluster) == 0 {
		return tryAgain(fmt.Sprintf("networks %s and %s have no family of addresses in common", g.network, host.Name), "")
	}
	return nil
}

// free takes an address that no pod expected here has asked for, if there is any
// one by which the host can reach the pod.
func (n *Node) free(network string, v4 bool, now time.Time) (netip.Addr, bool) {
	var passed []netip.Addr
	defer func() { n.release(network, passed, now) }()
	second := -1 // of those passed: free, but hidden
	for {
		a, ok := n.pool(network, v4).Allocate(now)
		switch {
		case !ok && second >= 0:
			a = passed[second]
			passed = slices.Delete(passed, second, second+1)
			return a, true
		case !ok:
			return a, false
		case n.isAsked(network, a):
		case !n.isHidden([]netip.Addr{a}):
			return a, true
		case second < 0:
			second = len(passed)
		}
		passed = append(passed, a)
	}
}

func (n *Node) isAsked(network string, a netip.Addr) bool {
	for _, v := range n.config.vmis {
		if v.network == network && slices.Contains(v.fixed, a) {
			return true
		}
	}
	return false
}

func (n *Node) giveBack(g *grant, now time.Time) {
	n.release(g.network, g.addrs, now)
	n.release(g.outer, g.cluster, now)
}

// owner says who here has an address of a network; empty: nobody.
func (n *Node) owner(network string, addr netip.Addr) string {
	if list := n.owners(network, addr); len(list) > 0 {
		return list[0]
	}
	return ""
}

// isHidden says that the host cannot reach a pod by its own addresses: they are
// already another's here, in another network, or another node's.
func (n *Node) isHidden(addrs []netip.Addr) bool {
	for _, addr := range addrs {
		for _, a := range n.attachments {
			if !a.Hidden && slices.Contains(a.Addrs, addr) {
				return true
			}
		}
		for _, l := range n.lost.pods {
			if !l.Hidden && slices.Contains(l.Addrs, addr) {
				return true
			}
		}
		for _, p := range n.config.peers {
			if p == addr {
				return true
			}
		}
	}
	return false
}
