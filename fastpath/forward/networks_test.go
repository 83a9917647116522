package forward

import (
	"net/netip"
	"slices"

	"github.com/vragent/vragent/fastpath/table"
)

// Networks beside that of network_test.go, which is D here:
//
//	I  isolated: reaches D; D and hosts reach it with replies only. i1 on n1, i2 on n2;
//	   10.96.0.20 is TCP 80 of both, port 8080
//	C1, C2  custom, with overlapping addresses: leave with cluster addresses of D. x1 (C1)
//	   and x2 (C2) on n1 have the same own ones; y1 (C1) is on n2. They use D's VIPs
const (
	vrfI, vrfC1, vrfC2 = 2, 3, 4
	vipI               = "10.96.0.20"
	nhVipI             = 60
	nhVRFs             = 50 // + VRF
	labelVRFs          = 15 // + VRF
)

type tenant struct {
	name, node        string
	vrf               table.VRFID
	n                 int // as a pod's
	addr, addr6       string
	cluster, cluster6 string
}

var tenants = []tenant{
	{"i1", "n1", vrfI, 20, "10.0.0.130", "2001:db8::130", "", ""},
	{"i2", "n2", vrfI, 21, "10.0.1.130", "2001:db8:1::130", "", ""},
	{"x1", "n1", vrfC1, 22, "10.9.0.5", "2001:db8:9::5", "10.0.0.200", "2001:db8::200"},
	{"x2", "n1", vrfC2, 23, "10.9.0.5", "2001:db8:9::5", "10.0.0.201", "2001:db8::201"},
	{"y1", "n2", vrfC1, 24, "10.9.0.77", "2001:db8:9::77", "10.0.1.200", "2001:db8:1::200"},
}

// networks adds I, C1 and C2 to both nodes.
func (b *bed) networks() {
	b.t.Helper()
	for name, n := range b.nodes {
		n.apply(table.Delta{Upsert: n.tenantState(name)})
	}
}

// isolated says whether D reaches I with replies only.
func (b *bed) isolated(on bool) {
	b.t.Helper()
	for name, n := range b.nodes {
		var up table.State
		for _, r := range n.tenantState(name).Routes {
			if toI := r.NH == nhVipI || slices.ContainsFunc(tenants, func(x tenant) bool {
				return x.vrf == vrfI && (r.Prefix.Contains(netip.MustParseAddr(x.addr)) || r.Prefix.Contains(netip.MustParseAddr(x.addr6))) && r.Prefix.IsSingleIP()
			}); r.VRF == vrf && toI {
				r.ReplyOnly = on
				up.Routes = append(up.Routes, r)
			}
		}
		n.apply(table.Delta{Upsert: up})
	}
}

func (n *node) tenantState(node string) (s table.State) {
	for _, id := range []table.VRFID{vrfI, vrfC1, vrfC2} {
		s.VRFs = append(s.VRFs, table.VRF{ID: id, Name: map[table.VRFID]string{vrfI: "i", vrfC1: "c1", vrfC2: "c2"}[id]})
		s.NextHops = append(s.NextHops, table.NextHop{ID: nhVRFs + table.NextHopID(id), Type: table.NHVRFTranslate, VRF: id})
		s.Labels = append(s.Labels, table.LabelEntry{Label: labelVRFs + table.Label(id), NH: nhVRFs + table.NextHopID(id)})
	}
	n.importD(&s)
	vip := table.NextHop{ID: nhVipI, Type: table.NHComposite, VRF: vrfI, Proto: 6, Port: 80}
	for _, x := range tenants {
		x.add(&s, node)
		if x.vrf == vrfI {
			m := table.Member{NH: nhTunnel, Label: table.Label(labelPods + x.n), Key: uint64(x.n), Name: x.name}
			if x.node == node {
				m.NH, m.Label = table.NextHopID(nhPods+x.n), 0
				s.PortMaps = append(s.PortMaps, table.PortMap{Vif: table.VifID(10 + x.n), VIP: netip.MustParseAddr(vipI), Proto: 6, Port: 80, Fixed: netip.MustParseAddr(x.addr), Target: 8080})
			}
			vip.Members = append(vip.Members, m)
		}
	}
	s.NextHops = append(s.NextHops, vip)
	at := netip.MustParsePrefix(vipI + "/32")
	s.Routes = append(s.Routes, table.Route{VRF: vrfI, Prefix: at, NH: nhVipI}, table.Route{VRF: vrf, Prefix: at, NH: nhVipI, ReplyOnly: true})
	return s
}

// importD gives I the routes of D, and C1 and C2 those for replies; of VIPs and of the
// way outside they have translating ones.
func (n *node) importD(s *table.State) {
	for _, r := range n.builder.State().Routes {
		if r.VRF != vrf || r.ReplyOnly { // others' own
			continue
		}
		r.VRF = vrfI
		s.Routes = append(s.Routes, r)
		for r.VRF = vrfC1; r.VRF <= vrfC2; r.VRF++ {
			r.Translate = r.NH == nhService || r.NH == nhTCP6 || r.Prefix.Bits() == 0
			r.ReplyOnly = !r.Translate
			s.Routes = append(s.Routes, r)
		}
	}
	for id := table.VRFID(vrfC1); id <= vrfC2; id++ {
		s.Routes = append(s.Routes, table.Route{VRF: id, Prefix: netip.MustParsePrefix("::/0"), NH: nhHost, Translate: true})
	}
}

// add makes the tenant's vif on its node, and the routes to it on both.
func (x *tenant) add(s *table.State, node string) {
	id, nh, label := table.VifID(10+x.n), table.NextHopID(nhPods+x.n), table.Label(0)
	if x.node == node {
		v := table.Vif{ID: id, Kind: table.VifVirtual, Name: x.name, Ifindex: 10 + x.n, VRF: x.vrf, NH: nh,
			MAC: table.MAC{2, 1, 0, 0, 0, byte(x.n)}, Addrs: addrs(x.addr, x.addr6), MTU: podMTU}
		if x.cluster != "" {
			v.ClusterAddrs = addrs(x.cluster, x.cluster6)
		}
		s.Vifs = append(s.Vifs, v)
		s.NextHops = append(s.NextHops, table.NextHop{ID: nh, Type: table.NHEncap, Vif: id, VRF: x.vrf})
		s.Labels = append(s.Labels, table.LabelEntry{Label: table.Label(labelPods + x.n), NH: nh})
	} else {
		nh, label = nhTunnel, labelVRFs+table.Label(x.vrf)
	}
	for _, a := range addrs(x.addr, x.addr6) {
		s.Routes = append(s.Routes, table.Route{VRF: x.vrf, Prefix: single(a), NH: nh, Label: label})
		if x.vrf == vrfI || x.name == "x1" && x.node == node {
			s.Routes = append(s.Routes, table.Route{VRF: vrf, Prefix: single(a), NH: nh, Label: label, ReplyOnly: true})
		}
	}
	if x.cluster == "" || x.node != node {
		return
	}
	for _, a := range addrs(x.cluster, x.cluster6) { // elsewhere they are in D's block of this node
		for id := table.VRFID(vrf); id <= vrfC2; id++ {
			s.Routes = append(s.Routes, table.Route{VRF: id, Prefix: single(a), NH: nh, ReplyOnly: true})
		}
	}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
