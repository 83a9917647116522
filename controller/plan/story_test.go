package plan

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/controller/southbound"
)

// TestStories plays the texts in testdata: commands, a line of dashes, and
// what the next plan changes for the nodes, every change of it.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) { play(t, string(text)) })
	}
}

func play(t *testing.T, text string) {
	w := newWorld()
	var want []string
	expecting, step := false, 0
	check := func() {
		if !expecting {
			return
		}
		step++
		if got := w.plan(); !slices.Equal(got, want) {
			t.Errorf("after step %d\n--- want\n%s\n--- got\n%s", step, strings.Join(want, "\n"), strings.Join(got, "\n"))
		}
		want, expecting = nil, false
	}
	lines := bufio.NewScanner(strings.NewReader(text + "\n\n"))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "":
			check()
		case line[0] == '#':
		case strings.HasPrefix(line, "----"):
			expecting = true
		case expecting:
			want = append(want, line)
		default:
			for command := range strings.SplitSeq(line, " ; ") {
				if err := w.do(strings.Fields(command)); err != nil {
					t.Fatalf("%q: %v", command, err)
				}
			}
		}
	}
}

// world is the cluster of a story.
type world struct {
	config   Config
	cluster  Cluster
	reports  map[string]*Report
	leases   []Lease
	memory   *Memory
	settled  map[Key]bool
	now      time.Time
	last     *Output
	asked    []string // nodes whose subscriptions are to be said
	lastText map[string]string
}

func testConfig() Config {
	return Config{
		Cluster:        "k8s",
		PodSubnets:     []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/120")},
		ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:2::/112")},
		BlockBits4:     26,
		BlockBits6:     122,
	}
}

func newWorld() *world {
	return &world{
		config:   testConfig(),
		reports:  map[string]*Report{},
		now:      time.Unix(1000, 0),
		lastText: map[string]string{},
	}
}

// meta is of namespace/name, or of a name in namespace default.
func meta(kind, ref string, created int64) Meta {
	m := Meta{Namespace: "default", Name: ref, UID: Derive(kind, ref), Created: time.Unix(created, 0)}
	if namespace, name, given := strings.Cut(ref, "/"); given {
		m.Namespace, m.Name = namespace, name
	}
	return m
}

// is tells whether an object is meant by namespace/name, or by a name in
// namespace default.
func is(m Meta, ref string) bool { return m.Ref() == ref || m.Ref() == "default/"+ref }

// do is one command of a story; a flat switch.
func (w *world) do(f []string) error {
	switch f[0] {
	case "node": // NAME ADDRESS [kubernetes] [zone=ZONE]
		n := Node{Meta: meta("Node", f[1], 0)}
		n.Namespace = ""
		if slices.Contains(f, "kubernetes") {
			n.Address = netip.MustParseAddr(f[2])
		}
		n.Zone = option(f, "zone")
		_ = w.remove("node", f[1])
		w.cluster.Nodes = append(w.cluster.Nodes, n)
		w.reports[f[1]] = (&Report{Node: f[1], Tunnel: netip.MustParseAddr(f[2]), Synced: true}).Clone()
	case "namespace":
		return w.namespace(f)
	case "network":
		return w.network(f)
	case "pod":
		return w.addPod(f)
	case "pods": // NODE N: so many besides the others; their VMIs are not said
		return w.manyPods(f)
	case "empty": // NODE: no pods are attached any more
		w.report(f[1], func(r *Report) {
			clear(r.VMIs)
			clear(r.Blocks)
		})
	case "host": // NODE ADDRESS …
		w.report(f[1], func(r *Report) {
			for _, a := range f[2:] {
				r.Host = append(r.Host, netip.MustParseAddr(a))
			}
		})
	case "used": // NODE NETWORK PREFIX N
		n, err := strconv.Atoi(f[4])
		w.report(f[1], func(r *Report) { r.Blocks[BlockKey{Network: f[2], Prefix: netip.MustParsePrefix(f[3])}] = uint32(n) })
		return err
	case "restart": // of the controller: no agent has said anything yet
		w.memory = nil
		for n := range w.reports {
			w.reports[n] = (&Report{Node: n, Tunnel: w.reports[n].Tunnel}).Clone()
		}
	case "synced": // NODE: it has said all
		w.report(f[1], func(r *Report) { r.Synced = true })
	case "back": // NODE: its stream
		w.report(f[1], func(r *Report) { r.Stale = false })
	case "sets": // NODE: say what it subscribes to
		w.asked = append(w.asked, f[1])
	case "unserved": // KIND NAME
		w.cluster.Unserved = append(w.cluster.Unserved, Unserved{Meta: meta(f[1], f[2], 0), Kind: f[1]})
	case "service":
		return w.service(f)
	case "slice":
		return w.slice(f)
	case "pool":
		return w.pool(f)
	case "configure":
		return w.configure(f)
	case "write": // the statuses that the last plan asks for
		return w.write()
	case "remove": // KIND NAME
		return w.remove(f[1], f[2])
	case "attach": // POD LABEL ADDRESS … [cluster=ADDRESS …]
		return w.attach(f)
	case "detach": // POD
		p := w.pod(f[1])
		w.report(p.Node, func(r *Report) { delete(r.VMIs, VMIUUID(p)) })
	case "route": // NODE VRF PREFIX LABEL [POD …]
		return w.route(f)
	case "ack": // NODE: the fast path has every port map
		w.acknowledge(f[1])
	case "lose": // NODE: its stream
		w.report(f[1], func(r *Report) { r.Stale = true })
	case "forget": // NODE
		delete(w.reports, f[1])
	case "settle": // all connected agents acknowledged everything
		w.settled = w.memory.Awaited()
	case "wait":
		d, err := time.ParseDuration(f[1])
		w.now = w.now.Add(d)
		return err
	default:
		return fmt.Errorf("unknown command %s", f[0])
	}
	return nil
}

