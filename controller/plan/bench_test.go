package plan

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// large is a tenth of the size we design for: 500 nodes, 25,000 pods, 1,000
// services with 25 endpoints each.
func large() Input {
	config := testConfig()
	config.PodSubnets = []netip.Prefix{netip.MustParsePrefix("10.32.0.0/12")}
	config.BlockBits4 = 24
	config.ServiceSubnets = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	in := Input{Config: config, Cluster: &Cluster{}, Reports: map[string]*Report{}, Now: time.Unix(1, 0)}
	for n := range 500 {
		name := fmt.Sprintf("n%d", n)
		in.Cluster.Nodes = append(in.Cluster.Nodes, Node{Meta: Meta{Name: name}})
		r := (&Report{Node: name, Tunnel: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), Synced: true}).Clone()
		for p := range 50 {
			pod := Pod{Meta: meta("Pod", fmt.Sprintf("p%d-%d", n, p), 0), Node: name}
			in.Cluster.Pods = append(in.Cluster.Pods, pod)
			r.VMIs[VMIUUID(&pod)] = AttachedVMI{Label: uint32(16 + p), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 32 + byte(n>>8), byte(n), byte(p)})}}
		}
		in.Reports[name] = r
	}
	for s := range 1000 {
		svc := Service{Meta: meta("Service", fmt.Sprintf("s%d", s), 0), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(s >> 8), byte(s)})}}
		svc.Ports = []ServicePort{{Protocol: TCP, Port: 80}}
		slice := EndpointSlice{Meta: meta("EndpointSlice", fmt.Sprintf("s%d", s), 0), Service: svc.Name, Ports: []EndpointPort{{Protocol: TCP, Port: 8080}}}
		for e := range 25 {
			pod := &in.Cluster.Pods[(s*25+e)%len(in.Cluster.Pods)]
			slice.Endpoints = append(slice.Endpoints, Endpoint{Address: netip.MustParseAddr("10.32.0.9"), Pod: &PodRef{Namespace: pod.Namespace, Name: pod.Name}})
		}
		in.Cluster.Services = append(in.Cluster.Services, svc)
		in.Cluster.Slices = append(in.Cluster.Slices, slice)
	}
	for i := range in.Cluster.Nodes {
		name := in.Cluster.Nodes[i].Name
		in.Leases = append(in.Leases, Lease{Network: DefaultPodNetwork(config), Node: name, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32 + byte(i>>8), byte(i), 0}), 24)})
	}
	return in
}

func BenchmarkBuild(b *testing.B) {
	in := large()
	in.Memory = Build(in).Memory
	b.ReportAllocs()
	for b.Loop() {
		Build(in)
	}
}
