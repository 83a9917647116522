package state

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

func addrsOf(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// tenant is a translated network; all of them have the same addresses.
func tenant(name string) *southbound.Resource {
	return southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, name, &southbound.VirtualNetwork{
		Name: name, Subnets: []string{"203.0.113.0/24"}, ServiceSubnets: []string{"198.51.100.0/24"}, Translated: true,
		Imports: []*southbound.Import{{VirtualNetwork: network, ReplyOnly: true}},
	})
}

func blockOf(vn, prefix string) *southbound.Resource {
	return southbound.NewResource(southbound.Type_TYPE_BLOCK, vn+"/"+prefix, &southbound.Block{VirtualNetwork: vn, Prefix: prefix})
}

func in(vn string) func(*southbound.VMI) {
	return func(v *southbound.VMI) { v.VirtualNetwork = vn }
}

// withTenants is a node on which pods 1 and 2 are expected in red, 3 in blue, and
// others in the network with the host.
func withTenants(t *testing.T) *Node {
	t.Helper()
	n := ready(t)
	say(t, n, tenant("red"), tenant("blue"), blockOf("red", "203.0.113.0/26"), blockOf("blue", "203.0.113.0/26"),
		podVMI(1, in("red")), podVMI(2, in("red")), podVMI(3, in("blue")))
	return n
}

func say(t *testing.T, n *Node, list ...*southbound.Resource) {
	t.Helper()
	if nacks := n.Apply(&southbound.ToAgent{Upserts: list}, epoch); len(nacks) > 0 {
		t.Fatal(nacks)
	}
}

func used(n *Node, vn string) (sum int) {
	for _, b := range n.Blocks() {
		if b.Network == vn {
			sum += b.Used
		}
	}
	return sum
}

// A pod in a translated network has an address of the hosts' network besides, of
// the families it has; both go, and come back after a restart, together.
func TestClusterAddresses(t *testing.T) {
	n := withTenants(t)
	before := used(n, network)
	i := attach(t, n, 1, "c1")
	if !slices.Equal(i.Addrs, addrsOf("203.0.113.1")) || !slices.Equal(i.PodIPs, i.Addrs) || used(n, network) != before+1 {
		t.Errorf("%+v, %d used", i, used(n, network))
	}
	_ = n.Bind(key("c1"), 10)
	pods := n.Input().Pods
	if len(pods) != 1 || !slices.Equal(pods[0].ClusterAddrs, addrsOf("192.0.2.2")) || pods[0].Hidden || !slices.Equal(n.VMIs()[0].ClusterAddrs, pods[0].ClusterAddrs) {
		t.Errorf("%+v", pods)
	}
	var m memory
	m.commit(n.TakeChange())
	n = fresh(t, &m.Contents, epoch.Add(time.Hour))
	n.Adopt(map[string]int{i.Tap: 10}, epoch.Add(time.Hour))
	if again := n.Input().Pods; !reflect.DeepEqual(again, pods) || used(n, network) != before+1 {
		t.Errorf("got  %+v\nwant %+v; %d used", again, pods, used(n, network))
	}
	if other := attach(t, n, 9, "c9"); slices.Contains(other.Addrs, pods[0].ClusterAddrs[0]) {
		t.Error("a cluster address was given away")
	}
	n.Detach(key("c9"), epoch)
	n.Detach(key("c1"), epoch)
	if used(n, network) != before || used(n, "red") != 0 {
		t.Errorf("%d and %d addresses are still in use", used(n, network), used(n, "red"))
	}
}

// All addresses or none, and the refusal names the network that has none left.
func TestClusterAddressesAreAllOrNone(t *testing.T) {
	n := fresh(t, &record.Contents{}, epoch)
	say(t, n, tenant("red"), blockOf("red", "203.0.113.0/26"), podVMI(1, in("red")))
	for _, step := range []struct {
		say  *southbound.Resource
		want string
	}{
		{nil, "network of the hosts"},
		{networkResource(), "no IPv4 block of network " + network},
		{block("192.0.2.0/31"), "all IPv4 addresses of network " + network}, // the host has it
		{block("192.0.2.64/26"), ""},
	} {
		if step.say != nil {
			say(t, n, step.say)
		}
		_, refusal := n.Attach(ask(1, "c1"), epoch)
		if step.want == "" && refusal != nil || step.want != "" && (refusal == nil || refusal.Code != rpc.CodeTryAgain || !strings.Contains(refusal.Message, step.want)) {
			t.Errorf("%v, want %q", refusal, step.want)
		}
		if got := used(n, "red"); step.want != "" && got != 0 {
			t.Errorf("%d addresses of a refused pod are in use", got)
		}
	}
}

