package compile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/table"
)

func prefixesOf(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, prefix(s))
	}
	return out
}

func addrsOf(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, addr(s))
	}
	return out
}

// manyNetworks is a node with a pod in the network with the host (pods), one in an
// isolated network (iso, which imports pods and is imported for replies), and
// two in translated ones with the same addresses (red, blue). The other node has a
// block of each.
func manyNetworks() *Input {
	in := node1()
	d := in.Networks[0]
	d.Subnets, d.ServiceSubnets = prefixesOf("192.0.0.0/16"), prefixesOf("198.51.100.0/24")
	d.Imports = []Import{{"iso", true}}
	own := func(name string, i ...Import) *Network {
		return &Network{
			Name: name, Subnets: prefixesOf("203.0.113.0/24"), ServiceSubnets: d.ServiceSubnets, Translated: true, Imports: i,
		}
	}
	in.Networks = []*Network{d,
		{Name: "iso", Subnets: d.Subnets, ServiceSubnets: d.ServiceSubnets, Imports: []Import{{"pods", false}}},
		own("red", Import{"pods", true}), own("blue", Import{"pods", true}),
	}
	in.Networks[3].NoOutside = true
	in.Host.Addrs = addrsOf("192.0.2.9")
	in.Blocks = []Block{{"pods", prefix("192.0.2.0/26"), 4}, {"iso", prefix("192.0.3.0/26"), 1}, {"red", prefix("203.0.113.0/26"), 1}, {"blue", prefix("203.0.113.0/26"), 1}}
	to := func(network, p string, label table.Label) *Route {
		return &Route{network, prefix(p), []Path{{"n2", addr("172.31.0.12"), label}}}
	}
	in.Routes = []*Route{to("pods", "192.0.2.64/26", 77), to("iso", "192.0.3.64/26", 78), to("red", "203.0.113.64/26", 79), to("blue", "203.0.113.64/26", 80)}
	in.LoadBalancers = nil
	red, blue := pod(3, "red", "203.0.113.1"), pod(4, "blue", "203.0.113.1")
	red.ClusterAddrs, blue.ClusterAddrs, blue.Hidden = addrsOf("192.0.2.30"), addrsOf("192.0.2.40"), true
	in.Pods = []Pod{pod(1, "pods", "192.0.2.1"), pod(2, "iso", "192.0.3.1"), red, blue}
	return in
}

// tablesOf writes the routes of each VRF as an operator would read them.
func tablesOf(t *testing.T, s *table.State) map[string]map[string]string {
	t.Helper()
	names := map[table.VRFID]string{}
	out := map[string]map[string]string{}
	for _, v := range s.VRFs {
		names[v.ID], out[v.Name] = v.Name, map[string]string{}
	}
	for _, r := range s.Routes {
		text := describe(t, s, r.NH, r.Label)
		if r.ReplyOnly {
			text += " (reply)"
		}
		if r.Translate {
			text += " (translate)"
		}
		out[names[r.VRF]][r.Prefix.String()] = text
	}
	return out
}

func wantTable(t *testing.T, name string, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s: %s leads to %q, want %q", name, p, got[p], w)
		}
	}
	for p := range got {
		if want[p] == "" {
			t.Errorf("%s: %s leads to %q, want nothing", name, p, got[p])
		}
	}
}

