package forward

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// The network of most tests: two nodes, a client and backends, in IPv4 and IPv6.
//
//	n1 192.0.2.1: c 10.0.0.2, b1 10.0.0.3, host 10.0.0.1
//	n2 192.0.2.2: b2 10.0.1.2, b3 10.0.1.3, host 10.0.1.1
//	10.96.0.10: TCP 8888 and UDP 53 of b1, b2, b3 port 80 and 5353; 10.96.0.11: nobody
const (
	vip, vip6 = "10.96.0.10", "2001:db8:96::a"
	nobody    = "10.96.0.11"
	vrfLabel  = 16
	fabricMTU = 1500
	podMTU    = fabricMTU - packet.TunnelLen
	vrf       = 1
	nhFabric  = 1
	nhVRF     = 2
	nhHost    = 3
	nhTunnel  = 4
	nhService = 5
	nhTCP     = 6
	nhUDP     = 7
	nhNobody  = 8
	nhTCP6    = 9
	nhPods    = 16 // + n: encap of pod n
	labelPods = 32 // + n
)

type pod struct {
	name, addr, addr6 string
	n                 int
	node              string
}

var pods = []pod{
	{"c", "10.0.0.2", "2001:db8::2", 0, "n1"},
	{"b1", "10.0.0.3", "2001:db8::3", 1, "n1"},
	{"b2", "10.0.1.2", "2001:db8:1::2", 2, "n2"},
	{"b3", "10.0.1.3", "2001:db8:1::3", 3, "n2"},
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func twoNodes(t *testing.T, workers int) (b *bed, n1, n2 *node) {
	return newBed(t).twoNodes(workers)
}

func (b *bed) twoNodes(workers int) (_ *bed, n1, n2 *node) {
	n1, n2 = b.node("n1", "192.0.2.1", workers, 4096), b.node("n2", "192.0.2.2", workers, 4096)
	n1.apply(table.Delta{Upsert: network("n1", "192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.1.0/24", "2001:db8:1::/64")})
	n2.apply(table.Delta{Upsert: network("n2", "192.0.2.2", "192.0.2.1", "10.0.1.1", "10.0.0.0/24", "2001:db8::/64")})
	return b, n1, n2
}

func network(name, local, remote, host, far, far6 string) table.State {
	s := table.State{
		VRFs: []table.VRF{{ID: vrf, Name: "pods", Router4: netip.MustParseAddr(host)}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 2, VRF: vrf, NH: nhFabric, MAC: table.MAC{2, 0, 0, 0, 0, 9}, Addrs: addrs(local), MTU: fabricMTU},
			{ID: 2, Kind: table.VifHost, Name: "host", Ifindex: 3, VRF: vrf, NH: nhHost, MAC: table.MAC{2, 0, 0, 0, 0, 8}, Addrs: addrs(host), MTU: fabricMTU},
		},
		NextHops: []table.NextHop{
			{ID: nhFabric, Type: table.NHDiscard},
			{ID: nhVRF, Type: table.NHVRFTranslate, VRF: vrf},
			{ID: nhHost, Type: table.NHHost, Vif: 2},
			tunnelTo(local, remote, table.MAC{2, 0, 0, 0, 0, 7}),
			{ID: nhNobody, Type: table.NHComposite, VRF: vrf, Proto: 6, Port: 80},
		},
		Labels: []table.LabelEntry{{Label: vrfLabel, NH: nhVRF}},
		Peers:  addrs(remote),
		Routes: []table.Route{
			{VRF: vrf, Prefix: netip.MustParsePrefix(far), NH: nhTunnel, Label: vrfLabel},
			{VRF: vrf, Prefix: netip.MustParsePrefix(far6), NH: nhTunnel, Label: vrfLabel},
			{VRF: vrf, Prefix: netip.MustParsePrefix(host + "/32"), NH: nhHost},
			{VRF: vrf, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NH: nhHost},
			{VRF: vrf, Prefix: netip.MustParsePrefix(nobody + "/32"), NH: nhNobody},
		},
	}
	addPods(&s, name)
	addService(&s, name, "b1", "b2", "b3")
	return s
}

// tunnelTo is the next hop nhTunnel; without a neighbour's address it is unresolved.
func tunnelTo(local, remote string, neighbour table.MAC) table.NextHop {
	return table.NextHop{ID: nhTunnel, Type: table.NHTunnel, Vif: 1, Sip: netip.MustParseAddr(local), Dip: netip.MustParseAddr(remote),
		SrcMAC: table.MAC{2, 0, 0, 0, 0, 9}, DstMAC: neighbour, MTU: fabricMTU}
}

func addPods(s *table.State, node string) {
	for _, p := range pods {
		if p.node != node {
			continue
		}
		id, nh := table.VifID(10+p.n), table.NextHopID(nhPods+p.n)
		s.Vifs = append(s.Vifs, table.Vif{ID: id, Kind: table.VifVirtual, Name: p.name, Ifindex: 10 + p.n, VRF: vrf, NH: nh,
			MAC: table.MAC{2, 1, 0, 0, 0, byte(p.n)}, Addrs: addrs(p.addr, p.addr6), MTU: podMTU})
		s.NextHops = append(s.NextHops, table.NextHop{ID: nh, Type: table.NHEncap, Vif: id, VRF: vrf})
		s.Labels = append(s.Labels, table.LabelEntry{Label: table.Label(labelPods + p.n), NH: nh})
		s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p.addr + "/32"), NH: nh},
			table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p.addr6 + "/128"), NH: nh})
	}
}

