package state

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

var epoch = time.Unix(1_000_000, 0)

const network = "k8s-default-pod-network"

func uuid(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func networkResource() *southbound.Resource {
	return southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, network, &southbound.VirtualNetwork{
		Name: network, Subnets: []string{"192.0.2.0/24", "2001:db8:1::/64"}, ServiceSubnets: []string{"198.51.100.0/24"}, Host: true,
	})
}

func block(prefix string) *southbound.Resource {
	return southbound.NewResource(southbound.Type_TYPE_BLOCK, network+"/"+prefix, &southbound.Block{VirtualNetwork: network, Prefix: prefix})
}

func podVMI(n int, change ...func(*southbound.VMI)) *southbound.Resource {
	v := &southbound.VMI{
		Uuid: uuid(n), Name: "pod", VirtualNetwork: network, Namespace: "default", Pod: fmt.Sprintf("pod-%d", n), PodUid: fmt.Sprintf("uid-%d", n),
		PortMaps: []*southbound.PortMap{{Vip: "198.51.100.10", Protocol: 6, Port: 8888, Target: 80}},
	}
	for _, f := range change {
		f(v)
	}
	return southbound.NewResource(southbound.Type_TYPE_VMI, v.Uuid, v)
}

func removal(kind southbound.Type, name string) *southbound.ToAgent {
	return &southbound.ToAgent{Removes: []*southbound.ResourceName{{Type: kind, Name: name}}}
}

// memory is a ledger without a disk.
type memory struct{ record.Contents }

func (m *memory) commit(c record.Change) {
	m.Attachments = slices.DeleteFunc(m.Attachments, func(a record.Attachment) bool { _, hit := c.Attachments[a.Key()]; return hit })
	for _, a := range c.Attachments {
		if a != nil {
			m.Attachments = append(m.Attachments, *a)
		}
	}
	m.Hosts = slices.DeleteFunc(m.Hosts, func(h record.Host) bool { _, hit := c.Hosts[h.VN]; return hit })
	for _, h := range c.Hosts {
		if h != nil {
			m.Hosts = append(m.Hosts, *h)
		}
	}
	m.IDs = slices.DeleteFunc(m.IDs, func(i record.ID) bool { _, hit := c.IDs[i.IDKey]; return hit })
	for k, n := range c.IDs {
		if n != 0 {
			m.IDs = append(m.IDs, record.ID{IDKey: k, Number: n})
		}
	}
	m.Resources = slices.DeleteFunc(m.Resources, func(r record.Resource) bool { _, hit := c.Resources[r.ResourceKey]; return hit })
	for _, r := range c.Resources {
		if r != nil {
			m.Resources = append(m.Resources, *r)
		}
	}
	m.sort()
}

func (m *memory) sort() {
	slices.SortFunc(m.Attachments, func(a, b record.Attachment) int { return strings.Compare(a.Key().String(), b.Key().String()) })
	slices.SortFunc(m.IDs, func(a, b record.ID) int { return strings.Compare(a.Space+"/"+a.Key, b.Space+"/"+b.Key) })
	slices.SortFunc(m.Resources, func(a, b record.Resource) int {
		return strings.Compare(fmt.Sprint(a.Type, a.Name), fmt.Sprint(b.Type, b.Name))
	})
}

func fresh(t *testing.T, stored *record.Contents, now time.Time) *Node {
	t.Helper()
	n, forgotten, err := New("n1", 1468, stored, now)
	if err != nil || len(forgotten) > 0 {
		t.Fatal(err, forgotten)
	}
	return n
}

// ready is a node that can attach pods 1 to 9.
func ready(t *testing.T) *Node {
	t.Helper()
	n := fresh(t, &record.Contents{}, epoch)
	m := &southbound.ToAgent{Upserts: []*southbound.Resource{networkResource(), block("192.0.2.0/26"), block("2001:db8:1::/122")}}
	for i := 1; i < 10; i++ {
		m.Upserts = append(m.Upserts, podVMI(i))
	}
	if nacks := n.Apply(m, epoch); len(nacks) > 0 {
		t.Fatal(nacks)
	}
	return n
}