// Who reaches whom: routes of a network are where it is imported, as they are
// imported; a translated network's own addresses are nobody's business but its
// host's.
func TestNetworks(t *testing.T) {
	out := run(manyNetworks())
	if len(out.Problems) > 0 {
		t.Error(out.Problems)
	}
	got := tablesOf(t, &out.State)
	wantTable(t, "pods", got["pods"], map[string]string{
		"0.0.0.0/0": "host", "::/0": "host", "192.0.0.0/16": "discard", "198.51.100.0/24": "discard", "192.0.2.0/26": "discard",
		"192.0.2.1/32": "encap tap1", "192.0.2.9/32": "host", "192.0.2.64/26": "tunnel 172.31.0.12 label 77",
		"192.0.3.1/32": "encap tap2 (reply)", "192.0.3.64/26": "tunnel 172.31.0.12 label 78 (reply)",
		"192.0.2.30/32": "encap tap3 (reply)", "192.0.2.40/32": "encap tap4 (reply)",
		"203.0.113.1/32": "encap tap3 (reply)", // tap4 is hidden
	})
	wantTable(t, "iso", got["iso"], map[string]string{
		"0.0.0.0/0": "host", "::/0": "host", "192.0.0.0/16": "discard", "198.51.100.0/24": "discard", "192.0.3.0/26": "discard",
		"192.0.3.1/32": "encap tap2", "192.0.3.64/26": "tunnel 172.31.0.12 label 78",
		"192.0.2.1/32": "encap tap1", "192.0.2.9/32": "host", "192.0.2.64/26": "tunnel 172.31.0.12 label 77",
		"192.0.2.30/32": "encap tap3 (reply)", "192.0.2.40/32": "encap tap4 (reply)",
	})
	translated := func(tap, label, outward string) map[string]string {
		return map[string]string{
			"0.0.0.0/0": outward, "::/0": outward, "203.0.113.0/24": "discard", "203.0.113.0/26": "discard",
			"192.0.0.0/16": "discard", "198.51.100.0/24": "discard",
			"203.0.113.1/32": "encap " + tap, "203.0.113.64/26": "tunnel 172.31.0.12 label " + label,
			"192.0.2.1/32": "encap tap1 (reply)", "192.0.2.9/32": "host (reply)", "192.0.2.64/26": "tunnel 172.31.0.12 label 77 (reply)",
			"192.0.2.30/32": "encap tap3 (reply)", "192.0.2.40/32": "encap tap4 (reply)",
		}
	}
	wantTable(t, "red", got["red"], translated("tap3", "79", "host (translate)"))
	wantTable(t, "blue", got["blue"], translated("tap4", "80", "host (reply) (translate)"))
	for _, v := range out.State.Vifs {
		want := map[string][]netip.Addr{"tap3": addrsOf("192.0.2.30"), "tap4": addrsOf("192.0.2.40")}[v.Name]
		if !slices.Equal(v.ClusterAddrs, want) {
			t.Errorf("%s has cluster addresses %v, want %v", v.Name, v.ClusterAddrs, want)
		}
	}
}

// Blocks are announced with the label of their own network's VRF; pods with all
// their addresses.
func TestAnnouncementOfNetworks(t *testing.T) {
	out := run(manyNetworks())
	labels := map[table.Label]string{}
	for _, l := range out.State.Labels {
		if nh := nextHop(t, &out.State, l.NH); nh.Type == table.NHVRFTranslate {
			for _, v := range out.State.VRFs {
				if v.ID == nh.VRF {
					labels[l.Label] = v.Name
				}
			}
		}
	}
	if len(out.Announce.Routes) != 4 {
		t.Errorf("routes %v", out.Announce.Routes)
	}
	for k, r := range out.Announce.Routes {
		if labels[r.Label] != k.Network {
			t.Errorf("%v is announced with the label of %q", k, labels[r.Label])
		}
	}
	if got := out.Announce.VMIs["vmi4"]; !slices.Equal(got.Addrs, addrsOf("203.0.113.1")) || !slices.Equal(got.ClusterAddrs, addrsOf("192.0.2.40")) {
		t.Errorf("%+v", got)
	}
}

// An import that would lead a translated network's own addresses elsewhere is
// none.
func TestOwnAddressesWin(t *testing.T) {
	in := manyNetworks()
	in.Networks[2].Subnets = prefixesOf("192.0.2.0/24")
	in.Pods[2].Addrs = addrsOf("192.0.2.1")
	got := tablesOf(t, &run(in).State)
	for p, want := range map[string]string{
		"192.0.2.1/32": "encap tap3", "192.0.2.64/26": "", "192.0.2.9/32": "", "192.0.2.0/24": "discard", "192.0.0.0/16": "discard",
	} {
		if got["red"][p] != want {
			t.Errorf("red: %s leads to %q, want %q", p, got["red"][p], want)
		}
	}
	if got["pods"]["192.0.2.1/32"] != "encap tap1" {
		t.Errorf("the host's network lost its own pod: %q", got["pods"]["192.0.2.1/32"])
	}
}

