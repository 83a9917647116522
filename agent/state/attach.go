package state

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/table"
)

// What a pod sends through, whatever its network.
var (
	gateway4 = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	gateway6 = netip.MustParseAddr("fe80::1")
)

// tapDigits is how much of a VMI's uuid the name of its tap shows.
const tapDigits = 11

// Attach gives a pod's interface its addresses and numbers, or says what is
// missing. CodeTryAgain means that waiting may help. Asking again is harmless.
func (n *Node) Attach(q *rpc.Attach, now time.Time) (*rpc.Interface, *rpc.Error) {
	key := record.AttachmentKey{ContainerID: q.ContainerID, Ifname: q.Ifname}
	if _, err := record.ParseAttachmentKey(key.String()); err != nil {
		return nil, &rpc.Error{Code: rpc.CodeInvalidConfig, Message: err.Error()}
	}
	if a := n.attachments[key]; a != nil {
		if a.Netns == "" { // found without a record
			a.Netns = q.Netns
			n.dirty.attachments[key] = true
		}
		if a.Netns != q.Netns || a.Namespace != q.Namespace || a.Pod != q.Pod {
			return nil, &rpc.Error{
				Code: rpc.CodeConflict, Fix: "delete that attachment first",
				Message: fmt.Sprintf("container %s already has %s as pod %s/%s in %s", a.ContainerID, a.Ifname, a.Namespace, a.Pod, a.Netns),
			}
		}
		return a.iface(), nil
	}
	if refusal := n.Lost(key); refusal != nil {
		return nil, refusal
	}
	v, refusal := n.vmiOf(q)
	if refusal != nil {
		return nil, refusal
	}
	g, refusal := n.allocate(v, now)
	if refusal != nil {
		return nil, refusal
	}
	a := &attachment{Attachment: record.Attachment{
		ContainerID: q.ContainerID, Ifname: q.Ifname, Network: q.Network, Netns: q.Netns,
		Namespace: q.Namespace, Pod: q.Pod, PodUID: q.PodUID, VMI: v.uuid, VN: v.network,
		Tap: n.tapName(v.uuid, key), MAC: macOf(key), Addrs: g.addrs, MTU: n.pods.mtu, Created: now.UTC(), IO: cmp.Or(v.io, n.pods.io),
		ClusterAddrs: g.cluster, ClusterVN: g.outer, Hidden: g.hidden,
	}}
	n.ids.SetTime(now)
	if ids := n.ids.Pod(key, v.uuid); ids.Vif == 0 || ids.NH == 0 || ids.Label == 0 {
		n.giveBack(g, now)
		return nil, tryAgain("no vif number, next hop or label is left on this node", "delete pods")
	}
	n.attachments[key] = a
	n.dirty.attachments[key] = true
	return a.iface(), nil
}

// vmiOf finds the interface the controller has planned for the pod.
func (n *Node) vmiOf(q *rpc.Attach) (*vmi, *rpc.Error) {
	pod := q.Namespace + "/" + q.Pod
	other := ""
	for _, v := range n.config.byPod[podKey{q.Namespace, q.Pod}] {
		if v.orphan {
			continue
		}
		if q.PodUID != "" && v.podUID != "" && q.PodUID != v.podUID {
			other = v.podUID
			continue
		}
		if v.refusal != "" {
			return nil, tryAgain(v.refusal, "")
		}
		if n.config.networks[v.network] == nil || n.orphans[networkKey(v.network)] {
			return nil, tryAgain("network "+v.network+" of pod "+pod+" has not come from the controller yet", "")
		}
		return v, nil
	}
	if other != "" {
		return nil, tryAgain(fmt.Sprintf("the controller still has an older pod %s (uid %s, wanted %s)", pod, other, q.PodUID), "")
	}
	return nil, tryAgain("the controller has sent no interface for pod "+pod+" yet", "is the pod scheduled to this node?")
}

// Expects says whether the controller has sent an interface for a pod.
func (n *Node) Expects(namespace, pod string) bool {
	return slices.ContainsFunc(n.config.byPod[podKey{namespace, pod}], func(v *vmi) bool { return !v.orphan })
}

func tryAgain(message, fix string) *rpc.Error {
	return &rpc.Error{Code: rpc.CodeTryAgain, Message: message, Fix: fix}
}

// tapName shows the VMI; a second sandbox of the same pod gets another name
// while the first is there.
func (n *Node) tapName(uuid string, key record.AttachmentKey) string {
	name := "tap" + uuid[:tapDigits]
	taken := n.lostTap(name)
	for _, a := range n.attachments {
		taken = taken || a.Tap == name
	}
	if taken {
		sum := sha256.Sum256([]byte(key.String()))
		return "tap" + hex.EncodeToString(sum[:])[:tapDigits]
	}
	return name
}