func ask(n int, container string) *rpc.Attach {
	return &rpc.Attach{
		Attachment: rpc.Attachment{ContainerID: container, Ifname: "eth0", Network: "vrouter"},
		Netns:      "/run/netns/" + container, Namespace: "default", Pod: fmt.Sprintf("pod-%d", n), PodUID: fmt.Sprintf("uid-%d", n),
	}
}

func attach(t *testing.T, n *Node, pod int, container string) *rpc.Interface {
	t.Helper()
	i, refusal := n.Attach(ask(pod, container), epoch)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return i
}

func key(container string) record.AttachmentKey {
	return record.AttachmentKey{ContainerID: container, Ifname: "eth0"}
}

func TestAttach(t *testing.T) {
	n := ready(t)
	i := attach(t, n, 1, "c1")
	want := &rpc.Interface{
		Tap: "tap" + uuid(1)[:11], MAC: i.MAC, MTU: 1468, VMI: uuid(1), Network: network,
		Addrs:    []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:1::2")}, // .1 is the host's
		Gateways: []netip.Addr{gateway4, gateway6},
		Routes:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	}
	want.PodIPs = want.Addrs
	if !reflect.DeepEqual(i, want) || i.MAC[0]&3 != 2 {
		t.Errorf("got  %+v\nwant %+v", i, want)
	}
	if again := attach(t, n, 1, "c1"); !reflect.DeepEqual(again, i) {
		t.Errorf("again: %+v", again)
	}
	other := ask(1, "c1")
	other.Netns = "/run/netns/other"
	if _, refusal := n.Attach(other, epoch); refusal == nil || refusal.Code != rpc.CodeConflict {
		t.Errorf("another namespace: %v", refusal)
	}
	bad := ask(1, "c/1")
	if _, refusal := n.Attach(bad, epoch); refusal == nil || refusal.Code != rpc.CodeInvalidConfig {
		t.Errorf("a bad container: %v", refusal)
	}
}

// Every stage that is missing is named, and all of them may be waited for.
func TestAttachWaitsFor(t *testing.T) {
	n := fresh(t, &record.Contents{}, epoch)
	steps := []struct {
		say  *southbound.ToAgent
		want string
	}{
		{nil, "no interface for pod default/pod-1"},
		{&southbound.ToAgent{Upserts: []*southbound.Resource{podVMI(1, func(v *southbound.VMI) { v.PodUid = "old" })}}, "older pod default/pod-1 (uid old, wanted uid-1)"},
		{&southbound.ToAgent{Upserts: []*southbound.Resource{podVMI(1)}}, "network " + network + " of pod"},
		{&southbound.ToAgent{Upserts: []*southbound.Resource{networkResource()}}, "no IPv4 block"},
		{&southbound.ToAgent{Upserts: []*southbound.Resource{block("192.0.2.0/31")}}, "all IPv4 addresses"}, // one, which the host takes
		{&southbound.ToAgent{Upserts: []*southbound.Resource{block("192.0.2.64/26")}}, "no IPv6 block"},
		{&southbound.ToAgent{Upserts: []*southbound.Resource{block("2001:db8:1::/122")}}, ""},
	}
	for i, s := range steps {
		if s.say != nil {
			if nacks := n.Apply(s.say, epoch); len(nacks) > 0 {
				t.Fatal(nacks)
			}
		}
		_, refusal := n.Attach(ask(1, "c1"), epoch)
		switch {
		case s.want == "" && refusal == nil:
		case s.want == "" || refusal == nil || refusal.Code != rpc.CodeTryAgain || !strings.Contains(refusal.Message, s.want):
			t.Errorf("step %d: %v, want %q", i, refusal, s.want)
		}
	}
	if used := n.Blocks(); used[0].Used != 1 || used[1].Used != 1 {
		t.Errorf("refusals left addresses in use: %+v", used)
	}
}

