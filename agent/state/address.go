package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/ipam"
)

func (n *Node) putBlock(r *record.Resource) error {
	var m southbound.Block
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	list, err := prefixes([]string{m.GetPrefix()})
	if err != nil {
		return err
	}
	if m.GetVirtualNetwork() == "" {
		return fmt.Errorf("block %v: no network", list[0])
	}
	b, err := ipam.NewBlock(list[0], n.start)
	if err != nil {
		return err
	}
	n.dropBlock(r.Name)
	n.config.blocks[r.Name] = compile.Block{Network: m.GetVirtualNetwork(), Prefix: list[0]}
	if r.Orphan {
		return nil
	}
	p := n.pool(m.GetVirtualNetwork(), list[0].Addr().Is4())
	p.Add(b)
	n.claim(m.GetVirtualNetwork(), p)
	return nil
}

func (n *Node) dropBlock(name string) {
	n.retire(name)
	delete(n.config.blocks, name)
}

// retire ends a lease: nothing more is handed out of the block.
func (n *Node) retire(name string) {
	if b, ok := n.config.blocks[name]; ok {
		n.pool(b.Network, b.Prefix.Addr().Is4()).Remove(b.Prefix)
	}
}

// claim marks in a pool what is in use.
func (n *Node) claim(network string, p *ipam.Pool) {
	take := func(vn string, addrs []netip.Addr) {
		for _, addr := range addrs {
			if vn == network {
				p.Take(addr)
			}
		}
	}
	for _, a := range n.attachments {
		take(a.VN, a.Addrs)
		take(a.ClusterVN, a.ClusterAddrs)
	}
	if h := n.hosts[network]; h != nil {
		take(network, h.Addrs)
	}
	n.claimLost(p)
}

func (n *Node) pool(network string, v4 bool) *ipam.Pool {
	k := poolKey{network, v4}
	if n.pools[k] == nil {
		n.pools[k] = &ipam.Pool{}
	}
	return n.pools[k]
}

// blocks lists the leases with their use.
func (n *Node) blocks() []compile.Block {
	var out []compile.Block
	for _, b := range n.config.blocks {
		b.Used = n.used(b)
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b compile.Block) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Prefix.Compare(b.Prefix))
	})
	return out
}

// settle gives the host's interface an address of each family there is a block
// of, and takes back those of networks it is no longer in.
func (n *Node) settle(now time.Time) {
	n.ids.SetTime(now)
	vn := n.hostNetwork()
	for name, h := range n.hosts {
		if vn == nil || name != vn.Name {
			if n.config.networks[name] == nil && vn == nil {
				continue // the network may come back: the controller may just not have said it yet
			}
			n.release(name, h.Addrs, now)
			delete(n.hosts, name)
			n.dirty.hosts[name] = true
		}
	}
	if vn == nil {
		return
	}
	h := n.hosts[vn.Name]
	if h == nil {
		h = &record.Host{VN: vn.Name}
	}
	h = n.hostBefore(h, now)
	for _, v4 := range families(vn) {
		if slices.ContainsFunc(h.Addrs, func(a netip.Addr) bool { return a.Is4() == v4 }) {
			continue
		}
		if a, ok := n.free(vn.Name, v4, now); ok {
			h = &record.Host{VN: vn.Name, Addrs: append(slices.Clone(h.Addrs), a)}
			slices.SortFunc(h.Addrs, netip.Addr.Compare) // the blocks may come in any order
			n.hosts[vn.Name] = h
			n.dirty.hosts[vn.Name] = true
		}
	}
}

func (n *Node) release(network string, addrs []netip.Addr, now time.Time) {
	for _, a := range addrs {
		n.pool(network, a.Is4()).Release(a, now)
	}
}

// families says which families a network has, IPv4 first: true is IPv4.
func families(vn *compile.Network) []bool {
	var out []bool
	for _, v4 := range []bool{true, false} {
		if slices.ContainsFunc(vn.Subnets, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 }) {
			out = append(out, v4)
		}
	}
	return out
}

// Exhausted says which addresses a pod could not get now: of the network with
// the host, and of the others that pods here are in or are expected in.
func (n *Node) Exhausted() (host, others []string) {
	wanted := map[string]bool{}
	for _, v := range n.config.vmis {
		wanted[v.network] = !v.orphan && v.refusal == "" || wanted[v.network]
	}
	for _, vn := range n.config.networks {
		for _, v4 := range families(vn) {
			switch {
			case n.pool(vn.Name, v4).Free() > 0:
			case vn == n.hostNetwork():
				host = append(host, n.noAddress(vn.Name, v4))
			case wanted[vn.Name]:
				others = append(others, n.noAddress(vn.Name, v4))
			}
		}
	}
	slices.Sort(host)
	slices.Sort(others)
	return host, others
}

func (n *Node) noAddress(network string, v4 bool) string {
	family := "IPv6"
	if v4 {
		family = "IPv4"
	}
	if len(n.pool(network, v4).Blocks()) == 0 {
		return fmt.Sprintf("no %s block of network %s is leased to this node yet", family, network)
	}
	return fmt.Sprintf("all %s addresses of network %s on this node are in use", family, network)
}
