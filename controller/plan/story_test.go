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

func meta(kind, name string, created int64) Meta {
	return Meta{Namespace: "default", Name: name, UID: Derive(kind, name), Created: time.Unix(created, 0)}
}

// do is one command of a story; a flat switch.
func (w *world) do(f []string) error {
	switch f[0] {
	case "node": // NAME ADDRESS [kubernetes]
		n := Node{Meta: meta("Node", f[1], 0)}
		n.Namespace = ""
		if len(f) > 3 {
			n.Address = netip.MustParseAddr(f[2])
		}
		w.cluster.Nodes = append(w.cluster.Nodes, n)
		w.reports[f[1]] = (&Report{Node: f[1], Tunnel: netip.MustParseAddr(f[2]), Synced: true}).Clone()
	case "pod": // NODE NAME [host|done]
		p := Pod{Meta: meta("Pod", f[2], 0), Node: f[1], HostNetwork: slices.Contains(f, "host"), Finished: slices.Contains(f, "done")}
		if f[1] == "-" {
			p.Node = ""
		}
		w.cluster.Pods = append(w.cluster.Pods, p)
	case "service": // NAME VIP[,VIP] PORTNAME/PROTO/PORT … [created=N]
		return w.service(f)
	case "slice": // NAME SERVICE 4|6 PORTNAME/PROTO/PORT ENDPOINT …
		return w.slice(f)
	case "remove": // KIND NAME
		return w.remove(f[1], f[2])
	case "attach": // POD LABEL ADDRESS …
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

func (w *world) service(f []string) error {
	s := Service{Meta: meta("Service", f[1], 100)}
	for a := range strings.SplitSeq(f[2], ",") {
		s.VIPs = append(s.VIPs, netip.MustParseAddr(a))
	}
	for _, x := range f[3:] {
		if c, ok := strings.CutPrefix(x, "created="); ok {
			n, err := strconv.Atoi(c)
			if err != nil {
				return err
			}
			s.Created = time.Unix(int64(n), 0)
			continue
		}
		if x == "publish-not-ready" {
			s.PublishNotReady = true
			continue
		}
		name, proto, port, err := portOf(x)
		if err != nil {
			return err
		}
		s.Ports = append(s.Ports, ServicePort{name, proto, port})
	}
	w.cluster.Services = append(w.cluster.Services, s)
	return nil
}

// slice: an endpoint is pod=NAME or an address, and may end in :not-ready,
// :serving or :terminating.
func (w *world) slice(f []string) error {
	_ = w.remove("slice", f[1]) // saying it again replaces it
	s := EndpointSlice{Meta: meta("EndpointSlice", f[1], 0), Service: f[2], V6: f[3] == "6"}
	name, proto, port, err := portOf(f[4])
	if err != nil {
		return err
	}
	s.Ports = []EndpointPort{{name, proto, port}}
	yes, no := true, false
	for _, x := range f[5:] {
		who, condition, _ := strings.Cut(x, ",")
		e := Endpoint{Address: netip.MustParseAddr("198.51.100.250")}
		if s.V6 {
			e.Address = netip.MustParseAddr("2001:db8:1::fa")
		}
		if pod, ok := strings.CutPrefix(who, "pod="); ok {
			e.Pod = &PodRef{Name: pod}
		} else {
			e.Address = netip.MustParseAddr(who)
		}
		switch condition {
		case "not-ready":
			e.Ready, e.Serving = &no, &no
		case "serving":
			e.Ready, e.Serving = &no, &yes
		case "terminating":
			e.Ready, e.Serving, e.Terminating = &no, &yes, &yes
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	w.cluster.Slices = append(w.cluster.Slices, s)
	return nil
}

func (w *world) remove(kind, name string) error {
	c := &w.cluster
	switch kind {
	case "node":
		c.Nodes = slices.DeleteFunc(c.Nodes, func(o Node) bool { return o.Name == name })
	case "pod":
		c.Pods = slices.DeleteFunc(c.Pods, func(o Pod) bool { return o.Name == name })
	case "service":
		c.Services = slices.DeleteFunc(c.Services, func(o Service) bool { return o.Name == name })
	case "slice":
		c.Slices = slices.DeleteFunc(c.Slices, func(o EndpointSlice) bool { return o.Name == name })
	default:
		return fmt.Errorf("unknown kind %s", kind)
	}
	return nil
}

func (w *world) pod(name string) *Pod {
	for i := range w.cluster.Pods {
		if w.cluster.Pods[i].Name == name {
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
		a.Addresses = append(a.Addresses, netip.MustParseAddr(x))
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
	w.report(f[1], func(r *Report) { r.Routes[RouteKey{f[2], netip.MustParsePrefix(f[3])}] = l })
	return err
}

func (w *world) acknowledge(node string) {
	w.report(node, func(r *Report) {
		for k, v := range r.VMIs {
			if wire := w.last.Intents.Sets[nodeSet(node)][Key{southbound.Type_TYPE_VMI, k}]; wire != nil {
				v.AckedVersion = wire.Wire.Version
				r.VMIs[k] = v
			}
		}
	})
}

// plan makes the next plan and says what it changes.
func (w *world) plan() []string {
	leases, problems := Grow(w.config, &w.cluster, w.leases, w.reports)
	w.leases = leases
	w.last = Build(Input{
		Config: w.config, Cluster: &w.cluster, Leases: leases, Reports: w.reports,
		Memory: w.memory, Settled: w.settled, Now: w.now,
	})
	w.memory, w.settled = w.last.Memory, nil
	text := map[string]string{}
	for name, set := range w.last.Intents.Sets {
		name = strings.TrimPrefix(name, "network/k8s-default-")
		for _, r := range set {
			text[name+": "+r.Key.Type.String()[len("TYPE_"):]+" "+r.Name] = name + ": " + describe(r)
		}
	}
	for _, p := range append(problems, w.last.Model.Problems...) {
		text["problem "+p.Object+p.Sentence] = "problem " + p.Object + ": " + p.Sentence
	}
	var out []string
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

// describe decodes a resource as an agent does.
func describe(r *Resource) string {
	switch r.Key.Type {
	case southbound.Type_TYPE_NODE:
		n := decoded(r, &southbound.Node{})
		return fmt.Sprintf("node %s %s", n.Name, n.TunnelAddress)
	case southbound.Type_TYPE_VIRTUAL_NETWORK:
		n := decoded(r, &southbound.VirtualNetwork{})
		return fmt.Sprintf("network %s %v services %v", n.Name, n.Subnets, n.ServiceSubnets)
	case southbound.Type_TYPE_BLOCK:
		return "block " + decoded(r, &southbound.Block{}).Prefix
	case southbound.Type_TYPE_VMI:
		v := decoded(r, &southbound.VMI{})
		s := "vmi " + v.Pod
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

func describeBalancer(lb *southbound.LoadBalancer) string {
	s := fmt.Sprintf("lb %s %s", lb.Name, strings.Join(lb.Vips, ","))
	for _, l := range lb.Listeners {
		s += fmt.Sprintf(" | %s/%d", strings.ToLower(ProtocolName(uint8(l.Protocol))), l.Port)
		for _, m := range l.Members {
			s += fmt.Sprintf(" %s:%d", strings.TrimPrefix(m.Name, "default/"), m.Port)
			if m.Vmi != "" {
				s += fmt.Sprintf("@%s(%d)", m.Node, m.Label)
			}
			if m.Draining {
				s += " draining"
			}
		}
	}
	return s
}

func decoded[T proto.Message](r *Resource, m T) T {
	if err := proto.Unmarshal(r.Wire.Body, m); err != nil {
		panic(err)
	}
	return m
}