// A new sandbox of a pod gets its own interface; the old one keeps its own until
// it is deleted, and the VMI's label stays.
func TestSecondSandbox(t *testing.T) {
	n := ready(t)
	first := attach(t, n, 1, "c1")
	_ = n.Bind(key("c1"), 10)
	label := n.VMIs()[0].Label
	second, refusal := n.Attach(ask(1, "c2"), epoch.Add(time.Second))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if first.Tap == second.Tap || first.Addrs[0] == second.Addrs[0] || first.VMI != second.VMI {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if n.current(uuid(1)).ContainerID != "c1" {
		t.Error("a sandbox that is not there yet took over")
	}
	_ = n.Bind(key("c2"), 11)
	if n.current(uuid(1)).ContainerID != "c2" {
		t.Error("the new sandbox did not take over")
	}
	if !n.Detach(key("c1"), epoch) || n.Detach(key("c1"), epoch) {
		t.Error("detach: want true, then false")
	}
	for _, v := range n.VMIs() {
		if v.UUID == uuid(1) && v.Label != label {
			t.Errorf("label %d became %d", label, v.Label)
		}
	}
}

// A VMI that the controller removes goes on until the pod is deleted, also
// after a restart.
func TestOrphan(t *testing.T) {
	n := ready(t)
	attach(t, n, 1, "c1")
	_ = n.Bind(key("c1"), 10)
	var m memory
	m.commit(n.TakeChange())
	n.Apply(removal(southbound.Type_TYPE_VMI, uuid(1)), epoch)
	n.Apply(removal(southbound.Type_TYPE_VMI, uuid(2)), epoch) // not attached: gone at once
	m.commit(n.TakeChange())
	for _, when := range []string{"before", "after"} {
		in := n.Input()
		if len(in.Pods) != 1 || len(in.Pods[0].PortMaps) != 1 || in.Pods[0].Version != "" || !in.Pods[0].Current {
			t.Fatalf("%s a restart: %+v", when, in.Pods)
		}
		for _, h := range n.Have() {
			if h.GetName() == uuid(1) || h.GetName() == uuid(2) {
				t.Errorf("%s a restart: %s is said to be held", when, h.GetName())
			}
		}
		if v := n.VMIs()[0]; v.State != stateOrphan || v.UUID != uuid(1) {
			t.Errorf("%s a restart: %+v", when, v)
		}
		if _, refusal := n.Attach(ask(1, "c9"), epoch); refusal == nil {
			t.Errorf("%s a restart: a new sandbox of an orphan was accepted", when)
		}
		n = fresh(t, &m.Contents, epoch.Add(time.Hour))
		n.Adopt(map[string]int{"tap" + uuid(1)[:11]: 10}, epoch.Add(time.Hour))
	}
	n.Detach(key("c1"), epoch)
	m.commit(n.TakeChange())
	if slices.ContainsFunc(m.Resources, func(r record.Resource) bool { return r.Name == uuid(1) }) {
		t.Error("the orphan outlived its pod")
	}
	n = ready(t)
	attach(t, n, 1, "c1")
	n.Apply(removal(southbound.Type_TYPE_VMI, uuid(1)), epoch)
	n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{podVMI(1)}}, epoch)
	if n.Input().Pods[0].Version == "" {
		t.Error("a VMI that came back is still an orphan")
	}
}

