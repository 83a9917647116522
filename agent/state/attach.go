package state

import (
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
		if a.Netns != q.Netns || a.Namespace != q.Namespace || a.Pod != q.Pod {
			return nil, &rpc.Error{
				Code: rpc.CodeConflict, Fix: "delete that attachment first",
				Message: fmt.Sprintf("container %s already has %s as pod %s/%s in %s", a.ContainerID, a.Ifname, a.Namespace, a.Pod, a.Netns),
			}
		}
		return a.iface(), nil
	}
	v, refusal := n.vmiOf(q)
	if refusal != nil {
		return nil, refusal
	}
	addrs, refusal := n.allocate(v, now)
	if refusal != nil {
		return nil, refusal
	}
	a := &attachment{Attachment: record.Attachment{
		ContainerID: q.ContainerID, Ifname: q.Ifname, Network: q.Network, Netns: q.Netns,
		Namespace: q.Namespace, Pod: q.Pod, PodUID: q.PodUID, VMI: v.uuid, VN: v.network,
		Tap: n.tapName(v.uuid, key), MAC: macOf(key), Addrs: addrs, MTU: n.mtu, Created: now.UTC(),
	}}
	n.ids.SetTime(now)
	if ids := n.ids.Pod(key, v.uuid); ids.Vif == 0 || ids.NH == 0 || ids.Label == 0 {
		n.release(v.network, addrs, now)
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
		if n.config.networks[v.network] == nil {
			return nil, tryAgain("network "+v.network+" of pod "+pod+" has not come from the controller yet", "")
		}
		return v, nil
	}
	if other != "" {
		return nil, tryAgain(fmt.Sprintf("the controller still has an older pod %s (uid %s, wanted %s)", pod, other, q.PodUID), "")
	}
	return nil, tryAgain("the controller has sent no interface for pod "+pod+" yet", "is the pod scheduled to this node?")
}

func tryAgain(message, fix string) *rpc.Error {
	return &rpc.Error{Code: rpc.CodeTryAgain, Message: message, Fix: fix}
}

// allocate takes one address of each family of the network, all or none.
func (n *Node) allocate(v *vmi, now time.Time) ([]netip.Addr, *rpc.Error) {
	if len(v.fixed) > 0 {
		return n.takeFixed(v, now)
	}
	var addrs []netip.Addr
	for _, v4 := range families(n.config.networks[v.network]) {
		a, ok := n.pool(v.network, v4).Allocate(now)
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

// takeFixed takes the addresses the controller asks for. They may lie outside
// of our blocks; then only our own pods can clash.
func (n *Node) takeFixed(v *vmi, now time.Time) ([]netip.Addr, *rpc.Error) {
	for _, a := range n.attachments {
		for _, addr := range v.fixed {
			if a.VN == v.network && slices.Contains(a.Addrs, addr) {
				return nil, tryAgain(fmt.Sprintf("address %v is still that of pod %s/%s", addr, a.Namespace, a.Pod), "")
			}
		}
	}
	for _, addr := range v.fixed {
		n.pool(v.network, addr.Is4()).Take(addr)
	}
	return slices.Clone(v.fixed), nil
}

// tapName shows the VMI; a second sandbox of the same pod gets another name
// while the first is there.
func (n *Node) tapName(uuid string, key record.AttachmentKey) string {
	name := "tap" + uuid[:tapDigits]
	for _, a := range n.attachments {
		if a.Tap == name {
			sum := sha256.Sum256([]byte(key.String()))
			return "tap" + hex.EncodeToString(sum[:])[:tapDigits]
		}
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
	i := &rpc.Interface{Tap: a.Tap, MAC: a.MAC, Addrs: slices.Clone(a.Addrs), MTU: a.MTU, VMI: a.VMI, Network: a.VN}
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
		return false
	}
	n.ids.SetTime(now)
	delete(n.attachments, key)
	n.dirty.attachments[key] = true
	n.release(a.VN, a.Addrs, now)
	last := n.current(a.VMI) == nil
	n.ids.FreePod(key, a.VMI, last)
	if v := n.config.vmis[a.VMI]; last && v != nil && v.orphan {
		n.forget(vmiKey(a.VMI))
	}
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
