// Package state is what a node knows and has decided: resources of the
// controller, pods attached, addresses given out, numbers chosen. One goroutine
// owns a Node and gives it the time; everything that must survive a restart comes
// out of TakeChange. It does no I/O and makes no tables (agent/compile does).
package state

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/ipam"
)

// Node is the state of one node.
type Node struct {
	// Set once by New.
	name  string
	pods  defaults
	start int // where the search for addresses begins in a new block

	// From the controller.
	known   map[record.ResourceKey]*record.Resource
	config  config
	orphans map[record.ResourceKey]bool // of known: removed, and still in use

	// Decided here.
	attachments map[record.AttachmentKey]*attachment
	hosts       map[string]*record.Host // by network
	pools       map[poolKey]*ipam.Pool
	ids         *compile.IDs
	lost        lost

	// Keys of what has changed since TakeChange.
	dirty dirty
}

// config is the controller's word, read.
type config struct {
	zone      string
	networks  map[string]*compile.Network
	blocks    map[string]compile.Block // by resource name
	peers     map[string]netip.Addr    // by node
	routes    map[string]*compile.Route
	balancers map[string]*compile.LoadBalancer
	vmis      map[string]*vmi // by uuid
	byPod     map[podKey][]*vmi
}

type podKey struct{ namespace, pod string }

type poolKey struct {
	network string
	v4      bool
}

// attachment is a pod's interface, recorded and perhaps there.
type attachment struct {
	record.Attachment
	ifindex int // of the tap; 0: not there (yet)
}

type dirty struct {
	attachments map[record.AttachmentKey]bool
	hosts       map[string]bool
	resources   map[record.ResourceKey]bool
}

func newDirty() dirty {
	return dirty{map[record.AttachmentKey]bool{}, map[string]bool{}, map[record.ResourceKey]bool{}}
}

// New makes the state of a node from what is remembered. Pods are not there
// until Adopt says so. Resources that cannot be read any more are forgotten; the
// controller says them again. They are returned as sentences.
func New(name string, mtu int, stored *record.Contents, now time.Time) (*Node, []string, error) {
	numbers, fresh := recall(stored)
	n := &Node{
		name: name, pods: defaults{mtu: mtu},
		known:       map[record.ResourceKey]*record.Resource{},
		orphans:     map[record.ResourceKey]bool{},
		attachments: map[record.AttachmentKey]*attachment{},
		hosts:       map[string]*record.Host{},
		pools:       map[poolKey]*ipam.Pool{},
		ids:         compile.NewIDs(numbers, now),
		dirty:       newDirty(),
		config: config{
			networks: map[string]*compile.Network{}, blocks: map[string]compile.Block{}, peers: map[string]netip.Addr{},
			routes: map[string]*compile.Route{}, balancers: map[string]*compile.LoadBalancer{},
			vmis: map[string]*vmi{}, byPod: map[podKey][]*vmi{},
		},
	}
	if err := n.restoreAddresses(stored); err != nil {
		return nil, nil, err
	}
	n.ids.Remember(fresh)
	n.lose(stored)
	if len(stored.Hosts) > 0 || len(stored.Found.Host) > 0 { // not the first start: what was freed before is not known any more
		n.start = int(now.Unix())
	}
	var forgotten []string
	for i := range stored.Resources {
		r := stored.Resources[i]
		n.known[r.ResourceKey] = &r
		if r.Orphan {
			n.orphans[r.ResourceKey] = true
		}
		if err := n.put(&r); err != nil {
			forgotten = append(forgotten, fmt.Sprintf("%v %s: %v", southbound.Type(r.Type), r.Name, err))
			n.forget(r.ResourceKey)
		}
	}
	n.complete(now)
	n.settle(now)
	n.bury()
	return n, forgotten, nil
}

// restoreAddresses takes over attachments and host addresses. Two owners of one
// address of a network are a fault that must not be papered over.
func (n *Node) restoreAddresses(stored *record.Contents) error {
	type address struct {
		network string
		netip.Addr
	}
	owner := map[address]string{}
	claim := func(network string, addrs []netip.Addr, who string) error {
		for _, a := range addrs {
			if other := owner[address{network, a}]; other != "" {
				return fmt.Errorf("the ledger gives address %v of network %s to %s and to %s", a, network, other, who)
			}
			owner[address{network, a}] = who
		}
		return nil
	}
	for i := range stored.Attachments {
		a := &attachment{Attachment: stored.Attachments[i]}
		who := a.who() + " (container " + a.ContainerID + ")"
		if err := errors.Join(claim(a.VN, a.Addrs, who), claim(a.ClusterVN, a.ClusterAddrs, who)); err != nil {
			return err
		}
		n.attachments[a.Key()] = a
	}
	for i := range stored.Hosts {
		h := stored.Hosts[i]
		if err := claim(h.VN, h.Addrs, "the host's interface"); err != nil {
			return err
		}
		n.hosts[h.VN] = &h
	}
	return nil
}

func (a *attachment) who() string { return "pod " + a.Namespace + "/" + a.Pod }