// After a restart everything is as it was; pods whose tap is gone are released.
func TestRestart(t *testing.T) {
	n := ready(t)
	var m memory
	var want []*rpc.Interface
	taps := map[string]int{}
	for i := 1; i < 6; i++ {
		c := fmt.Sprint("c", i)
		iface := attach(t, n, i, c)
		_ = n.Bind(key(c), 100+i)
		want = append(want, iface)
		taps[iface.Tap] = 100 + i
	}
	before := compile.Compile(input(n), n.IDs(), nil)
	m.commit(n.TakeChange())

	again := fresh(t, &m.Contents, epoch.Add(time.Hour))
	if adopted, released := again.Adopt(taps, epoch); adopted != 5 || len(released) > 0 {
		t.Fatalf("adopted %d, released %v", adopted, released)
	}
	for i, w := range want {
		if got, _, _ := again.Find(key(fmt.Sprint("c", i+1))); !reflect.DeepEqual(got, w) {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
	}
	after := compile.Compile(input(again), again.IDs(), compile.Recall(&before.State))
	if d := compile.Diff(&before.State, &after.State); !compile.IsEmpty(&d) {
		t.Errorf("other tables after a restart: %+v", d)
	}
	if c := again.TakeChange(); !c.Empty() {
		t.Errorf("a restart wants to write %+v", c)
	}

	delete(taps, want[2].Tap)
	third := fresh(t, &m.Contents, epoch.Add(time.Hour))
	if adopted, released := third.Adopt(taps, epoch.Add(time.Hour)); adopted != 4 || !slices.Equal(released, []record.AttachmentKey{key("c3")}) {
		t.Errorf("adopted %d, released %v", adopted, released)
	}
	if i, refusal := third.Attach(ask(3, "c33"), epoch.Add(time.Hour)); refusal != nil || i.Addrs[0] == want[2].Addrs[0] {
		t.Errorf("the address of a released pod was given away at once: %v %v", i, refusal)
	}
}

func input(n *Node) *compile.Input {
	in := n.Input()
	in.Fabric = compile.Fabric{Name: "eth0", Ifindex: 2, MTU: 1500, Address: netip.MustParseAddr("172.31.0.11")}
	addrs, _ := n.Host()
	in.Host = &compile.Host{Tap: "tapvhost0", Ifindex: 3, MAC: [6]byte{2}, MTU: 1468, Addrs: addrs}
	return in
}

// Many pods that come and go leave the ledger as it was.
func TestChurnLeavesNothing(t *testing.T) {
	n := ready(t)
	var m memory
	attach(t, n, 9, "stays")
	compile.Compile(input(n), n.IDs(), nil)
	m.commit(n.TakeChange())
	before := memory{record.Contents{
		Attachments: slices.Clone(m.Attachments), Hosts: slices.Clone(m.Hosts), IDs: slices.Clone(m.IDs), Resources: slices.Clone(m.Resources),
	}}
	now := epoch
	for i := range 1000 {
		now = now.Add(50 * time.Millisecond)
		c := fmt.Sprint("churn", i)
		if _, refusal := n.Attach(ask(1+i%8, c), now); refusal != nil {
			t.Fatalf("cycle %d: %v", i, refusal)
		}
		_ = n.Bind(key(c), 1000+i)
		compile.Compile(input(n), n.IDs(), nil)
		m.commit(n.TakeChange())
		n.Detach(key(c), now)
		compile.Compile(input(n), n.IDs(), nil)
		m.commit(n.TakeChange())
	}
	if !reflect.DeepEqual(m, before) {
		t.Errorf("ledger\n got %+v\nwant %+v", m, before)
	}
}

// A change that could not be written comes again.
func TestRemember(t *testing.T) {
	n := ready(t)
	attach(t, n, 1, "c1")
	lost := n.TakeChange()
	n.Detach(key("c1"), epoch)
	attach(t, n, 2, "c2")
	n.Remember(&lost)
	var m memory
	m.commit(n.TakeChange())
	if len(m.Attachments) != 1 || m.Attachments[0].ContainerID != "c2" || len(m.Hosts) != 1 || len(m.Resources) != 12 {
		t.Errorf("%d attachments, %d hosts, %d resources", len(m.Attachments), len(m.Hosts), len(m.Resources))
	}
}

func TestTwoOwnersAreRefused(t *testing.T) {
	a := record.Attachment{ContainerID: "a", Ifname: "eth0", Pod: "one", VMI: uuid(1), VN: network, Tap: "tap1", Addrs: []netip.Addr{gateway4}}
	b := a
	b.ContainerID, b.Pod = "b", "two"
	_, _, err := New("n1", 1468, &record.Contents{Attachments: []record.Attachment{a, b}}, epoch)
	if err == nil || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") {
		t.Errorf("error %v", err)
	}
}