// A pod is given an address by which the host reaches it, as long as there is one.
func TestAddressesThatAreNobodysElse(t *testing.T) {
	n := ready(t)
	say(t, n, tenant("red"), tenant("blue"), blockOf("red", "203.0.113.0/31"), blockOf("blue", "203.0.113.0/30"),
		podVMI(1, in("red")), podVMI(2, in("blue")), podVMI(3, in("blue")), podVMI(4, in("blue")))
	first := attach(t, n, 1, "c1")
	for i := 2; i < 4; i++ {
		if got := attach(t, n, i, fmt.Sprint("c", i)); slices.Equal(got.Addrs, first.Addrs) || !slices.Equal(got.PodIPs, got.Addrs) {
			t.Errorf("%+v", got)
		}
	}
	if last := attach(t, n, 4, "c4"); !slices.Equal(last.Addrs, first.Addrs) || slices.Equal(last.PodIPs, last.Addrs) {
		t.Errorf("%+v", last)
	}
	for i := 2; i < 5; i++ {
		n.Detach(key(fmt.Sprint("c", i)), epoch)
	}
	if got := used(n, "blue"); got != 0 {
		t.Errorf("%d addresses are still in use", got)
	}
}

// Of two pods with one address the host reaches the first by it; the other is
// known by its cluster address, as long as it lives.
func TestSharedAddress(t *testing.T) {
	n := withTenants(t)
	say(t, n, podVMI(3, in("blue"), func(v *southbound.VMI) { v.FixedAddresses = []string{"203.0.113.1"} }))
	first, second := attach(t, n, 1, "c1"), attach(t, n, 3, "c3")
	if !slices.Equal(first.Addrs, second.Addrs) || !slices.Equal(first.PodIPs, first.Addrs) {
		t.Fatalf("%+v, %+v", first, second)
	}
	if !slices.Equal(second.PodIPs, n.attachments[key("c3")].ClusterAddrs) {
		t.Errorf("%+v", second)
	}
	if got := n.Facing(); !slices.Equal(got, first.Addrs) {
		t.Errorf("facing %v", got)
	}
	var m memory
	m.commit(n.TakeChange())
	n = fresh(t, &m.Contents, epoch) // two owners in different networks are no fault
	n.Detach(key("c1"), epoch)
	if again, _, _ := n.Find(key("c3")); !slices.Equal(again.PodIPs, second.PodIPs) || len(n.Facing()) != 0 {
		t.Errorf("%+v, facing %v", again, n.Facing())
	}
	now := epoch.Add(time.Hour)
	say(t, n, podVMI(4, in("red"), func(v *southbound.VMI) { v.FixedAddresses = []string{first.Addrs[0].String()} }))
	if i, refusal := n.Attach(ask(4, "c4"), now); refusal != nil || !slices.Equal(i.PodIPs, first.Addrs) {
		t.Errorf("%+v %v", i, refusal)
	}
	say(t, n, southbound.NewResource(southbound.Type_TYPE_NODE, "n2", &southbound.Node{Name: "n2", TunnelAddress: "203.0.113.50"}),
		podVMI(5, in("red"), func(v *southbound.VMI) { v.FixedAddresses = []string{"203.0.113.50"} }))
	if i := attach(t, n, 5, "c5"); slices.Equal(i.PodIPs, i.Addrs) {
		t.Errorf("the address of another node was said to lead to a pod: %+v", i)
	}
}

// The host has routes to what means the same everywhere; of a tenant's subnets it
// knows the pods here alone.
func TestSubnets(t *testing.T) {
	n := withTenants(t)
	pods, services := n.Subnets()
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}
	if !slices.Equal(pods, want) || len(services) != 1 {
		t.Errorf("%v, %v", pods, services)
	}
}