// TakeChange returns what is to be remembered since the last call.
func (n *Node) TakeChange() record.Change {
	c := record.Change{
		Attachments: map[record.AttachmentKey]*record.Attachment{},
		Hosts:       map[string]*record.Host{},
		IDs:         n.ids.TakeChanges(),
		Resources:   map[record.ResourceKey]*record.Resource{},
	}
	for k := range n.dirty.attachments {
		c.Attachments[k] = nil
		if a := n.attachments[k]; a != nil {
			c.Attachments[k] = &a.Attachment
		}
	}
	for vn := range n.dirty.hosts {
		c.Hosts[vn] = n.hosts[vn]
	}
	for k := range n.dirty.resources {
		c.Resources[k] = n.known[k]
	}
	n.dirty = newDirty()
	return c
}

// Remember takes a change back that could not be written: it comes again with
// the next TakeChange, as things are then.
func (n *Node) Remember(c *record.Change) {
	for k := range c.Attachments {
		n.dirty.attachments[k] = true
	}
	for vn := range c.Hosts {
		n.dirty.hosts[vn] = true
	}
	for k := range c.Resources {
		n.dirty.resources[k] = true
	}
	n.ids.Remember(c.IDs)
}

// defaults are what pods have that say nothing else.
type defaults struct {
	mtu int    // bytes
	io  string // veth, tap
}

// SetIO says how pods are attached that do not say it themselves: by veth or tap.
func (n *Node) SetIO(io string) { n.pods.io = io }

// IDs are the node's numbers, for compile.
func (n *Node) IDs() *compile.IDs { return n.ids }

// Input gives compile what this package knows; the caller adds what the kernel
// knows.
func (n *Node) Input() *compile.Input {
	in := &compile.Input{
		Node:          n.name,
		Zone:          n.config.zone,
		Networks:      slices.Collect(maps.Values(n.config.networks)),
		Blocks:        n.blocks(),
		Peers:         n.Peers(),
		Routes:        slices.Collect(maps.Values(n.config.routes)),
		LoadBalancers: slices.Collect(maps.Values(n.config.balancers)),
	}
	for _, a := range n.attachments {
		in.Pods = append(in.Pods, n.pod(a))
	}
	return in
}

func (n *Node) pod(a *attachment) compile.Pod {
	p := compile.Pod{
		Key: a.Key(), VMI: a.VMI, Name: a.Namespace + "/" + a.Pod, Network: a.VN, Tap: a.Tap, Ifindex: a.ifindex,
		MAC: a.MAC, MTU: a.MTU, Addrs: a.Addrs, ClusterAddrs: a.ClusterAddrs, Hidden: a.Hidden, Current: n.current(a.VMI) == a,
	}
	if a.IO == record.IOTap {
		p.Device = table.Tap{Netns: a.Netns, Name: a.Ifname}
	}
	if v := n.config.vmis[a.VMI]; v != nil {
		p.PortMaps = v.portMaps
		if !v.orphan {
			p.Version = v.version
		}
	}
	return p
}

// current is the sandbox that a VMI leads to: the latest one that is there.
func (n *Node) current(vmi string) *attachment {
	var found *attachment
	for _, a := range n.attachments {
		if a.VMI == vmi && (found == nil || later(a, found)) {
			found = a
		}
	}
	return found
}

func later(a, b *attachment) bool {
	if there := a.ifindex != 0; there != (b.ifindex != 0) {
		return there
	}
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key().String(), b.Key().String())) > 0
}

// Peers are the tunnel addresses of the other nodes.
func (n *Node) Peers() []netip.Addr {
	return slices.SortedFunc(maps.Values(n.config.peers), netip.Addr.Compare)
}

// Host says which network the host's interface is in, with the addresses it has
// there. ok is false while there is none.
func (n *Node) Host() (addrs []netip.Addr, ok bool) {
	vn := n.hostNetwork()
	if vn == nil {
		return nil, false
	}
	if h := n.hosts[vn.Name]; h != nil {
		addrs = slices.Clone(h.Addrs)
	}
	return addrs, true
}

// Subnets are those of all networks whose addresses mean the same everywhere: of
// pods, and of services.
func (n *Node) Subnets() (pods, services []netip.Prefix) {
	for _, vn := range n.config.networks {
		if !vn.Translated {
			pods = append(pods, vn.Subnets...)
		}
		services = append(services, vn.ServiceSubnets...)
	}
	return sortedPrefixes(pods), sortedPrefixes(services)
}

func sortedPrefixes(in []netip.Prefix) []netip.Prefix {
	slices.SortFunc(in, netip.Prefix.Compare)
	return slices.Compact(in)
}

// Facing are the addresses outside of Subnets by which the host reaches pods.
func (n *Node) Facing() []netip.Addr {
	var out []netip.Addr
	for _, a := range n.attachments {
		if len(a.ClusterAddrs) > 0 && !a.Hidden {
			out = append(out, a.Addrs...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// hostNetwork is the network of the host's interface; as compile chooses.
func (n *Node) hostNetwork() (found *compile.Network) {
	for _, vn := range n.config.networks {
		if vn.Host && (found == nil || vn.Name < found.Name) {
			found = vn
		}
	}
	return found
}