func TestGCAndGone(t *testing.T) {
	n := ready(t)
	for i := 1; i < 4; i++ {
		attach(t, n, i, fmt.Sprint("c", i))
		_ = n.Bind(key(fmt.Sprint("c", i)), 10+i)
	}
	q := &rpc.GC{Network: "vrouter", Valid: []rpc.Attachment{{ContainerID: "c2", Ifname: "eth0"}}}
	if stale := n.Invalid(q); len(stale) != 2 || stale[key("c1")] == "" || stale[key("c3")] == "" {
		t.Errorf("stale %v", stale)
	}
	if stale := n.Invalid(&rpc.GC{Network: "other"}); len(stale) != 0 {
		t.Errorf("of another network: %v", stale)
	}
	if !n.Gone(12) || n.Gone(12) || n.Gone(0) {
		t.Error("gone: want true, then false")
	}
	if _, _, index := n.Find(key("c2")); index != 0 {
		t.Errorf("index %d", index)
	}
	if refusal := n.Bind(key("nobody"), 5); refusal == nil || refusal.Code != rpc.CodeUnknownPod {
		t.Errorf("bind of nobody: %v", refusal)
	}
	if !n.Sync(map[string]int{"tap" + uuid(1)[:11]: 11}) { // c3's is missing
		t.Error("sync saw nothing")
	}
	if _, _, index := n.Find(key("c3")); index != 0 {
		t.Errorf("index %d", index)
	}
}

// Whatever is wrong with a resource, it is refused and named, and the rest and
// the old one stay in force.
func TestRefusals(t *testing.T) {
	n := ready(t)
	before := n.Input()
	for name, r := range map[string]*southbound.Resource{
		"garbage":      {Type: southbound.Type_TYPE_VMI, Name: uuid(1), Version: "x", Body: []byte{0xff, 0xff}},
		"type":         {Type: 99, Name: "x"},
		"uuid":         podVMI(1, func(v *southbound.VMI) { v.Pod = "" }),
		"vip":          podVMI(1, func(v *southbound.VMI) { v.PortMaps[0].Vip = "224.0.0.1" }),
		"protocol":     podVMI(1, func(v *southbound.VMI) { v.PortMaps[0].Protocol = 1 }),
		"port":         podVMI(1, func(v *southbound.VMI) { v.PortMaps[0].Port = 0 }),
		"target":       podVMI(1, func(v *southbound.VMI) { v.PortMaps[0].Target = 1 << 16 }),
		"fixed":        podVMI(1, func(v *southbound.VMI) { v.FixedAddresses = []string{"nowhere"} }),
		"subnet":       southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, network, &southbound.VirtualNetwork{Name: network, Subnets: []string{"192.0.2.1/24"}}),
		"block":        southbound.NewResource(southbound.Type_TYPE_BLOCK, "b", &southbound.Block{VirtualNetwork: network, Prefix: "10.0.0.0/8"}),
		"block prefix": southbound.NewResource(southbound.Type_TYPE_BLOCK, "b", &southbound.Block{VirtualNetwork: network, Prefix: "x"}),
		"tunnel":       southbound.NewResource(southbound.Type_TYPE_NODE, "n2", &southbound.Node{Name: "n2", TunnelAddress: "2001:db8::1"}),
		"label":        southbound.NewResource(southbound.Type_TYPE_ROUTE, "r", &southbound.Route{VirtualNetwork: network, Prefix: "192.0.2.64/26", Paths: []*southbound.Path{{TunnelAddress: "172.31.0.12", Label: 3}}}),
		"listener twice": balancer(func(lb *southbound.LoadBalancer) {
			lb.Listeners = append(lb.Listeners, lb.Listeners[0])
		}),
		"node port":    balancer(func(lb *southbound.LoadBalancer) { lb.Listeners[0].NodePort = 1 << 16 }),
		"external vip": balancer(func(lb *southbound.LoadBalancer) { lb.ExternalVips = []string{"0.0.0.0"} }),
		"health":       balancer(func(lb *southbound.LoadBalancer) { lb.HealthCheckPort = 1 << 16 }),
		"no network":   podVMI(1, func(v *southbound.VMI) { v.VirtualNetwork = "" }),
		"host":         southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, network, &southbound.VirtualNetwork{Name: network, Host: true, Translated: true}),
		"node config":  {Type: southbound.Type_TYPE_NODE_CONFIG, Name: "n1", Version: "x", Body: []byte{0xff, 0xff}},
		"member":       balancer(func(lb *southbound.LoadBalancer) { lb.Listeners[0].Members[0].Address = "0.0.0.0" }),
	} {
		nacks := n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{r}}, epoch)
		if len(nacks) != 1 || nacks[0].GetName() != r.GetName() || nacks[0].GetError() == "" {
			t.Errorf("%s: %v", name, nacks)
		}
	}
	after := n.Input()
	if !reflect.DeepEqual(before.Networks, after.Networks) || !reflect.DeepEqual(before.Blocks, after.Blocks) || len(after.Peers)+len(after.Routes)+len(after.LoadBalancers) != 0 {
		t.Errorf("a refused resource changed something: %+v", after)
	}
	if nacks := n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{balancer(nil)}}, epoch); len(nacks) != 0 {
		t.Errorf("the good one: %v", nacks)
	}
}

