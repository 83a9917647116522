package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/vragent/vragent/fastpath/table"
)

// random makes a node in some state.
func random(rnd *rand.Rand) *Input {
	in := node1()
	in.Pods, in.Routes, in.LoadBalancers, in.Peers = nil, nil, nil, nil
	if rnd.IntN(4) == 0 {
		in.Host = nil
	}
	in.NodePorts, in.Zone = rnd.IntN(2) == 0, []string{"", "z1", "z2"}[rnd.IntN(3)]
	randomNetworks(rnd, in)
	nodes := 2 + rnd.IntN(3)
	for n := 2; n <= nodes; n++ {
		tunnel := netip.AddrFrom4([4]byte{172, 31, 0, byte(10 + n)})
		in.Peers = append(in.Peers, tunnel)
		if rnd.IntN(3) > 0 {
			in.Underlay[tunnel] = Neighbour{SrcMAC: table.MAC{2, 1}, DstMAC: table.MAC{2, byte(n)}}
		}
		network := []string{"pods", "iso", "red"}[rnd.IntN(3)]
		in.Routes = append(in.Routes, &Route{network, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 3, byte(n * 32)}), 27), []Path{{fmt.Sprint("n", n), tunnel, 50}}})
	}
	for n := range rnd.IntN(12) {
		p := pod(n, []string{"pods", "pods", "iso", "red", "unknown"}[rnd.IntN(5)], fmt.Sprintf("192.0.2.%d", n+1), fmt.Sprintf("2001:db8:1::%d", n+1))
		if rnd.IntN(5) == 0 {
			p.Ifindex = 0
		}
		if p.Network == "red" {
			p.ClusterAddrs, p.Hidden = addrsOf(fmt.Sprintf("192.0.4.%d", n+1)), rnd.IntN(2) == 0
		}
		if rnd.IntN(2) == 0 {
			p.PortMaps = []PortMap{{addr("198.51.100.10"), 6, 80, 8080}}
		}
		in.Pods = append(in.Pods, p)
	}
	for n := range rnd.IntN(6) {
		lb := &LoadBalancer{UUID: fmt.Sprint("lb", n), Networks: []string{"pods", "red"}, VIPs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + n)})}}
		randomPolicy(rnd, lb, n)
		for port := range rnd.IntN(4) {
			l := Listener{Proto: 6, Port: uint16(80 + port), NodePort: []uint16{0, 81, 30080}[rnd.IntN(3)]}
			if l.NodePort == 30080 {
				l.NodePort += uint16(10*n + port)
			}
			for m := range rnd.IntN(8) {
				l.Members = append(l.Members, randomMember(rnd, nodes, fmt.Sprint(n, "/", port, "/", m)))
			}
			lb.Listeners = append(lb.Listeners, l)
		}
		in.LoadBalancers = append(in.LoadBalancers, lb)
	}
	return in
}

func randomMember(rnd *rand.Rand, nodes int, uuid string) Member {
	m := Member{UUID: uuid, Name: "x", Address: addr("192.0.2.1"), Port: 80, Draining: rnd.IntN(5) == 0}
	if rnd.IntN(3) > 0 {
		m.HintZones = []string{[]string{"z1", "z2"}[rnd.IntN(2)]}
	}
	if rnd.IntN(3) > 0 {
		m.HintNodes = []string{[]string{"n1", "n2"}[rnd.IntN(2)]}
	}
	node := 1 + rnd.IntN(nodes)
	if node == 1 && rnd.IntN(3) == 0 {
		return m
	}
	m.VMI, m.Node = fmt.Sprint("vmi", rnd.IntN(12)), fmt.Sprint("n", node)
	m.Tunnel, m.Label = netip.AddrFrom4([4]byte{172, 31, 0, byte(10 + node)}), table.Label(20+rnd.IntN(9))
	return m
}

func randomNetworks(rnd *rand.Rand, in *Input) {
	d := in.Networks[0]
	d.Imports = []Import{{"iso", true}}
	if rnd.IntN(2) == 0 {
		in.Networks = append(in.Networks, &Network{Name: "red", Subnets: prefixesOf("192.0.2.0/24"), Translated: true, NoOutside: rnd.IntN(2) == 0, Imports: []Import{{"pods", true}}})
	}
	if rnd.IntN(2) == 0 {
		in.Networks = append(in.Networks, &Network{Name: "iso", Subnets: d.Subnets, Imports: []Import{{"pods", false}, {"pods", true}, {"iso", true}}})
	}
}

func randomPolicy(rnd *rand.Rand, lb *LoadBalancer, n int) {
	lb.Home = []string{"pods", "red", "iso", "unknown"}[rnd.IntN(4)]
	lb.Networks = [][]string{{"pods", "red"}, {"iso"}, {"red"}, {"iso", "pods", "red"}}[rnd.IntN(4)]
	lb.InternalLocal, lb.ExternalLocal, lb.Affinity = rnd.IntN(3) == 0, rnd.IntN(2) == 0, uint32(rnd.IntN(2))*3600
	if rnd.IntN(2) == 0 {
		lb.ExternalVIPs, lb.HealthPort = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + n)})}, uint16(32000+n)
	}
	if rnd.IntN(8) == 0 {
		lb.ExternalVIPs = append(lb.ExternalVIPs, lb.VIPs...)
	}
}