func portOf(s string) (name string, proto uint8, port uint16, err error) {
	part := strings.Split(s, "/")
	n, err := strconv.ParseUint(part[2], 10, 16)
	return part[0], map[string]uint8{"tcp": TCP, "udp": UDP, "sctp": SCTP}[part[1]], uint16(n), err
}

func (w *world) remove(kind, name string) error {
	c := &w.cluster
	switch kind {
	case "node":
		c.Nodes = slices.DeleteFunc(c.Nodes, func(o Node) bool { return is(o.Meta, name) })
	case "pod":
		c.Pods = slices.DeleteFunc(c.Pods, func(o Pod) bool { return is(o.Meta, name) })
	case "namespace":
		c.Namespaces = slices.DeleteFunc(c.Namespaces, func(o Namespace) bool { return is(o.Meta, name) })
	case "network":
		c.VirtualNetworks = slices.DeleteFunc(c.VirtualNetworks, func(o VirtualNetwork) bool { return is(o.Meta, name) })
	case "service":
		c.Services = slices.DeleteFunc(c.Services, func(o Service) bool { return is(o.Meta, name) })
	case "pool":
		c.Pools = slices.DeleteFunc(c.Pools, func(o FloatingIPPool) bool { return is(o.Meta, name) })
	case "slice":
		c.Slices = slices.DeleteFunc(c.Slices, func(o EndpointSlice) bool { return is(o.Meta, name) })
	default:
		return fmt.Errorf("unknown kind %s", kind)
	}
	return nil
}

func (w *world) pod(name string) *Pod {
	for i := range w.cluster.Pods {
		if is(w.cluster.Pods[i].Meta, name) {
			return &w.cluster.Pods[i]
		}
	}
	return &Pod{}
}

func (w *world) report(node string, change func(*Report)) {
	r := w.reports[node].Clone()
	change(r)
	w.reports[node] = r
}

func (w *world) attach(f []string) error {
	p := w.pod(f[1])
	label, err := strconv.ParseUint(f[2], 10, 32)
	a := AttachedVMI{Label: uint32(label)}
	for _, x := range f[3:] {
		if c, cluster := strings.CutPrefix(x, "cluster="); cluster {
			a.ClusterAddresses = append(a.ClusterAddresses, netip.MustParseAddr(c))
		} else {
			a.Addresses = append(a.Addresses, netip.MustParseAddr(x))
		}
	}
	w.report(p.Node, func(r *Report) { r.VMIs[VMIUUID(p)] = a })
	return err
}

func (w *world) route(f []string) error {
	label, err := strconv.ParseUint(f[4], 10, 32)
	l := LocalRoute{Label: uint32(label), Encapsulations: []string{"udp"}}
	for _, pod := range f[5:] {
		l.VMIs = append(l.VMIs, VMIUUID(w.pod(pod)))
	}
	w.report(f[1], func(r *Report) { r.Routes[RouteKey{VRF: f[2], Prefix: netip.MustParsePrefix(f[3])}] = l })
	return err
}

func (w *world) acknowledge(node string) {
	w.report(node, func(r *Report) {
		for k, v := range r.VMIs {
			if wire := w.last.Intents.Sets[nodeSet(node)][Key{southbound.Type_TYPE_VMI, k}]; wire != nil {
				v.PortMaps = portMapsOf(wire)
				r.VMIs[k] = v
			}
		}
	})
}

