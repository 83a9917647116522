package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
)

// Facts are what the kernel says of pods.
type Facts struct {
	Taps  map[string]int         // indexes of all taps, by name
	Marks map[string]record.Mark // of those that belong to pods
	// Netns says of every namespace in question whether it is there.
	Netns func(path string) bool
}

// settled is how old an attachment is when its interface must be there: ADD
// records it first.
const settled = 2 * time.Minute

// Audit compares all who have an opinion on addresses, and with repair frees what
// provably nobody has any more: neither an interface nor a namespace is there.
func (n *Node) Audit(f *Facts, repair bool, now time.Time) *rpc.LeakCheck {
	a := &audit{Node: n, facts: f, repair: repair, now: now, looked: map[poolKey]map[netip.Addr]bool{}}
	a.recorded()
	a.lostOnes()
	a.strangers()
	a.unowned()
	out := &rpc.LeakCheck{Leaks: a.leaks}
	for _, addrs := range a.looked {
		out.Addresses += len(addrs)
	}
	slices.SortFunc(out.Leaks, func(x, y rpc.Leak) int {
		return cmp.Or(cmp.Compare(x.Network, y.Network), x.Addr.Compare(y.Addr), cmp.Compare(x.Owner, y.Owner), cmp.Compare(x.Cause, y.Cause))
	})
	return out
}

// audit is one comparison.
type audit struct {
	*Node
	facts  *Facts
	repair bool
	now    time.Time

	looked map[poolKey]map[netip.Addr]bool
	leaks  []rpc.Leak
}

// held is an address and who has it, as far as the record goes.
type held struct {
	network, who string
	addr         netip.Addr
	fixed        bool // the controller has asked for it: it may lie anywhere
}

func (a *audit) heldBy(at *attachment) (out []held) {
	v := a.config.vmis[at.VMI]
	for _, addr := range at.Addrs {
		out = append(out, held{at.VN, at.who(), addr, v != nil && slices.Contains(v.fixed, addr)})
	}
	for _, addr := range at.ClusterAddrs {
		out = append(out, held{at.ClusterVN, at.who(), addr, false})
	}
	return out
}

// note looks at addresses together: what is wrong with all of them, if anything.
func (a *audit) note(list []held, cause, fix string, repaired bool) {
	for _, h := range list {
		k := poolKey{h.network, h.addr.Is4()}
		if a.looked[k] == nil {
			a.looked[k] = map[netip.Addr]bool{}
		}
		a.looked[k][h.addr] = true
		if cause != "" {
			a.leaks = append(a.leaks, rpc.Leak{Network: h.network, Addr: h.addr, Owner: h.who, Cause: cause, Fix: fix, Repaired: repaired})
		}
	}
}

// recorded looks at everything that is recorded.
func (a *audit) recorded() {
	for key, at := range a.attachments {
		list := a.heldBy(at)
		there := at.Netns != "" && a.facts.Netns(at.Netns)
		orphan := a.config.vmis[at.VMI] == nil || a.config.vmis[at.VMI].orphan
		old := a.now.Sub(at.Created) >= settled
		switch {
		case !old:
			a.note(list, "", "", false)
		case a.facts.Taps[at.Tap] == 0 && !there:
			if a.repair {
				a.Detach(key, a.now)
			}
			a.note(list, fmt.Sprintf("interface %s is gone, and its namespace %s too", at.Tap, at.Netns), "", a.repair)
		case a.facts.Taps[at.Tap] == 0:
			a.note(list, fmt.Sprintf("interface %s is gone, but namespace %s is there", at.Tap, at.Netns), "delete the pod", false)
		case at.Netns != "" && !there && orphan:
			a.note(list, fmt.Sprintf("the controller no longer has the pod, and namespace %s is gone, but interface %s is there", at.Netns, at.Tap),
				"if no process of the pod is left: ip link delete "+at.Tap, false)
		default:
			a.note(list, "", "", false)
		}
	}
	for _, h := range a.hosts {
		for _, addr := range h.Addrs {
			a.note([]held{{h.VN, "the host's interface", addr, false}}, "", "", false)
		}
	}
	for _, at := range a.attachments { // those that are left
		for _, h := range a.heldBy(at) {
			a.block(h)
		}
	}
}

// block looks whether an address is one that this node may give, and nobody else has.
func (a *audit) block(h held) {
	if list := a.owners(h.network, h.addr); len(list) > 1 {
		a.note([]held{h}, fmt.Sprintf("it has %d owners: %v", len(list), list), "delete all of these pods but one", false)
	}
	leased := false
	for _, b := range a.config.blocks {
		leased = leased || b.Network == h.network && b.Prefix.Contains(h.addr)
	}
	p := a.pool(h.network, h.addr.Is4())
	switch {
	case !leased && !h.fixed:
		a.note([]held{h}, "it lies in no block that is leased to this node", "delete the pod", false)
	case leased && !p.Has(h.addr):
		if a.repair {
			p.Take(h.addr)
		}
		a.note([]held{h}, "it is in use and free to be given again", "", a.repair)
	}
}

// lostOnes looks at what was found without a record.
func (a *audit) lostOnes() {
	for key, l := range a.lost.pods {
		var list []held
		for _, addr := range slices.Concat(l.Addrs, l.ClusterAddrs) {
			list = append(list, held{"", "container " + l.ContainerID, addr, false})
		}
		if a.facts.Taps[l.Tap] == 0 {
			if a.repair {
				a.Detach(key, a.now)
			}
			a.note(list, fmt.Sprintf("the ledger does not know it, and interface %s is gone", l.Tap), "", a.repair)
			continue
		}
		a.note(list, fmt.Sprintf("the ledger does not know interface %s, and the controller has no pod with it", l.Tap),
			"if the pod is gone: ip link delete "+l.Tap, false)
	}
}

// strangers are taps of pods that this agent does not know at all.
func (a *audit) strangers() {
	for tap, m := range a.facts.Marks {
		at := a.attachments[m.AttachmentKey]
		if at != nil && at.Tap == tap || a.lost.pods[m.AttachmentKey] != nil {
			continue
		}
		for _, addr := range slices.Concat(m.Addrs, m.ClusterAddrs) {
			a.note([]held{{"", "container " + m.ContainerID, addr, false}}, fmt.Sprintf("nothing is recorded of interface %s", tap),
				"restart vragent, which takes it over, or delete the pod", false)
		}
	}
}

// unowned looks for addresses that are in use by nobody.
func (a *audit) unowned() {
	for k, p := range a.pools {
		for _, addr := range p.InUse() {
			h := held{k.network, "", addr, false}
			if len(a.owners(k.network, addr)) > 0 {
				a.note([]held{h}, "", "", false)
				continue
			}
			if a.repair {
				p.Release(addr, a.now)
			}
			a.note([]held{h}, "it is in use, by nobody", "", a.repair)
		}
	}
}
