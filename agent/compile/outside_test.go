package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/table"
)

// Backends of web: two pods here, one on n2, and the address of n1 itself.
func webMembers() []Member {
	return []Member{
		{UUID: "a", Name: "a", VMI: "vmi1", Node: "n1", Tunnel: addr("172.31.0.11"), Label: 20, Address: addr("192.0.2.1"), Port: 80},
		{UUID: "b", Name: "b", VMI: "vmi2", Node: "n1", Tunnel: addr("172.31.0.11"), Label: 21, Address: addr("192.0.2.2"), Port: 80},
		{UUID: "c", Name: "c", VMI: "vmi7", Node: "n2", Tunnel: addr("172.31.0.12"), Label: 30, Address: addr("192.0.2.70"), Port: 80},
		{UUID: "d", Name: "d", Node: "n1", Address: addr("172.31.0.11"), Port: 80},
	}
}

// web is node1 with one service.
func web(change func(*Input, *LoadBalancer)) *Input {
	in := node1()
	lb := &LoadBalancer{
		UUID: "lb1", Namespace: "default", Service: "web", Networks: []string{"pods"}, Home: "pods", VIPs: addrsOf("198.51.100.10"),
		Listeners: []Listener{{Proto: 6, Port: 8888, NodePort: 30080, Members: webMembers()}},
	}
	in.LoadBalancers = []*LoadBalancer{lb}
	change(in, lb)
	return in
}

// choice writes who takes new flows, and in brackets who keeps its own.
func choice(t *testing.T, s *table.State, id table.NextHopID) string {
	t.Helper()
	n := nextHop(t, s, id)
	if n.Type != table.NHComposite {
		t.Fatalf("next hop %d is a %s", id, n.Type)
	}
	var awake, draining []string
	for _, m := range n.Members {
		switch {
		case m.NH == 0:
		case m.Draining:
			draining = append(draining, m.Name)
		default:
			awake = append(awake, m.Name)
		}
	}
	slices.Sort(awake)
	slices.Sort(draining)
	text := strings.Join(awake, " ")
	if len(draining) > 0 {
		text += " [" + strings.Join(draining, " ") + "]"
	}
	return strings.TrimSpace(text)
}

// doorsOf writes what a VIP does with each (port, protocol): inside, and for
// clients outside of the cluster.
func doorsOf(t *testing.T, s *table.State, vip string) map[string]string {
	t.Helper()
	n := nextHop(t, s, routeTo(t, s, vip).NH)
	if n.Type == table.NHComposite {
		return map[string]string{fmt.Sprintf("%d/%d", n.Port, n.Proto): choice(t, s, n.ID)}
	}
	out := map[string]string{}
	for _, l := range n.Listeners {
		text := choice(t, s, l.NH)
		if l.OutsideNH != 0 {
			text += ", outside " + cmp.Or(choice(t, s, l.OutsideNH), "nobody")
		}
		if l.HostOnly {
			text += ", host only"
		}
		out[fmt.Sprintf("%d/%d", l.Port, l.Proto)] = text
	}
	return out
}

// The policies of a service, with and without node ports of ours.
func TestPolicies(t *testing.T) {
	external := func(lb *LoadBalancer) { lb.ExternalVIPs = addrsOf("203.0.113.200") }
	cases := []struct {
		name     string
		change   func(*Input, *LoadBalancer)
		cluster  map[string]string
		external map[string]string
	}{
		{"plain", func(in *Input, lb *LoadBalancer) {}, map[string]string{"8888/6": "a b c d"}, nil},
		{"node ports", func(in *Input, lb *LoadBalancer) { in.NodePorts = true },
			map[string]string{"8888/6": "a b c d", "30080/6": "a b c d, host only"}, nil},
		{"internal local", func(in *Input, lb *LoadBalancer) { in.NodePorts, lb.InternalLocal = true, true; external(lb) },
			map[string]string{"8888/6": "a b d", "30080/6": "a b c d, host only"}, map[string]string{"8888/6": "a b c d"}},
		{"external local", func(in *Input, lb *LoadBalancer) { in.NodePorts, lb.ExternalLocal = true, true; external(lb) },
			map[string]string{"8888/6": "a b c d", "30080/6": "a b c d, outside a b d, host only"},
			map[string]string{"8888/6": "a b c d, outside a b d"}},
		{"no backend here", func(in *Input, lb *LoadBalancer) {
			lb.InternalLocal, lb.ExternalLocal = true, true
			external(lb)
			lb.Listeners[0].Members = lb.Listeners[0].Members[2:3]
		}, map[string]string{"8888/6": ""}, map[string]string{"8888/6": "c, outside nobody"}},
		{"only draining ones here", func(in *Input, lb *LoadBalancer) {
			lb.InternalLocal = true
			for i := range 4 {
				lb.Listeners[0].Members[i].Draining = i != 2
			}
		}, map[string]string{"8888/6": "a b d"}, nil},
		{"some draining ones here", func(in *Input, lb *LoadBalancer) {
			lb.InternalLocal = true
			lb.Listeners[0].Members[0].Draining = true
		}, map[string]string{"8888/6": "b d [a]"}, nil},
		{"the node port is the port", func(in *Input, lb *LoadBalancer) {
			in.NodePorts, lb.ExternalLocal = true, true
			lb.Listeners[0].Port = 30080
		}, map[string]string{"30080/6": "a b c d, outside a b d"}, nil},
	}
	for _, c := range cases {
		out := run(web(c.change))
		if got := doorsOf(t, &out.State, "198.51.100.10/32"); !reflect.DeepEqual(got, c.cluster) {
			t.Errorf("%s: cluster IP %q, want %q", c.name, got, c.cluster)
		}
		if c.external == nil {
			continue
		}
		if got := doorsOf(t, &out.State, "203.0.113.200/32"); !reflect.DeepEqual(got, c.external) {
			t.Errorf("%s: external %q, want %q", c.name, got, c.external)
		}
	}
}

