package state

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/ipam"
)

// A ledger that was lost, or is older than the pods, leaves taps that no record
// explains. What their marks tell is enough to give nothing of theirs to another;
// the attachment is whole again when the controller has said the pod's VMI. Until
// then it can only be deleted.

// lost is what was found without a record.
type lost struct {
	pods map[record.AttachmentKey]*record.Lost
	host []netip.Addr // that the host's interface has
}

// recall completes remembered numbers by found ones, where both agree on nothing
// else. What is new has to be remembered.
func recall(stored *record.Contents) (all []record.ID, fresh map[record.IDKey]uint32) {
	type number struct {
		space string
		n     uint32
	}
	keys, numbers := map[record.IDKey]bool{}, map[number]bool{}
	note := func(list []record.ID) (added []record.ID) {
		for _, id := range list {
			if at := (number{id.Space, id.Number}); !keys[id.IDKey] && !numbers[at] {
				keys[id.IDKey], numbers[at] = true, true
				added = append(added, id)
			}
		}
		return added
	}
	note(stored.IDs)
	found := note(stored.Found.IDs)
	for i := range stored.Found.Lost {
		found = append(found, note(compile.MarkedIDs(&stored.Found.Lost[i].Mark))...)
	}
	fresh = map[record.IDKey]uint32{}
	for _, id := range found {
		fresh[id.IDKey] = id.Number
	}
	return append(slices.Clone(stored.IDs), found...), fresh
}

// lose takes over what was found without a record.
func (n *Node) lose(stored *record.Contents) {
	n.lost.pods = map[record.AttachmentKey]*record.Lost{}
	for i := range stored.Found.Lost {
		l := stored.Found.Lost[i]
		if n.attachments[l.AttachmentKey] == nil {
			n.lost.pods[l.AttachmentKey] = &l
		}
	}
	if len(stored.Hosts) == 0 {
		n.lost.host = stored.Found.Host
	}
}

// claimLost marks in a pool what the lost may have of it.
func (n *Node) claimLost(p *ipam.Pool) {
	for _, l := range n.lost.pods {
		for _, a := range slices.Concat(l.Addrs, l.ClusterAddrs) {
			p.Take(a)
		}
	}
	for _, a := range n.lost.host {
		p.Take(a)
	}
}

// hostBefore gives the host's interface the addresses back that it has, if they
// are of the blocks of its network, one of each family.
func (n *Node) hostBefore(h *record.Host, now time.Time) *record.Host {
	var kept, not []netip.Addr
	for _, a := range n.lost.host {
		ours := slices.ContainsFunc(n.blocks(), func(b compile.Block) bool { return b.Network == h.VN && b.Prefix.Contains(a) })
		switch {
		case slices.ContainsFunc(h.Addrs, func(b netip.Addr) bool { return b.Is4() == a.Is4() }):
			not = append(not, a)
		case ours:
			h = &record.Host{VN: h.VN, Addrs: append(slices.Clone(h.Addrs), a)}
			n.hosts[h.VN] = h
			n.dirty.hosts[h.VN] = true
		default: // its block may come
			kept = append(kept, a)
		}
	}
	n.lost.host = kept
	n.unclaim(not, now)
	return h
}

// complete makes attachments of the lost whose VMI, and its network, are known by
// now.
func (n *Node) complete(now time.Time) {
	for key, l := range n.lost.pods {
		if l.Ifindex == 0 { // the tap was all there was of it
			n.detachLost(key, now)
			continue
		}
		v, host := n.config.vmis[l.VMI], n.hostNetwork()
		if v == nil || n.config.networks[v.network] == nil || len(l.ClusterAddrs) > 0 && host == nil {
			continue
		}
		a := &attachment{ifindex: l.Ifindex, Attachment: record.Attachment{
			ContainerID: l.ContainerID, Ifname: l.Ifname, Network: l.Network,
			Namespace: v.pod.namespace, Pod: v.pod.pod, PodUID: v.podUID, VMI: l.VMI, VN: v.network,
			Tap: l.Tap, MAC: macOf(key), Addrs: l.Addrs, MTU: l.MTU, Created: now.UTC(),
			ClusterAddrs: l.ClusterAddrs, Hidden: l.Hidden,
		}}
		if l.Netns != "" {
			a.IO, a.Netns = record.IOTap, l.Netns
		}
		if len(l.ClusterAddrs) > 0 {
			a.ClusterVN = host.Name
		}
		delete(n.lost.pods, key)
		n.attachments[key] = a
		n.dirty.attachments[key] = true
		n.unclaim(slices.Concat(l.Addrs, l.ClusterAddrs), now)
	}
}

