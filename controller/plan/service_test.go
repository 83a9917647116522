package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/southbound"
)

// busy is somewhere, where services are reached from outside too.
func busy(r *rand.Rand) *world {
	w := somewhere(r)
	for _, c := range [][]string{
		{"configure", "node-ports", "public-pool=default/public", "shared=default/s1"},
		{"network", "internet", "192.0.2.128/29", "2001:db8:f::/126", "external"},
		{"pool", "public", "internet"},
		{"pool", "part", "internet", "192.0.2.132/30"},
	} {
		_ = w.do(c)
	}
	for i := range w.cluster.Services {
		w.somehow(&w.cluster.Services[i], r)
	}
	return w
}

// somehow lets a service be reached from outside in other ways.
func (w *world) somehow(s *Service, r *rand.Rand) {
	s.Outside = Outside{LoadBalancer: r.IntN(2) == 0, Ingress: s.Outside.Ingress}
	for range r.IntN(4) {
		s.Outside.IPs = append(s.Outside.IPs, netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(140))}))
	}
	if r.IntN(3) == 0 {
		s.Outside.Wanted = netip.AddrFrom4([4]byte{192, 0, 2, byte(128 + r.IntN(8))})
	}
	if r.IntN(3) == 0 {
		s.Outside.Pool = &FQName{Name: []string{"part", "none"}[r.IntN(2)]}
	}
	s.Ports = slices.Clone(s.Ports)
	for i := range s.Ports {
		s.Ports[i].NodePort = []uint16{0, 30000, 30001, 80}[r.IntN(4)]
	}
}

func TestOrderDoesNotMatterOutside(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 11))
		w := busy(r)
		w.plan()
		_ = w.write()
		for node := range w.reports {
			w.acknowledge(node)
		}
		in := Input{Config: w.config, Cluster: &w.cluster, Leases: w.leases, Reports: w.reports, Memory: w.memory, Now: w.now}
		want := Build(in)
		for range 3 {
			in.Cluster = scrambled(&w.cluster, r)
			in.Cluster.VirtualNetworks = shuffled(w.cluster.VirtualNetworks, r)
			in.Cluster.Pools = shuffled(w.cluster.Pools, r)
			got := Build(in)
			if !reflect.DeepEqual(want.Model, got.Model) || !reflect.DeepEqual(want.Statuses, got.Statuses) || !reflect.DeepEqual(want.Memory, got.Memory) {
				t.Fatalf("seed %d: the model, the statuses or the memory differ", seed)
			}
			if d := differ(want.Intents, got.Intents); d != "" {
				t.Fatalf("seed %d: %s", seed, d)
			}
		}
	}
}

// Whatever comes and goes, every member that is announced has the port maps of
// all ways that are announced, and nothing that works is taken away for what is
// on its way.
func TestWaysAndMembersWaitForEachOther(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 12))
		w := busy(r)
		w.plan()
		fast := map[Key]*southbound.VMI{} // as the nodes have acknowledged it
		var before map[string]path
		for step := range 40 {
			switch r.IntN(6) {
			case 0:
				w.cluster.Slices = somewhere(r).cluster.Slices
			case 1, 2:
				w.somehow(&w.cluster.Services[r.IntN(len(w.cluster.Services))], r)
			case 3:
				_ = w.write()
			case 4:
				w.settled, w.now = w.memory.Awaited(), w.now.Add(20*time.Second)
			}
			if node := fmt.Sprintf("n%d", r.IntN(3)); r.IntN(2) == 0 {
				w.acknowledge(node)
				for k, res := range w.last.Intents.Sets[nodeSet(node)] {
					if k.Type == southbound.Type_TYPE_VMI {
						fast[k] = decoded(res, &southbound.VMI{})
					}
				}
			}
			w.plan()
			now := w.paths()
			for name, p := range now {
				k := Key{southbound.Type_TYPE_VMI, p.vmi}
				sent := decoded(w.last.Intents.Sets[nodeSet(p.node)][k], &southbound.VMI{})
				if !hasMap(fast[k], p) || !hasMap(sent, p) {
					t.Fatalf("seed %d, step %d: %s is announced without its port map", seed, step, name)
				}
			}
			for name, p := range before {
				if _, still := now[name]; !still && w.wants(p) {
					t.Fatalf("seed %d, step %d: %s worked, is still wanted, and was taken away", seed, step, name)
				}
			}
			before = now
		}
	}
}

// path is a way to a member of a load balancer.
type path struct {
	lb, vmi, node string
	key           portMapKey
	target        uint16
	listener      uint16
	nodePort      bool
}

// paths are all ways to all members that are announced.
func (w *world) paths() map[string]path {
	out := map[string]path{}
	for k, res := range w.last.Intents.Sets[networkSet("k8s-default-pod-network")] {
		if k.Type != southbound.Type_TYPE_LOAD_BALANCER {
			continue
		}
		lb := decoded(res, &southbound.LoadBalancer{})
		add := func(l *southbound.Listener, vip string, port uint32, nodePort bool) {
			a := netip.MustParseAddr(vip)
			for _, m := range l.Members {
				if m.Vmi != "" && a.Is6() == netip.MustParseAddr(m.Address).Is6() {
					p := path{lb.Uuid, m.Vmi, m.Node, portMapKey{VIP: a, Protocol: uint8(l.Protocol), Port: uint16(port)}, uint16(m.Port), uint16(l.Port), nodePort}
					out[fmt.Sprint(lb.Name, " ", a, " ", l.Protocol, "/", port, " → ", m.Name, ":", m.Port)] = p
				}
			}
		}
		for _, l := range lb.Listeners {
			for _, vip := range lb.Vips {
				add(l, vip, l.Port, false)
				if l.NodePort != 0 && l.NodePort != l.Port {
					add(l, vip, l.NodePort, true)
				}
			}
			for _, vip := range lb.ExternalVips {
				add(l, vip, l.Port, false)
			}
		}
	}
	return out
}