// macOf is a locally administered unicast address, the same for the same key.
func macOf(key record.AttachmentKey) table.MAC {
	sum := sha256.Sum256([]byte("mac " + key.String()))
	m := table.MAC{0x02}
	copy(m[1:], sum[:5])
	return m
}

func (a *attachment) iface() *rpc.Interface {
	i := &rpc.Interface{Tap: a.Tap, MAC: a.MAC, Addrs: slices.Clone(a.Addrs), MTU: a.MTU, VMI: a.VMI, Network: a.VN, IO: a.IO}
	i.PodIPs = slices.Clone(a.Addrs)
	if a.Hidden {
		i.PodIPs = slices.Clone(a.ClusterAddrs)
	}
	for _, addr := range a.Addrs {
		gw := gateway6
		if addr.Is4() {
			gw = gateway4
		}
		if !slices.Contains(i.Gateways, gw) {
			i.Gateways = append(i.Gateways, gw)
			i.Routes = append(i.Routes, netip.PrefixFrom(unspecified(addr.Is4()), 0))
		}
	}
	return i
}

func unspecified(v4 bool) netip.Addr {
	if v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// Bind says that a pod's tap is there.
func (n *Node) Bind(key record.AttachmentKey, ifindex int) *rpc.Error {
	a := n.attachments[key]
	switch {
	case a == nil:
		return &rpc.Error{Code: rpc.CodeUnknownPod, Message: "no attachment " + key.String() + " is recorded"}
	case ifindex <= 0:
		return &rpc.Error{Code: rpc.CodeInvalidConfig, Message: fmt.Sprintf("interface index %d of %s is none", ifindex, a.Tap)}
	}
	a.ifindex = ifindex
	return nil
}

// Detach forgets an attachment; its addresses and numbers rest. It reports
// false if there is none.
func (n *Node) Detach(key record.AttachmentKey, now time.Time) bool {
	a := n.attachments[key]
	if a == nil {
		return n.detachLost(key, now)
	}
	n.ids.SetTime(now)
	delete(n.attachments, key)
	n.dirty.attachments[key] = true
	n.release(a.VN, a.Addrs, now)
	n.release(a.ClusterVN, a.ClusterAddrs, now)
	n.ids.FreePod(key, a.VMI, n.current(a.VMI) == nil)
	n.bury()
	return true
}

// Gone says that an interface has been deleted. It reports whether a pod lost
// its tap; the attachment stays until it is detached.
func (n *Node) Gone(ifindex int) bool {
	for _, a := range n.attachments {
		if ifindex != 0 && a.ifindex == ifindex {
			a.ifindex = 0
			return true
		}
	}
	for _, l := range n.lost.pods {
		if l.Ifindex == ifindex {
			l.Ifindex = 0
		}
	}
	return false
}

// Sync compares all taps that exist, by name, with what is bound, after events
// were lost. It reports whether a pod lost its tap.
func (n *Node) Sync(taps map[string]int) (changed bool) {
	for _, a := range n.attachments {
		if a.ifindex != 0 && taps[a.Tap] != a.ifindex {
			a.ifindex = taps[a.Tap]
			changed = true
		}
	}
	return changed
}

// Adopt takes every tap that is there after a start for bound. Attachments
// without one are forgotten; they are returned.
func (n *Node) Adopt(taps map[string]int, now time.Time) (adopted int, released []record.AttachmentKey) {
	for key, a := range n.attachments {
		if a.ifindex = taps[a.Tap]; a.ifindex != 0 {
			adopted++
			continue
		}
		released = append(released, key)
	}
	slices.SortFunc(released, func(a, b record.AttachmentKey) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range released {
		n.Detach(key, now)
	}
	return adopted, released
}

// Invalid lists the attachments of a network that are not among the valid ones,
// with their taps.
func (n *Node) Invalid(q *rpc.GC) map[record.AttachmentKey]string {
	valid := map[record.AttachmentKey]bool{}
	for _, v := range q.Valid {
		valid[record.AttachmentKey{ContainerID: v.ContainerID, Ifname: v.Ifname}] = true
	}
	out := map[record.AttachmentKey]string{}
	for key, a := range n.attachments {
		if a.Network == q.Network && !valid[key] {
			out[key] = a.Tap
		}
	}
	for key, l := range n.lost.pods {
		if l.Network == q.Network && !valid[key] {
			out[key] = l.Tap
		}
	}
	return out
}

// Find returns the interface of an attachment, with its vif's number and the
// index of its tap; nil if there is none.
func (n *Node) Find(key record.AttachmentKey) (i *rpc.Interface, vif table.VifID, ifindex int) {
	a := n.attachments[key]
	if a == nil {
		return nil, 0, 0
	}
	return a.iface(), n.ids.PodKnown(key, a.VMI).Vif, a.ifindex
}

// numbers of an attachment, for people.
func (n *Node) numbers(a *attachment) compile.PodIDs { return n.ids.PodKnown(a.Key(), a.VMI) }