// unclaim frees addresses in the pools of networks where nobody has them.
func (n *Node) unclaim(addrs []netip.Addr, now time.Time) {
	for k, p := range n.pools {
		for _, a := range addrs {
			if a.Is4() == k.v4 && len(n.owners(k.network, a)) == 0 {
				p.Release(a, now)
			}
		}
	}
}

// owners names who has an address of a network.
func (n *Node) owners(network string, addr netip.Addr) (out []string) {
	for _, a := range n.attachments {
		if a.VN == network && slices.Contains(a.Addrs, addr) || a.ClusterVN == network && slices.Contains(a.ClusterAddrs, addr) {
			out = append(out, a.who())
		}
	}
	for _, l := range n.lost.pods {
		if slices.Contains(l.Addrs, addr) || slices.Contains(l.ClusterAddrs, addr) {
			out = append(out, "container "+l.ContainerID)
		}
	}
	if h := n.hosts[network]; h != nil && slices.Contains(h.Addrs, addr) || slices.Contains(n.lost.host, addr) {
		out = append(out, "the host's interface")
	}
	slices.Sort(out)
	return out
}

// Lost refuses an attachment that was found without a record and is not whole yet.
func (n *Node) Lost(key record.AttachmentKey) *rpc.Error {
	if n.lost.pods[key] == nil {
		return nil
	}
	return tryAgain("the ledger has lost attachment "+key.String()+"; its addresses are kept, and the controller has not said its pod again yet", "")
}

func (n *Node) lostTap(name string) bool {
	for _, l := range n.lost.pods {
		if l.Tap == name {
			return true
		}
	}
	return false
}

// CountLost counts them.
func (n *Node) CountLost() int { return len(n.lost.pods) }

func (n *Node) detachLost(key record.AttachmentKey, now time.Time) bool {
	l := n.lost.pods[key]
	if l == nil {
		return false
	}
	n.ids.SetTime(now)
	delete(n.lost.pods, key)
	n.unclaim(slices.Concat(l.Addrs, l.ClusterAddrs), now)
	n.ids.FreePod(key, l.VMI, n.current(l.VMI) == nil)
	return true
}

// lostVMIs are shown like those of pods.
func (n *Node) lostVMIs() (out []rpc.VMI) {
	for key, l := range n.lost.pods {
		ids := n.ids.PodKnown(key, l.VMI)
		out = append(out, rpc.VMI{
			UUID: l.VMI, Name: "container " + l.ContainerID, State: stateLost, Addrs: l.Addrs, ClusterAddrs: l.ClusterAddrs,
			Tap: l.Tap, Vif: ids.Vif, Label: ids.Label,
		})
	}
	slices.SortFunc(out, func(a, b rpc.VMI) int { return cmp.Compare(a.Tap, b.Tap) })
	return out
}

// Marks are what the taps of attachments should say about them, by the taps' indexes.
func (n *Node) Marks() map[int]*record.Mark {
	marks := map[int]*record.Mark{}
	for key, a := range n.attachments {
		if a.ifindex != 0 {
			marks[a.ifindex] = n.mark(key, a)
		}
	}
	return marks
}

// Mark is that of one attachment; nil: there is none.
func (n *Node) Mark(key record.AttachmentKey) *record.Mark {
	if a := n.attachments[key]; a != nil {
		return n.mark(key, a)
	}
	return nil
}

func (n *Node) mark(key record.AttachmentKey, a *attachment) *record.Mark {
	ids := n.numbers(a)
	netns := ""
	if a.IO == record.IOTap {
		netns = a.Netns
	}
	return &record.Mark{
		Netns:         netns,
		AttachmentKey: key, VMI: a.VMI, Addrs: a.Addrs, ClusterAddrs: a.ClusterAddrs, Hidden: a.Hidden,
		Vif: uint32(ids.Vif), NH: uint32(ids.NH), Label: uint32(ids.Label), Network: a.Network,
	}
}
