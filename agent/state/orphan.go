package state

import (
	"net/netip"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/controller/southbound"
)

// What a pod here needs outlives the controller's word: a VMI, the network it is
// in and the block its address is of, removed while in use, go on as orphans
// until the last pod that uses them is deleted. A controller that has just begun
// to know the cluster so takes nothing away. An orphan is not told as held, and
// whoever says it again finds it where it was.

// inUse says whether pods here need a resource.
func (n *Node) inUse(key record.ResourceKey) bool {
	switch southbound.Type(key.Type) {
	case southbound.Type_TYPE_VMI:
		return n.current(key.Name) != nil
	case southbound.Type_TYPE_VIRTUAL_NETWORK:
		for _, a := range n.attachments {
			if a.VN == key.Name || a.ClusterVN == key.Name {
				return true
			}
		}
	case southbound.Type_TYPE_BLOCK:
		b, ok := n.config.blocks[key.Name]
		return ok && n.used(b) > 0
	}
	return false
}

// orphan marks a resource as no longer the controller's word.
func (n *Node) orphan(key record.ResourceKey) {
	copied := *n.known[key]
	copied.Orphan = true
	n.known[key] = &copied
	n.orphans[key] = true
	n.dirty.resources[key] = true
	switch southbound.Type(key.Type) {
	case southbound.Type_TYPE_VMI:
		n.config.vmis[key.Name].orphan = true
	case southbound.Type_TYPE_BLOCK:
		n.retire(key.Name)
	}
}

// bury forgets the orphans that nothing needs any more.
func (n *Node) bury() {
	for key := range n.orphans {
		if !n.inUse(key) {
			n.forget(key)
		}
	}
}

// used counts the addresses of a block that are in use; the pool does not show
// those whose lease has ended.
func (n *Node) used(b compile.Block) (used int) {
	for _, in := range n.pool(b.Network, b.Prefix.Addr().Is4()).Blocks() {
		if in.Prefix() == b.Prefix {
			return in.Used()
		}
	}
	count := func(vn string, addrs []netip.Addr) {
		for _, a := range addrs {
			if vn == b.Network && b.Prefix.Contains(a) {
				used++
			}
		}
	}
	for _, a := range n.attachments {
		count(a.VN, a.Addrs)
		count(a.ClusterVN, a.ClusterAddrs)
	}
	for _, h := range n.hosts {
		count(h.VN, h.Addrs)
	}
	for _, l := range n.lost.pods { // of which network is not known yet
		count(b.Network, l.Addrs)
		count(b.Network, l.ClusterAddrs)
	}
	return used
}