// What a pod is refused for is said as the controller says it; ADD may wait for
// it to change.
func TestRefusal(t *testing.T) {
	n := ready(t)
	const sentence = "Pod default/pod-1: VirtualNetwork default/red does not exist"
	say(t, n, podVMI(1, in(""), func(v *southbound.VMI) { v.Refusal = sentence }))
	_, refusal := n.Attach(ask(1, "c1"), epoch)
	if refusal == nil || refusal.Code != rpc.CodeTryAgain || refusal.Message != sentence {
		t.Errorf("%v", refusal)
	}
	if v := n.VMIs()[0]; v.State != stateRefused || v.Refusal != sentence {
		t.Errorf("%+v", v)
	}
	say(t, n, podVMI(1))
	attach(t, n, 1, "c1")
	say(t, n, podVMI(1, in(""), func(v *southbound.VMI) { v.Refusal = sentence }))
	if p := n.Input().Pods[0]; p.Network != network || len(p.Addrs) != 2 {
		t.Errorf("a pod that is attached was moved: %+v", p)
	}
	if !n.Expects("default", "pod-2") || n.Expects("default", "nobody") {
		t.Error("expects: want true, false")
	}
}

// An address that a pod has asked for is for nobody else.
func TestFixedAddressIsKept(t *testing.T) {
	n := ready(t)
	say(t, n, blockOf("red", "203.0.113.8/30"), tenant("red"), podVMI(2, in("red")), podVMI(3, in("red")), podVMI(4, in("red")),
		podVMI(1, in("red"), func(v *southbound.VMI) { v.FixedAddresses = []string{"203.0.113.10"} }))
	for i := 2; i < 4; i++ {
		if got := attach(t, n, i, fmt.Sprint("c", i)); got.Addrs[0] == netip.MustParseAddr("203.0.113.10") {
			t.Error("given away")
		}
	}
	if _, refusal := n.Attach(ask(4, "c4"), epoch); refusal == nil {
		t.Error("there was one too many")
	}
	if got := attach(t, n, 1, "c1"); got.Addrs[0] != netip.MustParseAddr("203.0.113.10") {
		t.Errorf("%+v", got)
	}
	host, _ := n.Host()
	say(t, n, podVMI(5, func(v *southbound.VMI) { v.FixedAddresses = []string{host[0].String()} }))
	if _, refusal := n.Attach(ask(5, "c5"), epoch); refusal == nil || !strings.Contains(refusal.Message, "the host's interface") {
		t.Errorf("%v", refusal)
	}
}

// One tenant that has no addresses left is no fault of the node.
func TestExhausted(t *testing.T) {
	n := ready(t)
	say(t, n, tenant("red"), tenant("blue"), podVMI(1, in("red")))
	host, others := n.Exhausted()
	if len(host) != 0 || len(others) != 1 || !strings.Contains(others[0], "network red") {
		t.Errorf("%q, %q", host, others)
	}
	n.Apply(removal(southbound.Type_TYPE_BLOCK, network+"/192.0.2.0/26"), epoch)
	if host, _ = n.Exhausted(); len(host) != 1 {
		t.Errorf("%q", host)
	}
}

func TestNodeConfig(t *testing.T) {
	n := ready(t)
	say(t, n, southbound.NewResource(southbound.Type_TYPE_NODE_CONFIG, "n1", &southbound.NodeConfig{Zone: "z1"}))
	if got := n.Input().Zone; got != "z1" {
		t.Errorf("zone %q", got)
	}
	n.Apply(removal(southbound.Type_TYPE_NODE_CONFIG, "n1"), epoch)
	if got := n.Input().Zone; got != "" {
		t.Errorf("zone %q", got)
	}
}

func TestBalancer(t *testing.T) {
	n := ready(t)
	say(t, n, balancer(func(lb *southbound.LoadBalancer) {
		lb.VirtualNetworks, lb.Home, lb.Namespace, lb.Service = []string{"z", "a"}, "z", "default", "web"
		lb.ExternalVips, lb.AffinitySeconds, lb.InternalLocal, lb.ExternalLocal, lb.HealthCheckPort = []string{"203.0.113.200"}, 60, true, true, 32000
		lb.Listeners[0].NodePort = 30080
		lb.Listeners[0].Members[0].HintZones, lb.Listeners[0].Members[0].HintNodes = []string{"z1"}, []string{"n1"}
	}))
	member := compile.Member{
		UUID: "m", Name: "default/pod-1", VMI: uuid(1), Node: "n1", Tunnel: netip.MustParseAddr("172.31.0.11"), Label: 20,
		Address: netip.MustParseAddr("192.0.2.2"), Port: 80, HintZones: []string{"z1"}, HintNodes: []string{"n1"},
	}
	want := &compile.LoadBalancer{
		UUID: "lb", Namespace: "default", Service: "web", Networks: []string{"a", "z"}, Home: "z", Affinity: 60,
		VIPs: addrsOf("198.51.100.10"), InternalLocal: true, ExternalVIPs: addrsOf("203.0.113.200"), ExternalLocal: true, HealthPort: 32000,
		Listeners: []compile.Listener{{Proto: 6, Port: 8888, NodePort: 30080, Members: []compile.Member{member}}},
	}
	if got := n.Input().LoadBalancers; len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
}