func portMapsOf(vmi *Resource) map[PortMapKey]uint16 {
	out := map[PortMapKey]uint16{}
	for _, m := range decoded(vmi, &southbound.VMI{}).PortMaps {
		out[PortMapKey{VIP: netip.MustParseAddr(m.Vip), Protocol: uint8(m.Protocol), Port: uint16(m.Port)}] = uint16(m.Target)
	}
	return out
}

// plan makes the next plan and says what it changes.
func (w *world) plan() []string {
	w.build()
	w.settled = nil
	text := map[string]string{}
	for name, set := range w.last.Intents.Sets {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "routes/"), "network/")
		name = strings.TrimPrefix(name, "k8s-default-")
		for _, r := range set {
			if strings.HasPrefix(describe(r), "vmi many-") {
				continue // made by the dozen
			}
			text[name+": "+r.Key.Type.String()[len("TYPE_"):]+" "+r.Name] = name + ": " + describe(r)
		}
	}
	for l := range w.memory.resting {
		if r := w.memory.resting[l]; !r.Retired.IsZero() && r.Ended.IsZero() {
			text["retired"+blockName(l)+l.Node] = "retired " + blockName(l) + " of " + l.Node
		}
	}
	for i := range w.last.Statuses {
		text["status "+w.last.Statuses[i].UID] = describeStatus(&w.last.Statuses[i])
	}
	for _, p := range w.last.Model.Notices {
		text["notice "+p.Object+p.Sentence] = "notice " + p.Object + ": " + p.Sentence
	}
	for _, p := range w.last.Model.Problems {
		text["problem "+p.Object+p.Sentence] = "problem " + p.Object + ": " + p.Sentence
	}
	var out []string
	for _, node := range w.asked {
		out = append(out, "= "+node+": "+strings.Join(w.last.Intents.Nodes[node], " "))
	}
	w.asked = nil
	for k, now := range text {
		switch before, known := w.lastText[k]; {
		case !known:
			out = append(out, "+ "+now)
		case before != now:
			out = append(out, "~ "+now)
		}
	}
	for k, before := range w.lastText {
		if _, still := text[k]; !still {
			out = append(out, "- "+before)
		}
	}
	w.lastText = text
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(a[2:], b[2:]), cmp.Compare(a, b)) })
	return out
}

// build plans until nothing has to be leased or given up any more.
func (w *world) build() {
	for range 3 {
		w.last = Build(Input{
			Config: w.config, Cluster: &w.cluster, Leases: w.leases, Reports: w.reports,
			Memory: w.memory, Settled: w.settled, Now: w.now,
		})
		w.memory = w.last.Memory
		change := w.last.Leases
		if len(change.Create)+len(change.Delete) == 0 {
			return
		}
		w.leases = slices.DeleteFunc(append(w.leases, change.Create...), func(l Lease) bool { return slices.Contains(change.Delete, l) })
	}
	panic("leases do not come to rest")
}

// describe decodes a resource as an agent does.
func describe(r *Resource) string {
	switch r.Key.Type {
	case southbound.Type_TYPE_NODE:
		n := decoded(r, &southbound.Node{})
		return fmt.Sprintf("node %s %s", n.Name, n.TunnelAddress)
	case southbound.Type_TYPE_VIRTUAL_NETWORK:
		n := decoded(r, &southbound.VirtualNetwork{})
		return describeNetwork(n)
	case southbound.Type_TYPE_NODE_CONFIG:
		return "zone " + decoded(r, &southbound.NodeConfig{}).Zone
	case southbound.Type_TYPE_BLOCK:
		l := decoded(r, &southbound.Block{})
		if l.VirtualNetwork != "k8s-default-pod-network" {
			return "block " + l.Prefix + " of " + l.VirtualNetwork
		}
		return "block " + l.Prefix
	case southbound.Type_TYPE_VMI:
		v := decoded(r, &southbound.VMI{})
		s := describeVMI(v)
		for _, m := range v.PortMaps {
			s += fmt.Sprintf(" %s %s/%d→%d", m.Vip, strings.ToLower(ProtocolName(uint8(m.Protocol))), m.Port, m.Target)
		}
		return s
	case southbound.Type_TYPE_LOAD_BALANCER:
		return describeBalancer(decoded(r, &southbound.LoadBalancer{}))
	case southbound.Type_TYPE_ROUTE:
		x := decoded(r, &southbound.Route{})
		s := fmt.Sprintf("route %s not for %s", x.Prefix, r.NotFor)
		for _, p := range x.Paths {
			s += fmt.Sprintf(" → %s %s label %d", p.Node, p.TunnelAddress, p.Label)
		}
		return s
	}
	return "?"
}

func decoded[T proto.Message](r *Resource, m T) T {
	if err := proto.Unmarshal(r.Wire.Body, m); err != nil {
		panic(err)
	}
	return m
}
