package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/southbound"
)

// somewhere makes a cluster with a bit of everything.
func somewhere(r *rand.Rand) *world {
	w := newWorld()
	for n := range 3 {
		name := fmt.Sprintf("n%d", n)
		_ = w.do([]string{"node", name, fmt.Sprintf("192.0.2.%d", n+1)})
	}
	for _, c := range []string{
		"namespace default", "namespace a isolated", "namespace b isolated open", "namespace c network=default/blue",
		"network blue 192.0.2.0/28", "network red 192.0.2.0/28 2001:db8:b::/64 snat", "network out 198.18.0.0/24 external", "unserved Ingress c/web",
	} {
		_ = w.do(strings.Fields(c))
	}
	for p := range 12 {
		f := []string{"pod", fmt.Sprintf("n%d", r.IntN(3)), fmt.Sprintf("p%d", p)}
		// Not by chance: an interface that is attached stays in the network it came to be in.
		f[2] = []string{"", "", "", "a/", "b/", "c/", "d/", "", "", "", "", ""}[p] + f[2]
		if p > 6 {
			f = append(f, "network="+[]string{"blue", "red", "out", "none", "k8s-a/k8s-a-pod-network"}[p-7])
		}
		if r.IntN(6) == 0 {
			f = append(f, []string{"host", "done"}[r.IntN(2)])
		}
		_ = w.do(f)
	}
	for s := range 4 {
		vip := fmt.Sprintf("203.0.113.%d,2001:db8:2::%d", r.IntN(6), r.IntN(6))
		_ = w.do([]string{"service", fmt.Sprintf("s%d", s), vip, "http/tcp/80", "dns/udp/53", "x/sctp/99", fmt.Sprintf("created=%d", r.IntN(3))})
		for k, port := range []string{"http/tcp/8080", "http/tcp/8081", "dns/udp/5353", "x/sctp/99"} {
			f := []string{"slice", fmt.Sprintf("s%d-%d", s, k), fmt.Sprintf("s%d", s), []string{"4", "4", "6"}[r.IntN(3)], port}
			for range r.IntN(8) {
				f = append(f, fmt.Sprintf("pod=p%d%s", r.IntN(13), []string{"", "", ",serving", ",terminating", ",not-ready"}[r.IntN(5)]))
			}
			_ = w.do(f)
		}
	}
	for i := range w.cluster.Pods {
		if p := &w.cluster.Pods[i]; r.IntN(4) > 0 {
			w.report(p.Node, func(rep *Report) {
				rep.VMIs[VMIUUID(p)] = AttachedVMI{Label: uint32(20 + i), Addresses: []netip.Addr{
					netip.AddrFrom4([4]byte{192, 0, 2, 100 + byte(i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:9::%d", i)),
				}}
			})
		}
	}
	return w
}

// scrambled is the same cluster: permuted, repeated, its slices split.
func scrambled(c *Cluster, r *rand.Rand) *Cluster {
	return &Cluster{
		Namespaces:      shuffled(c.Namespaces, r),
		Nodes:           shuffled(c.Nodes, r),
		Pods:            shuffled(c.Pods, r),
		Services:        shuffled(c.Services, r),
		Slices:          shuffled(split(c.Slices, r), r),
		VirtualNetworks: shuffled(c.VirtualNetworks, r),
		Pools:           shuffled(c.Pools, r),
		Unserved:        shuffled(c.Unserved, r),
	}
}

func shuffled[T any](in []T, r *rand.Rand) []T {
	out := slices.Clone(in)
	for _, x := range in {
		if r.IntN(3) == 0 {
			out = append(out, x)
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func split(in []EndpointSlice, r *rand.Rand) []EndpointSlice {
	var out []EndpointSlice
	for _, s := range in {
		cut := r.IntN(len(s.Endpoints) + 1)
		a, b := s, s
		b.Name += "-more"
		a.Endpoints, b.Endpoints = shuffled(s.Endpoints[:cut], r), shuffled(s.Endpoints[cut:], r)
		out = append(out, a, b)
	}
	return out
}

func TestOrderRepetitionAndPartitionDoNotMatter(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := somewhere(r)
		w.plan()
		for node := range w.reports {
			w.acknowledge(node)
		}
		in := Input{Config: w.config, Cluster: &w.cluster, Leases: w.leases, Reports: w.reports, Memory: w.memory, Now: w.now}
		want := Build(in)
		for range 3 {
			in.Cluster = scrambled(&w.cluster, r)
			in.Leases = shuffled(w.leases, r)
			got := Build(in)
			if !reflect.DeepEqual(want.Model, got.Model) {
				t.Fatalf("seed %d: the model differs", seed)
			}
			if d := differ(want.Intents, got.Intents); d != "" {
				t.Fatalf("seed %d: %s", seed, d)
			}
		}
		if got := Build(in); !reflect.DeepEqual(want.Memory, got.Memory) {
			t.Fatalf("seed %d: the memory differs", seed)
		}
	}
}

// differ compares versions; the bodies' equality follows.
func differ(a, b *Intents) string {
	if !reflect.DeepEqual(a.Nodes, b.Nodes) {
		return fmt.Sprintf("subscriptions: %v, %v", a.Nodes, b.Nodes)
	}
	if len(a.Sets) != len(b.Sets) {
		return "sets"
	}
	for name, s := range a.Sets {
		if len(s) != len(b.Sets[name]) {
			return "set " + name + " has another size"
		}
		for k, r := range s {
			o := b.Sets[name][k]
			if o == nil || o.Wire.Version != r.Wire.Version || o.NotFor != r.NotFor {
				return fmt.Sprintf("%s %v: %s", name, k, describe(r))
			}
		}
	}
	return ""
}

// However a cluster came about, once everybody has acknowledged everything the
// nodes hold the same, but for blocks: what was leased once is kept as it is.
func TestHistoryDoesNotMatter(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		end, other := somewhere(r), somewhere(r)
		straight := &world{config: end.config, cluster: end.cluster, reports: end.reports, lastText: map[string]string{}, now: end.now}
		want := straight.rest()

		detour := &world{config: end.config, cluster: other.cluster, reports: other.reports, lastText: map[string]string{}, now: end.now}
		detour.rest()
		detour.cluster.Services = slices.Concat(end.cluster.Services, other.cluster.Services[:1])
		detour.plan()
		detour.cluster, detour.reports = end.cluster, end.reports
		got := detour.rest()
		for _, in := range []*Intents{want, got} {
			for _, set := range in.Sets {
				maps.DeleteFunc(set, func(k Key, _ *Resource) bool { return k.Type == southbound.Type_TYPE_BLOCK })
			}
		}
		if d := differ(want, got); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// rest plans until nothing moves any more.
func (w *world) rest() *Intents {
	for range 5 {
		w.plan()
		for node := range w.reports {
			w.acknowledge(node)
		}
		w.settled = w.memory.Awaited()
		w.now = w.now.Add(time.Minute)
	}
	return w.last.Intents
}

// Every member that is announced has its port map on its node, as the agent has
// said, whatever happens in between.
func TestNoMemberWithoutPortMap(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := somewhere(r)
		for range 30 {
			switch r.IntN(5) {
			case 0:
				next := somewhere(r)
				w.cluster.Slices = next.cluster.Slices
			case 1:
				w.settled = w.memory.Awaited()
			case 2:
				w.now = w.now.Add(20 * time.Second)
			default:
				if w.last != nil {
					w.acknowledge(fmt.Sprintf("n%d", r.IntN(3)))
				}
			}
			w.plan()
			w.checkMembers(t)
		}
	}
}

func (w *world) checkMembers(t *testing.T) {
	t.Helper()
	for k, res := range w.last.Intents.Sets[networkSet("k8s-default-pod-network")] {
		if k.Type != southbound.Type_TYPE_LOAD_BALANCER {
			continue
		}
		lb := decoded(res, &southbound.LoadBalancer{})
		for _, l := range lb.Listeners {
			for _, m := range l.Members {
				if m.Vmi == "" {
					continue
				}
				vmi := decoded(w.last.Intents.Sets[nodeSet(m.Node)][Key{southbound.Type_TYPE_VMI, m.Vmi}], &southbound.VMI{})
				has := slices.ContainsFunc(vmi.PortMaps, func(p *southbound.PortMap) bool {
					return p.Protocol == l.Protocol && p.Port == l.Port && p.Target == m.Port && slices.Contains(lb.Vips, p.Vip)
				})
				said := w.reports[m.Node].VMIs[m.Vmi].PortMaps
				for _, vip := range lb.Vips {
					if a := netip.MustParseAddr(vip); a.Is6() == netip.MustParseAddr(m.Address).Is6() {
						has = has && said[PortMapKey{VIP: a, Protocol: uint8(l.Protocol), Port: uint16(l.Port)}] == uint16(m.Port)
					}
				}
				if !has {
					t.Fatalf("%s is a member of %s without its port map (%v, %v)", m.Name, l.Name, vmi.PortMaps, said)
				}
			}
		}
	}
}

func TestDeriveIsStable(t *testing.T) {
	if got := Derive("a", "b"); got != Derive("a", "b") || got == Derive("ab") || got == Derive("b", "a") || len(got) != 36 || got[14] != '5' {
		t.Error(got)
	}
}

func TestRoutingInstances(t *testing.T) {
	w := newWorld()
	for _, c := range [][]string{
		{"node", "n1", "192.0.2.1"},
		{"node", "n2", "192.0.2.2"},
		{"pod", "n1", "a"},
		{"pod", "n2", "b"},
		{"service", "web", "203.0.113.10", "http/tcp/80"},
		{"slice", "s", "web", "4", "http/tcp/80", "pod=a", "pod=b"},
		{"attach", "a", "20", "198.51.100.2"},
		{"attach", "b", "21", "198.51.100.66"},
		{"route", "n1", "k8s-default-pod-network", "198.51.100.0/26", "16"},
		{"route", "n1", "k8s-default-pod-network", "198.51.100.1/32", "16"},
		{"route", "n1", "k8s-default-pod-network", "203.0.113.10/32", "17", "a"},
		{"route", "n2", "k8s-default-pod-network", "203.0.113.10/32", "18", "b"},
	} {
		if err := w.do(c); err != nil {
			t.Fatal(err)
		}
	}
	w.plan()
	for i, want := range [][]string{
		{
			"198.51.100.0/26 block n1 192.0.2.1 16 []",
			"198.51.100.1/32 host n1 192.0.2.1 16 []",
			"203.0.113.10/32 floating-ip n1 192.0.2.1 17 [a]",
			"203.0.113.10/32 floating-ip n2 192.0.2.2 18 [b]",
		},
		{
			"203.0.113.10/32 floating-ip n1 192.0.2.1 17 [a]",
			"203.0.113.10/32 floating-ip n2 192.0.2.2 18 [b]",
		},
	} {
		var got []string
		for _, r := range w.last.Model.RoutingInstances[i].Routes {
			for _, p := range r.Paths {
				pods := []string{}
				for _, v := range p.Members {
					pods = append(pods, v.Pod.Name)
				}
				got = append(got, fmt.Sprint(r.Prefix, " ", r.Kind, " ", p.Node, " ", p.NextHop, " ", p.Label, " ", pods))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nwant\n%q", w.last.Model.RoutingInstances[i].Network.Name, got, want)
		}
	}
}