func balancer(change func(*southbound.LoadBalancer)) *southbound.Resource {
	lb := &southbound.LoadBalancer{
		Uuid: "lb", Name: "default-web", VirtualNetworks: []string{network}, Vips: []string{"198.51.100.10"},
		Listeners: []*southbound.Listener{{Name: "l", Protocol: 6, Port: 8888, Members: []*southbound.Member{
			{Uuid: "m", Name: "default/pod-1", Vmi: uuid(1), Node: "n1", TunnelAddress: "172.31.0.11", Label: 20, Address: "192.0.2.2", Port: 80},
		}}},
	}
	if change != nil {
		change(lb)
	}
	return southbound.NewResource(southbound.Type_TYPE_LOAD_BALANCER, "lb", lb)
}

// Said in another order, in pieces, or twice, the resources mean the same.
func TestOrderMeansNothing(t *testing.T) {
	all := []*southbound.Resource{networkResource(), block("192.0.2.0/26"), block("2001:db8:1::/122"), balancer(nil),
		southbound.NewResource(southbound.Type_TYPE_NODE, "n2", &southbound.Node{Name: "n2", TunnelAddress: "172.31.0.12"}),
		southbound.NewResource(southbound.Type_TYPE_ROUTE, "r", &southbound.Route{VirtualNetwork: network, Prefix: "192.0.2.64/26", Paths: []*southbound.Path{{Node: "n2", TunnelAddress: "172.31.0.12", Label: 30}}}),
	}
	for i := 1; i < 5; i++ {
		all = append(all, podVMI(i))
	}
	var want *compile.Output
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		n := fresh(t, &record.Contents{}, epoch)
		list := slices.Concat(all, all[:int(seed)%len(all)])
		rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for len(list) > 0 {
			k := 1 + rnd.IntN(len(list))
			if nacks := n.Apply(&southbound.ToAgent{Upserts: list[:k]}, epoch); len(nacks) > 0 {
				t.Fatal(nacks)
			}
			list = list[k:]
		}
		got := compile.Compile(input(n), n.IDs(), nil)
		if want == nil {
			want = got
		}
		if d := compile.Diff(&want.State, &got.State); !compile.IsEmpty(&d) || !reflect.DeepEqual(got.Announce, want.Announce) {
			t.Fatalf("seed %d: %+v", seed, d)
		}
	}
}