// The host has a way to every VIP; others have those they may use, and leave a
// translated network with a cluster address unless the service is at home there.
func TestVisibility(t *testing.T) {
	cases := []struct {
		name, home string
		networks   []string
		want       map[string]string
	}{
		{"of the host's network", "pods", []string{"iso", "pods"}, map[string]string{"pods": "", "iso": ""}},
		{"of an isolated one", "iso", []string{"iso"}, map[string]string{"pods": " (reply)", "iso": ""}},
		{"of a translated one", "red", []string{"red"}, map[string]string{"pods": " (reply)", "red": ""}},
		{"shared", "pods", []string{"blue", "elsewhere", "iso", "pods", "red"}, map[string]string{
			"pods": "", "iso": "", "red": " (translate)", "blue": " (translate)",
		}},
		{"of nobody here", "elsewhere", []string{"elsewhere"}, map[string]string{"pods": " (reply)"}},
	}
	for _, c := range cases {
		in := manyNetworks()
		in.LoadBalancers = []*LoadBalancer{{
			UUID: "lb", Networks: c.networks, Home: c.home, VIPs: addrsOf("198.51.100.10"), ExternalVIPs: addrsOf("203.0.113.200"),
			Listeners: []Listener{{Proto: 6, Port: 80}},
		}}
		tables := tablesOf(t, &run(in).State)
		for _, vip := range []string{"198.51.100.10/32", "203.0.113.200/32"} {
			got := map[string]string{}
			for vrf, routes := range tables {
				if routes[vip] != "" {
					got[vrf] = strings.TrimPrefix(routes[vip], "composite 80/6 []")
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: %s is in %q, want %q", c.name, vip, got, c.want)
			}
		}
	}
}

// A VIP with backends here is announced in the network they are in.
func TestVIPsAreAnnouncedAtHome(t *testing.T) {
	in := manyNetworks()
	in.LoadBalancers = []*LoadBalancer{{
		UUID: "lb", Networks: []string{"blue", "iso", "pods", "red"}, Home: "red", VIPs: addrsOf("198.51.100.10"), ExternalVIPs: addrsOf("203.0.113.200"),
		Listeners: []Listener{{Proto: 6, Port: 80, Members: []Member{{
			UUID: "m", VMI: "vmi3", Node: "n1", Tunnel: addr("172.31.0.11"), Label: 20, Address: addr("203.0.113.1"), Port: 80,
		}}}},
	}}
	out := run(in)
	for _, vip := range []string{"198.51.100.10/32", "203.0.113.200/32"} {
		if r := out.Announce.Routes[LocalRouteKey{"red", prefix(vip)}]; r.Label == 0 || !slices.Equal(r.VMIs, []string{"vmi3"}) {
			t.Errorf("%s: %+v", vip, out.Announce.Routes)
		}
	}
}

// Pods of a network that the controller has not said keep their VRF.
func TestUnknownNetwork(t *testing.T) {
	in := manyNetworks()
	in.Networks = in.Networks[:1]
	got := tablesOf(t, &run(in).State)
	for vrf, want := range map[string]string{"iso": "192.0.3.1/32 encap tap2", "red": "203.0.113.1/32 encap tap3"} {
		p, to, _ := strings.Cut(want, " ")
		if got[vrf][p] != to {
			t.Errorf("%s: %s leads to %q", vrf, p, got[vrf][p])
		}
	}
	in.Networks = nil
	if s := run(in).State; len(s.VRFs) != 4 {
		t.Error(fmt.Sprint(s.VRFs))
	}
}
