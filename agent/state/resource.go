package state

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/controller/southbound"
)

// vmi is a pod's interface as the controller wants it.
type vmi struct {
	uuid     string
	name     string
	network  string
	pod      podKey
	podUID   string
	fixed    []netip.Addr
	portMaps []compile.PortMap
	refusal  string // why the pod has no network
	version  string
	io       string // veth, tap; empty: the node's default
	orphan   bool   // removed by the controller; a pod still uses it
}

// Apply takes a response of the controller over. What it cannot be is refused
// and named; the rest, and what was known of the refused, stays in force.
func (n *Node) Apply(m *southbound.ToAgent, now time.Time) []*southbound.Nack {
	var nacks []*southbound.Nack
	for _, r := range m.GetUpserts() {
		key := record.ResourceKey{Type: int32(r.GetType()), Name: r.GetName()}
		stored := &record.Resource{ResourceKey: key, Version: r.GetVersion(), Body: r.GetBody()}
		if err := n.put(stored); err != nil {
			nacks = append(nacks, &southbound.Nack{Type: r.GetType(), Name: r.GetName(), Error: err.Error()})
			continue
		}
		n.known[key] = stored
		delete(n.orphans, key)
		n.dirty.resources[key] = true
	}
	for _, r := range m.GetRemoves() {
		n.remove(record.ResourceKey{Type: int32(r.GetType()), Name: r.GetName()})
	}
	n.complete(now)
	n.settle(now)
	n.bury()
	return nacks
}

// put reads a resource and makes it known.
func (n *Node) put(r *record.Resource) error {
	switch southbound.Type(r.Type) {
	case southbound.Type_TYPE_NODE:
		return n.putNode(r)
	case southbound.Type_TYPE_VIRTUAL_NETWORK:
		return n.putNetwork(r)
	case southbound.Type_TYPE_BLOCK:
		return n.putBlock(r)
	case southbound.Type_TYPE_VMI:
		return n.putVMI(r)
	case southbound.Type_TYPE_LOAD_BALANCER:
		return n.putBalancer(r)
	case southbound.Type_TYPE_ROUTE:
		return n.putRoute(r)
	case southbound.Type_TYPE_NODE_CONFIG:
		return n.putNodeConfig(r)
	}
	return fmt.Errorf("type %d is unknown to this agent", r.Type)
}

// remove forgets a resource, or makes an orphan of it.
func (n *Node) remove(key record.ResourceKey) {
	if n.known[key] != nil && n.inUse(key) {
		n.orphan(key)
		return
	}
	n.forget(key)
}

func (n *Node) forget(key record.ResourceKey) {
	if n.known[key] == nil {
		return
	}
	delete(n.known, key)
	delete(n.orphans, key)
	n.dirty.resources[key] = true
	switch southbound.Type(key.Type) {
	case southbound.Type_TYPE_NODE:
		delete(n.config.peers, key.Name)
	case southbound.Type_TYPE_VIRTUAL_NETWORK:
		delete(n.config.networks, key.Name)
	case southbound.Type_TYPE_BLOCK:
		n.dropBlock(key.Name)
	case southbound.Type_TYPE_VMI:
		n.dropVMI(key.Name)
	case southbound.Type_TYPE_LOAD_BALANCER:
		delete(n.config.balancers, key.Name)
	case southbound.Type_TYPE_ROUTE:
		delete(n.config.routes, key.Name)
	case southbound.Type_TYPE_NODE_CONFIG:
		n.config.zone = ""
	}
}

// Have is what the controller need not say again.
func (n *Node) Have() []*southbound.ResourceVersion {
	have := make([]*southbound.ResourceVersion, 0, len(n.known))
	for k, r := range n.known {
		if !r.Orphan {
			have = append(have, &southbound.ResourceVersion{Type: southbound.Type(k.Type), Name: k.Name, Version: r.Version})
		}
	}
	return have
}

func (n *Node) putNode(r *record.Resource) error {
	var m southbound.Node
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	tunnel, err := tunnelAddr(m.GetTunnelAddress())
	if err != nil {
		return err
	}
	n.config.peers[r.Name] = tunnel
	return nil
}