// Another controller takes over. It says what it knows and we do not, and removes
// what it does not know. If it knows the same, nothing happens; if it knows less,
// for it has just begun, pods that are here lose nothing, and what it learns later
// is as before.
func TestAnotherController(t *testing.T) {
	n := withTenants(t)
	for i, c := range []string{"c1", "c2", "c3", "c9"} {
		attach(t, n, []int{1, 2, 3, 9}[i], c)
		_ = n.Bind(key(c), 10+i)
	}
	before := compile.Compile(input(n), n.IDs(), nil)
	var m memory
	m.commit(n.TakeChange())
	held := n.Have()
	for _, old := range []string{"before", "after"} {
		gone := &southbound.ToAgent{}
		for _, h := range n.Have() {
			gone.Removes = append(gone.Removes, &southbound.ResourceName{Type: h.GetType(), Name: h.GetName()})
		}
		n.Apply(gone, epoch)
		m.commit(n.TakeChange())
		if len(n.Have()) != 0 {
			t.Errorf("%s a restart: %v is said to be held", old, n.Have())
		}
		now := compile.Compile(input(n), n.IDs(), before.Memory)
		if d := compile.Diff(&before.State, &now.State); !compile.IsEmpty(&d) {
			t.Errorf("%s a restart: pods noticed: %+v", old, d)
		}
		if !reflect.DeepEqual(now.Announce.Routes, before.Announce.Routes) || !reflect.DeepEqual(now.Announce.Blocks, before.Announce.Blocks) {
			t.Errorf("%s a restart: %v %v", old, now.Announce.Routes, now.Announce.Blocks)
		}
		if _, refusal := n.Attach(ask(4, "c4"), epoch); refusal == nil {
			t.Errorf("%s a restart: a new pod was attached to what the controller does not know", old)
		}
		taps := map[string]int{}
		for _, a := range n.attachments {
			taps[a.Tap] = a.ifindex
		}
		n = fresh(t, &m.Contents, epoch.Add(time.Hour))
		n.Adopt(taps, epoch)
	}
	again := withTenants(t)
	var all []*southbound.Resource
	for k, r := range again.known {
		all = append(all, &southbound.Resource{Type: southbound.Type(k.Type), Name: k.Name, Version: r.Version, Body: r.Body})
	}
	say(t, n, all...)
	if len(n.Have()) != len(held) || len(n.orphans) != 0 {
		t.Errorf("%d held, %d before; %d orphans", len(n.Have()), len(held), len(n.orphans))
	}
	now := compile.Compile(input(n), n.IDs(), before.Memory)
	if d := compile.Diff(&before.State, &now.State); !compile.IsEmpty(&d) || !reflect.DeepEqual(now.Announce, before.Announce) {
		t.Errorf("%+v", d)
	}
	if b := n.Blocks(); b[0].Used != 1 || b[0].Free == 0 {
		t.Errorf("%+v", b)
	}
}

// Orphans end with the last pod that needs them.
func TestOrphansEnd(t *testing.T) {
	n := withTenants(t)
	attach(t, n, 1, "c1")
	n.Apply(removal(southbound.Type_TYPE_VIRTUAL_NETWORK, "red"), epoch)
	n.Apply(removal(southbound.Type_TYPE_BLOCK, "red/203.0.113.0/26"), epoch)
	n.Apply(removal(southbound.Type_TYPE_VMI, uuid(1)), epoch)
	if len(n.orphans) != 3 {
		t.Fatalf("orphans %v", n.orphans)
	}
	if _, refusal := n.Attach(ask(2, "c2"), epoch); refusal == nil || !strings.Contains(refusal.Message, "network red of pod default/pod-2 has not come") {
		t.Errorf("%v", refusal)
	}
	n.Detach(key("c1"), epoch)
	if n.config.networks["red"] != nil || len(n.orphans) != 0 || used(n, "red") != 0 {
		t.Errorf("orphans %v", n.orphans)
	}
	for _, b := range n.Blocks() {
		if b.Network == "red" {
			t.Errorf("%+v", b)
		}
	}
}