// Hints count when all who take new flows have them and one matches; those who are
// not meant keep what they have. The node's go before the zone's.
func TestHints(t *testing.T) {
	zones := func(list ...string) func([]Member) {
		return func(m []Member) {
			for i, z := range list {
				if z != "" {
					m[i].HintZones = strings.Split(z, ",")
				}
			}
		}
	}
	nodes := func(list ...string) func([]Member) {
		return func(m []Member) {
			for i, n := range list {
				if n != "" {
					m[i].HintNodes = []string{n}
				}
			}
		}
	}
	cases := []struct {
		name   string
		hints  []func([]Member)
		change func(*Input, []Member)
		want   string
	}{
		{"zone", []func([]Member){zones("z1", "z2", "z2,z1", "z2")}, nil, "a c [b d]"},
		{"one has none", []func([]Member){zones("z1", "z2", "z2", "")}, nil, "a b c d"},
		{"one that drains has none", []func([]Member){zones("z1", "z2", "z2", "")}, func(_ *Input, m []Member) { m[3].Draining = true }, "a [b c d]"},
		{"none matches", []func([]Member){zones("z2", "z2", "z2", "z2")}, nil, "a b c d"},
		{"the one that matches drains", []func([]Member){zones("z1", "z2", "z2", "z2")}, func(_ *Input, m []Member) { m[0].Draining = true }, "b c d [a]"},
		{"the one that matches is gone", []func([]Member){zones("z1", "z2", "z2", "z2")}, func(in *Input, _ []Member) { in.Pods = in.Pods[1:] }, "b c d"},
		{"no zone", []func([]Member){zones("z1", "z1", "z1", "z1")}, func(in *Input, _ []Member) { in.Zone = "" }, "a b c d"},
		{"node", []func([]Member){zones("z1", "z1", "z1", "z1"), nodes("n1", "n2", "n2", "n1")}, nil, "a d [b c]"},
		{"another node", []func([]Member){zones("z1", "z2", "z1", "z2"), nodes("n3", "n2", "n2", "n3")}, nil, "a c [b d]"},
		{"not all have a node", []func([]Member){nodes("n1", "n2", "n2", "")}, nil, "a b c d"},
	}
	for _, c := range cases {
		in := web(func(in *Input, lb *LoadBalancer) {
			in.Zone = "z1"
			for _, h := range c.hints {
				h(lb.Listeners[0].Members)
			}
			if c.change != nil {
				c.change(in, lb.Listeners[0].Members)
			}
		})
		s := run(in).State
		if got := doorsOf(t, &s, "198.51.100.10/32")["8888/6"]; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What does not depend on this node's pods is remembered; a change of zone or of
// node ports is not missed for that.
func TestZoneIsNoticed(t *testing.T) {
	in := web(func(in *Input, lb *LoadBalancer) {
		in.Zone = "z1"
		m := lb.Listeners[0].Members[2:3]
		m = append(m, m[0])
		m[1].UUID, m[1].Name, m[1].Label = "e", "e", 31
		m[0].HintZones, m[1].HintZones = []string{"z1"}, []string{"z2"}
		lb.Listeners[0].Members = m
	})
	ids := NewIDs(nil, start)
	out := Compile(in, ids, nil)
	if out.Memory.fragments[in.LoadBalancers[0]] == nil {
		t.Fatal("not remembered: this test tests nothing")
	}
	for _, c := range []struct {
		zone  string
		ports bool
		want  map[string]string
	}{
		{"z1", false, map[string]string{"8888/6": "c [e]"}},
		{"z2", false, map[string]string{"8888/6": "e [c]"}},
		{"z2", true, map[string]string{"8888/6": "e [c]", "30080/6": "e [c], host only"}},
		{"", false, map[string]string{"8888/6": "c e"}},
	} {
		in.Zone, in.NodePorts = c.zone, c.ports
		out = Compile(in, ids, out.Memory)
		if got := doorsOf(t, &out.State, "198.51.100.10/32"); !reflect.DeepEqual(got, c.want) {
			t.Errorf("zone %q, node ports %t: %q, want %q", c.zone, c.ports, got, c.want)
		}
	}
}

func TestAffinity(t *testing.T) {
	s := run(web(func(in *Input, lb *LoadBalancer) {
		in.NodePorts, lb.ExternalLocal, lb.Affinity = true, true, 10800
		lb.ExternalVIPs = addrsOf("203.0.113.200")
	})).State
	for _, n := range s.NextHops {
		if n.Type == table.NHComposite && n.Affinity != 10800 {
			t.Errorf("composite %d has affinity %d", n.ID, n.Affinity)
		}
	}
}

// What the kernel does: nothing while kube-proxy does it.
func TestOutside(t *testing.T) {
	change := func(in *Input, lb *LoadBalancer) {
		lb.VIPs, lb.ExternalVIPs, lb.HealthPort = addrsOf("198.51.100.10", "2001:db8:99::10"), addrsOf("203.0.113.200"), 32000
		lb.Listeners = append(lb.Listeners, Listener{Proto: 17, Port: 53, NodePort: 30053, Members: webMembers()[:2]})
		lb.Listeners = append(lb.Listeners, Listener{Proto: 17, Port: 54})
		lb.Listeners[0].Members[1].Draining = true
	}
	if out := run(web(change)); !reflect.DeepEqual(out.Outside, Outside{}) {
		t.Errorf("%+v", out.Outside)
	}
	v4, v6 := addr("198.51.100.10"), addr("2001:db8:99::10")
	for _, local := range []bool{false, true} {
		out := run(web(func(in *Input, lb *LoadBalancer) { change(in, lb); in.NodePorts, lb.ExternalLocal = true, local }))
		want := Outside{
			NodePorts: []NodePort{{17, 30053, v4, local}, {17, 30053, v6, local}, {6, 30080, v4, local}, {6, 30080, v6, local}},
			Externals: []External{{addr("203.0.113.200"), local}},
			Health:    []Health{{32000, "default", "web", 3}}, // a; b drains for one port only; d
		}
		if !reflect.DeepEqual(out.Outside, want) {
			t.Errorf("got  %+v\nwant %+v", out.Outside, want)
		}
	}
}

// A node port that is also a port of the service cannot be served, and is said.
func TestNodePortClash(t *testing.T) {
	out := run(web(func(in *Input, lb *LoadBalancer) {
		in.NodePorts = true
		lb.Listeners = append(lb.Listeners, Listener{Proto: 6, Port: 30080, Members: webMembers()[:1]})
	}))
	if got, want := doorsOf(t, &out.State, "198.51.100.10/32"), map[string]string{"8888/6": "a b c d", "30080/6": "a"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(out.Problems) != 1 || !strings.Contains(out.Problems[0], "default/web: node port 30080") || len(out.Outside.NodePorts) != 0 {
		t.Errorf("problems %v, node ports %v", out.Problems, out.Outside.NodePorts)
	}
}

// The label of a VIP leads to pods of this node, whatever the policies.
func TestLabelOfVIP(t *testing.T) {
	out := run(web(func(in *Input, lb *LoadBalancer) {
		in.NodePorts, lb.ExternalLocal, lb.ExternalVIPs = true, true, addrsOf("203.0.113.200")
	}))
	for _, vip := range []netip.Addr{addr("198.51.100.10"), addr("203.0.113.200")} {
		label := out.Announce.Routes[LocalRouteKey{"pods", single(vip)}].Label
		i := slices.IndexFunc(out.State.Labels, func(l table.LabelEntry) bool { return l.Label == label })
		if i < 0 || choice(t, &out.State, out.State.Labels[i].NH) != "a b" {
			t.Errorf("%v: %+v", vip, out.Announce.Routes)
		}
	}
}