func (n *Node) putNetwork(r *record.Resource) error {
	var m southbound.VirtualNetwork
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	subnets, err := prefixes(m.GetSubnets())
	if err != nil {
		return fmt.Errorf("subnets: %w", err)
	}
	services, err := prefixes(m.GetServiceSubnets())
	if err != nil {
		return fmt.Errorf("service subnets: %w", err)
	}
	if m.GetName() != r.Name {
		return fmt.Errorf("the network calls itself %q", m.GetName())
	}
	vn := &compile.Network{
		Name: r.Name, Subnets: subnets, ServiceSubnets: services, Host: m.GetHost(),
		Translated: m.GetTranslated(), NoOutside: m.GetNoOutside(),
	}
	if vn.Host && vn.Translated {
		return errors.New("the network with the host cannot be a translated one")
	}
	for _, i := range m.GetImports() {
		vn.Imports = append(vn.Imports, compile.Import{Network: i.GetVirtualNetwork(), ReplyOnly: i.GetReplyOnly()})
	}
	n.config.networks[r.Name] = vn
	return nil
}

func (n *Node) putVMI(r *record.Resource) error {
	var m southbound.VMI
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	v := &vmi{
		uuid: m.GetUuid(), name: m.GetName(), network: m.GetVirtualNetwork(), version: r.Version, orphan: r.Orphan,
		pod: podKey{m.GetNamespace(), m.GetPod()}, podUID: m.GetPodUid(), refusal: m.GetRefusal(), io: m.GetIo(),
	}
	if v.uuid != r.Name || len(v.uuid) < tapDigits || v.network == "" && v.refusal == "" || v.pod.pod == "" {
		return fmt.Errorf("uuid %q, network %q, pod %q: something is missing", v.uuid, v.network, v.pod.pod)
	}
	var err error
	if v.fixed, err = unicasts("fixed address", m.GetFixedAddresses()); err != nil {
		return err
	}
	if v.portMaps, err = portMaps(m.GetPortMaps()); err != nil {
		return err
	}
	n.dropVMI(v.uuid)
	n.config.vmis[v.uuid] = v
	n.config.byPod[v.pod] = append(n.config.byPod[v.pod], v)
	return nil
}

func (n *Node) dropVMI(uuid string) {
	old := n.config.vmis[uuid]
	if old == nil {
		return
	}
	delete(n.config.vmis, uuid)
	rest := slices.DeleteFunc(n.config.byPod[old.pod], func(v *vmi) bool { return v == old })
	if n.config.byPod[old.pod] = rest; len(rest) == 0 {
		delete(n.config.byPod, old.pod)
	}
}

func (n *Node) putBalancer(r *record.Resource) error {
	var m southbound.LoadBalancer
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	lb := &compile.LoadBalancer{
		UUID: r.Name, Namespace: m.GetNamespace(), Service: m.GetService(), Networks: slices.Sorted(slices.Values(m.GetVirtualNetworks())), Home: m.GetHome(),
		Affinity: m.GetAffinitySeconds(), InternalLocal: m.GetInternalLocal(), ExternalLocal: m.GetExternalLocal(),
	}
	var err error
	if lb.VIPs, err = unicasts("vip", m.GetVips()); err != nil {
		return err
	}
	if lb.ExternalVIPs, err = unicasts("external vip", m.GetExternalVips()); err != nil {
		return err
	}
	if p := m.GetHealthCheckPort(); p > 65535 {
		return fmt.Errorf("health check port: %d is no port", p)
	}
	lb.HealthPort = uint16(m.GetHealthCheckPort())
	seen := map[[2]uint32]bool{}
	for _, l := range m.GetListeners() {
		listener, err := readListener(l)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.GetName(), err)
		}
		if k := [2]uint32{l.GetProtocol(), l.GetPort()}; seen[k] {
			return fmt.Errorf("listener %s: port %d, protocol %d is there twice", l.GetName(), l.GetPort(), l.GetProtocol())
		} else {
			seen[k] = true
		}
		lb.Listeners = append(lb.Listeners, listener)
	}
	n.config.balancers[r.Name] = lb
	return nil
}

func (n *Node) putRoute(r *record.Resource) error {
	var m southbound.Route
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	list, err := prefixes([]string{m.GetPrefix()})
	if err != nil {
		return err
	}
	route := &compile.Route{Network: m.GetVirtualNetwork(), Prefix: list[0]}
	for _, p := range m.GetPaths() {
		tunnel, err := tunnelAddr(p.GetTunnelAddress())
		if err != nil {
			return fmt.Errorf("path by node %s: %w", p.GetNode(), err)
		}
		l, err := label(p.GetLabel())
		if err != nil {
			return fmt.Errorf("path by node %s: %w", p.GetNode(), err)
		}
		route.Paths = append(route.Paths, compile.Path{Node: p.GetNode(), Tunnel: tunnel, Label: l})
	}
	n.config.routes[r.Name] = route
	return nil
}

func (n *Node) putNodeConfig(r *record.Resource) error {
	var m southbound.NodeConfig
	if err := southbound.Decode(r.Body, &m); err != nil {
		return err
	}
	n.config.zone = m.GetZone()
	return nil
}