// A lease that ends while in use takes nothing away; when it comes back, what
// is in use is known.
func TestBlockGoesAndComes(t *testing.T) {
	n := ready(t)
	i := attach(t, n, 1, "c1")
	name := network + "/192.0.2.0/26"
	n.Apply(removal(southbound.Type_TYPE_BLOCK, name), epoch)
	if _, refusal := n.Attach(ask(2, "c2"), epoch); refusal == nil || !strings.Contains(refusal.Message, "no IPv4 block") {
		t.Errorf("refusal %v", refusal)
	}
	n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{block("192.0.2.0/26")}}, epoch)
	if b := n.Blocks(); b[0].Used != 2 {
		t.Errorf("%+v", b)
	}
	if second := attach(t, n, 2, "c2"); second.Addrs[0] == i.Addrs[0] {
		t.Error("an address in use was given away")
	}
}

func TestFixedAddresses(t *testing.T) {
	n := ready(t)
	fixed := func(v *southbound.VMI) { v.FixedAddresses = []string{"192.0.2.40", "203.0.113.9"} }
	n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{podVMI(1, fixed), podVMI(2, fixed)}}, epoch)
	if i := attach(t, n, 1, "c1"); len(i.Addrs) != 3 || i.Addrs[0] != netip.MustParseAddr("192.0.2.40") || !i.Addrs[2].Is6() {
		t.Errorf("addresses %v", i.Addrs) // the other family as ever
	}
	if _, refusal := n.Attach(ask(2, "c2"), epoch); refusal == nil || !strings.Contains(refusal.Message, "still that of pod default/pod-1") {
		t.Errorf("refusal %v", refusal)
	}
	n.Detach(key("c1"), epoch)
	attach(t, n, 2, "c2")
}

// The host's interface has an address of each family, keeps it, and gives it
// back when the network is no longer its own.
func TestHostAddresses(t *testing.T) {
	n := ready(t)
	addrs, ok := n.Host()
	if !ok || len(addrs) != 2 {
		t.Fatalf("%v %t", addrs, ok)
	}
	n.Apply(removal(southbound.Type_TYPE_VIRTUAL_NETWORK, network), epoch)
	n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{networkResource()}}, epoch)
	if again, _ := n.Host(); !slices.Equal(again, addrs) {
		t.Errorf("%v became %v", addrs, again)
	}
	r := southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, network, &southbound.VirtualNetwork{Name: network, Subnets: []string{"192.0.2.0/24"}})
	n.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{r}}, epoch)
	if _, ok := n.Host(); ok || n.Blocks()[0].Used != 0 {
		t.Error("the address was not given back")
	}
}

func TestVMIs(t *testing.T) {
	n := ready(t)
	attach(t, n, 2, "c2")
	list := n.VMIs()
	if len(list) != 9 || list[0].State != stateExpected || list[1].State != stateAttaching {
		t.Fatalf("%+v", list)
	}
	_ = n.Bind(key("c2"), 7)
	v := n.VMIs()[1]
	if v.State != stateAttached || v.Label < 16 || v.Vif == 0 || !slices.Equal(v.FloatingIPs, []string{"198.51.100.10 TCP 8888 -> 80"}) {
		t.Errorf("%+v", v)
	}
	if all, here := n.Counts(); all != 9 || here != 1 {
		t.Errorf("%d, %d", all, here)
	}
}

// Whatever the controller says, the node takes it or refuses it.
func FuzzApply(f *testing.F) {
	for _, r := range []*southbound.Resource{networkResource(), tenant("red"), block("192.0.2.0/26"), podVMI(1), podVMI(1, in("red")), balancer(nil)} {
		m, _ := proto.Marshal(&southbound.ToAgent{Upserts: []*southbound.Resource{r}})
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m southbound.ToAgent
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		n := ready(t)
		n.Apply(&m, epoch)
		compile.Compile(input(n), n.IDs(), nil)
		var stored memory
		stored.commit(n.TakeChange())
		if _, forgotten, err := New("n1", 1468, &stored.Contents, epoch); err != nil || len(forgotten) > 0 {
			t.Errorf("what was accepted cannot be read back: %v %v", forgotten, err)
		}
	})
}