func hasMap(v *southbound.VMI, p path) bool {
	return v != nil && slices.ContainsFunc(v.PortMaps, func(m *southbound.PortMap) bool {
		return m.Vip == p.key.VIP.String() && m.Protocol == uint32(p.key.Protocol) && m.Port == uint32(p.key.Port) && m.Target == uint32(p.target)
	})
}

// wants tells whether the model still has the path.
func (w *world) wants(p path) bool {
	for _, lb := range w.last.Model.LoadBalancers {
		for _, l := range lb.Listeners {
			if lb.UUID != p.lb || l.Protocol != p.key.Protocol || l.Port != p.listener || p.nodePort && l.NodePort != p.key.Port {
				continue
			}
			for f := range lb.Addresses() {
				if f.Address == p.key.VIP && slices.ContainsFunc(l.Members, func(m *Member) bool {
					return m.Interface != nil && m.Interface.UUID == p.vmi && m.Port == p.target && m.V6 == f.Address.Is6()
				}) {
					return true
				}
			}
		}
	}
	return false
}

// An address is on the nodes only while its service's status says so, and is
// that of one service.
func TestNobodyServesAnAddressBeforeItIsTold(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 13))
		w := busy(r)
		w.plan()
		for range 30 {
			switch r.IntN(3) {
			case 0:
				_ = w.write()
			case 1:
				w.somehow(&w.cluster.Services[r.IntN(len(w.cluster.Services))], r)
			}
			w.plan()
			owner := map[netip.Addr]string{}
			for _, lb := range w.last.Model.LoadBalancers {
				o := &lb.Service.Outside
				for f := range lb.Addresses() {
					if other, taken := owner[f.Address]; taken {
						t.Fatalf("seed %d: %v is that of %s and of %s", seed, f.Address, other, lb.Name)
					}
					owner[f.Address] = lb.Name
					told := o.LoadBalancer && slices.Contains(o.Ingress, f.Address)
					if f.External && !told && !slices.Contains(o.IPs, f.Address) {
						t.Fatalf("seed %d: %s serves %v, which nobody was told", seed, lb.Name, f.Address)
					}
				}
			}
		}
	}
}

// An address of a pool is a floating IP of that pool, in the external network;
// the route to it is shown there and where it is used from.
func TestFloatingIPOfAPool(t *testing.T) {
	w := newWorld()
	for _, c := range []string{
		"node n1 192.0.2.1", "namespace default", "namespace shut isolated", "pod n1 a",
		"network internet 192.0.2.128/29 external", "pool public internet", "configure public-pool=default/public",
		"service web 203.0.113.10 http/tcp/80 balanced external=192.0.2.77", "slice s web 4 http/tcp/80 pod=a", "attach a 20 198.51.100.2",
	} {
		if err := w.do(strings.Fields(c)); err != nil {
			t.Fatal(err)
		}
	}
	w.plan()
	_ = w.write()
	for _, vip := range []string{"203.0.113.10", "192.0.2.129", "192.0.2.77"} {
		_ = w.do([]string{"route", "n1", "k8s-default-pod-network", vip + "/32", "17", "a"})
	}
	w.plan()
	m := w.last.Model
	var got []string
	for f := range m.LoadBalancers[0].Addresses() {
		pool := "none"
		if f.Pool != nil {
			pool = strings.Join(f.Pool.FQName(), ":")
		}
		got = append(got, fmt.Sprintf("%v in %s of pool %s, external %v, %d pod, %v", f.Address, f.Network.Name, pool, f.External, len(f.Interfaces), f.Maps))
	}
	for _, ri := range m.RoutingInstances {
		for _, r := range ri.Routes {
			if r.Kind == "floating-ip" {
				got = append(got, fmt.Sprintf("%s: %v %s", ri.Network.Name, r.Prefix, r.Paths[0].Members[0].Pod.Name))
			}
		}
		for r := range ri.Imported() {
			if r.Kind == "floating-ip" {
				got = append(got, fmt.Sprintf("%s imports %v", ri.Network.Name, r.Prefix))
			}
		}
	}
	want := []string{
		"203.0.113.10 in k8s-default-service-network of pool none, external false, 1 pod, [{6 80 80}]",
		"192.0.2.77 in k8s-default-service-network of pool none, external true, 1 pod, [{6 80 80}]",
		"192.0.2.129 in k8s-default:internet of pool default-domain:k8s-default:internet:public, external true, 1 pod, [{6 80 80}]",
		"k8s-default-pod-network: 192.0.2.77/32 a", "k8s-default-pod-network: 192.0.2.129/32 a", "k8s-default-pod-network: 203.0.113.10/32 a",
		"k8s-default-service-network: 192.0.2.77/32 a", "k8s-default-service-network: 203.0.113.10/32 a",
		"k8s-default:internet: 192.0.2.129/32 a",
		"k8s-shut-pod-network imports 203.0.113.10/32", "k8s-shut-pod-network imports 192.0.2.77/32", "k8s-shut-pod-network imports 192.0.2.129/32",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_ = w.do([]string{"remove", "service", "web"})
	w.plan()
	if p := w.last.Model.Problems; len(p) > 0 {
		t.Error("a node that has not heard yet that a VIP is gone does nothing wrong:", p)
	}
}