// addService makes the VIP's next hops with these backends, and the port maps of
// the local ones.
func addService(s *table.State, node string, backends ...string) {
	var members []table.Member
	for _, p := range pods {
		for _, name := range backends {
			if p.name != name {
				continue
			}
			m := table.Member{NH: nhTunnel, Label: table.Label(labelPods + p.n), Key: uint64(p.n) + 1000, Name: p.name}
			if p.node == node {
				m.NH, m.Label = table.NextHopID(nhPods+p.n), 0
				for _, pm := range []table.PortMap{
					{VIP: netip.MustParseAddr(vip), Proto: 6, Port: 8888, Fixed: netip.MustParseAddr(p.addr), Target: 80},
					{VIP: netip.MustParseAddr(vip), Proto: 17, Port: 53, Fixed: netip.MustParseAddr(p.addr), Target: 5353},
					{VIP: netip.MustParseAddr(vip6), Proto: 6, Port: 8888, Fixed: netip.MustParseAddr(p.addr6), Target: 80},
				} {
					pm.Vif = table.VifID(10 + p.n)
					s.PortMaps = append(s.PortMaps, pm)
				}
			}
			members = append(members, m)
		}
	}
	s.NextHops = append(s.NextHops,
		table.NextHop{ID: nhTCP, Type: table.NHComposite, VRF: vrf, Members: members},
		table.NextHop{ID: nhUDP, Type: table.NHComposite, VRF: vrf, Members: members},
		table.NextHop{ID: nhTCP6, Type: table.NHComposite, VRF: vrf, Members: members, Proto: 6, Port: 8888},
		table.NextHop{ID: nhService, Type: table.NHService, VRF: vrf, Listeners: []table.Listener{{Proto: 6, Port: 8888, NH: nhTCP}, {Proto: 17, Port: 53, NH: nhUDP}}})
	s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(vip + "/32"), NH: nhService},
		table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(vip6 + "/128"), NH: nhTCP6})
}

// sctp makes TCP's backends, of which pod is the only one, serve SCTP 9999 of the VIP
// at port 80, too.
func (b *bed) sctp(pod string) {
	b.t.Helper()
	p := where(pod)
	for name, n := range b.nodes {
		d := table.Delta{Upsert: table.State{NextHops: []table.NextHop{{ID: nhService, Type: table.NHService, VRF: vrf, Listeners: []table.Listener{
			{Proto: packet.ProtoTCP, Port: 8888, NH: nhTCP}, {Proto: packet.ProtoUDP, Port: 53, NH: nhUDP}, {Proto: packet.ProtoSCTP, Port: 9999, NH: nhTCP}}}}}}
		if name == p.node {
			d.Upsert.PortMaps = []table.PortMap{{Vif: table.VifID(10 + p.n), VIP: netip.MustParseAddr(vip), Proto: packet.ProtoSCTP, Port: 9999, Fixed: netip.MustParseAddr(p.addr), Target: 80}}
		}
		n.apply(d)
	}
}

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// full leaves no room for another flow, and none that may be evicted.
func (n *node) full() {
	for _, w := range n.workers {
		for i := 0; w.flows.Len() < w.flows.Cap().Four; i++ {
			k := flow.Key{KeyNH: nhPods, Tuple: packet.Tuple{Src: addr("10.0.0.2"), Dst: addr("10.9.9.9"), Sport: uint16(i), Dport: uint16(i >> 16), Proto: packet.ProtoTCP}}
			slot, ok := w.flows.Insert(&k)
			if !ok {
				n.bed.t.Fatal("no room")
			}
			e := w.flows.Entry(slot)
			e.Action, e.TCP, e.LastSeen = flow.ActionForward, flow.SYN|flow.SYNr|flow.EST|flow.ESTr, uint32(n.bed.now>>TickShift)
			e.NH = nhTunnel
		}
	}
}

// backends makes these the members of the service on both nodes; NAME- is draining.
// A protocol in front means only that listener.
func (b *bed) backends(names ...string) {
	b.t.Helper()
	var only uint8
	if len(names) > 0 {
		if only = map[string]uint8{"tcp": packet.ProtoTCP, "udp": packet.ProtoUDP}[names[0]]; only != 0 {
			names = names[1:]
		}
	}
	for name, n := range b.nodes {
		n.apply(n.members(name, only, names))
	}
}

func (n *node) members(node string, only uint8, names []string) table.Delta {
	var up table.State
	var plain []string
	for _, name := range names {
		plain = append(plain, strings.TrimSuffix(name, "-"))
	}
	addService(&up, node, plain...)
	for i := range up.NextHops {
		for j := range up.NextHops[i].Members {
			m := &up.NextHops[i].Members[j]
			m.Draining = slices.Contains(names, m.Name+"-")
		}
	}
	other := func(proto uint8) bool { return only != 0 && proto != only }
	up.NextHops = slices.DeleteFunc(up.NextHops, func(nh table.NextHop) bool {
		return other(packet.ProtoTCP) && (nh.ID == nhTCP || nh.ID == nhTCP6) || other(packet.ProtoUDP) && nh.ID == nhUDP
	})
	up.PortMaps = slices.DeleteFunc(up.PortMaps, func(pm table.PortMap) bool { return other(pm.Proto) })
	d := table.Delta{Upsert: up}
	for _, pm := range n.builder.State().PortMaps {
		if !other(pm.Proto) && !slices.ContainsFunc(up.PortMaps, func(k table.PortMap) bool { return k.Key() == pm.Key() }) {
			d.Remove.PortMaps = append(d.Remove.PortMaps, pm.Key())
		}
	}
	return d
}

func where(name string) pod {
	for _, p := range pods {
		if p.name == name {
			return p
		}
	}
	panic(name)
}
