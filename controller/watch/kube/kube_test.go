package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/watch/kube/apitest"
)

const (
	podText = `apiVersion: v1
kind: Pod
metadata: {namespace: default, name: NAME, annotations: {opencontrail.org/network: "{'name':'red'}"}}
spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: c, image: example.com/c}]}
`
	restText = `apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: east}}
---
apiVersion: v1
kind: Service
metadata: {namespace: default, name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  ports: [{name: http, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [198.51.100.2], nodeName: n1}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: default, name: strict}
spec: {podSelector: {}}
---
apiVersion: vragent.io/v1alpha1
kind: VirtualNetwork
metadata: {namespace: default, name: red}
spec: {subnets: [198.51.100.0/24]}
---
apiVersion: vragent.io/v1alpha1
kind: FloatingIPPool
metadata: {namespace: default, name: outside}
spec: {virtualNetwork: public}
---
apiVersion: vragent.io/v1alpha1
kind: IPBlock
metadata: {name: b2}
spec: {network: k8s-default-pod-network, node: n1, prefix: 198.51.100.64/26}
---
apiVersion: vragent.io/v1alpha1
kind: IPBlock
metadata: {name: b1}
spec: {network: k8s-default-pod-network, node: n1, prefix: 198.51.100.128/26}
`
)

func pod(name string) string { return strings.Replace(podText, "NAME", name, 1) }

// server is an API server that knows our kinds.
func server(t testing.TB) *apitest.Server {
	s := apitest.Start(t)
	s.Define(t, "../../../packaging/helm/vragent/crds")
	return s
}

// diary keeps what is logged.
type diary struct {
	mu   sync.Mutex
	text strings.Builder
}

func (d *diary) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(p)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// follow runs a source until the test ends.
func follow(t testing.TB, config *rest.Config) (*Source, *diary) {
	t.Helper()
	s, d := source(t, config)
	run(t, s)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.String())
		}
	})
	return s, d
}

func source(t testing.TB, config *rest.Config) (*Source, *diary) {
	t.Helper()
	d := &diary{}
	s, err := New(config, slog.New(slog.NewTextHandler(d, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

func run(t testing.TB, s *Source) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// eventually waits for a change that makes the condition true.
func eventually(t testing.TB, s *Source, what string, ok func() bool) {
	t.Helper()
	end := time.After(time.Minute)
	for !ok() {
		select {
		case <-s.Changes():
		case <-end:
			t.Fatalf("not in time: %s; problems %v, status %+v", what, s.Problems(), s.Status())
		}
	}
}

func names(s *Source) []string {
	c := s.Cluster()
	if c == nil {
		return nil
	}
	out := []string{}
	for _, p := range c.Pods {
		out = append(out, p.Name)
	}
	return out
}

func TestObjectsComeChangeAndGo(t *testing.T) {
	api := server(t)
	api.Apply(t, restText+"---\n"+pod("a"))
	s, log := follow(t, api.Config)
	if c, _ := s.Leases(); s.Cluster() != nil || c != nil {
		t.Error("something is known before it was read")
	}
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	c := s.Cluster()
	switch {
	case len(c.Pods) != 1 || c.Pods[0].Node != "n1" || c.Pods[0].Network.Name != "red" || c.Pods[0].UID == "":
		t.Error(c.Pods)
	case len(c.Nodes) != 1 || c.Nodes[0].Zone != "east":
		t.Error(c.Nodes)
	case len(c.VirtualNetworks) != 1 || !c.VirtualNetworks[0].SNAT || len(c.Pools) != 1 || len(c.Unserved) != 1:
		t.Error(c.VirtualNetworks, c.Pools, c.Unserved)
	case len(c.Slices) != 1 || c.Slices[0].Endpoints[0].Node != "n1":
		t.Error(c.Slices)
	case !slices.ContainsFunc(c.Services, func(s plan.Service) bool { return s.Outside.LoadBalancer && s.Ports[0].NodePort == 30080 }):
		t.Error(c.Services)
	case !slices.ContainsFunc(c.Namespaces, func(n plan.Namespace) bool { return n.Name == "default" }):
		t.Error(c.Namespaces)
	}
	block := func(p string) plan.Lease {
		return plan.Lease{Network: "k8s-default-pod-network", Node: "n1", Prefix: netip.MustParsePrefix(p)}
	}
	if l, ok := s.Leases(); !ok || !slices.Equal(l, []plan.Lease{block("198.51.100.64/26"), block("198.51.100.128/26")}) {
		t.Error(l, ok)
	}
	if s.Cluster() != c {
		t.Error("without a change, the cluster is built again")
	}

	api.Apply(t, pod("b"))
	eventually(t, s, "a second pod", func() bool { return slices.Equal(names(s), []string{"a", "b"}) })
	if len(c.Pods) != 1 || &s.Cluster().Services[0] != &c.Services[0] {
		t.Error("a view has changed, or more was built than has changed")
	}
	api.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, annotations: {opencontrail.org/isolation: \"true\"}}\n")
	eventually(t, s, "isolation", func() bool {
		return slices.ContainsFunc(s.Cluster().Namespaces, func(n plan.Namespace) bool { return n.Isolated })
	})
	api.ApplyStatus(t, "apiVersion: v1\nkind: Pod\nmetadata: {namespace: default, name: a}\nstatus: {phase: Succeeded}\n")
	eventually(t, s, "a finished pod", func() bool { p, _ := s.PodOf("default", "a"); return p.Finished })
	api.Delete(t, pod("a"))
	eventually(t, s, "a pod less", func() bool { return slices.Equal(names(s), []string{"b"}) })
	if _, ok := s.PodOf("default", "a"); ok || !strings.Contains(log.String(), "cluster read") {
		t.Error("the deleted pod is found, or nothing was logged", log)
	}
	if status := s.Status(); !status.Connected || len(s.Problems()) > 0 {
		t.Error(status, s.Problems())
	}
}

// A change that means nothing to a plan is none.
func TestHeartbeatsAreNoChanges(t *testing.T) {
	api := server(t)
	api.Apply(t, restText)
	s, _ := source(t, api.Config)
	var changes atomic.Int32
	s.shelves.nodes.touched = func() { changes.Add(1); s.touch() }
	run(t, s)
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	for i := range 5 {
		api.ApplyStatus(t, fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {nodeInfo: {kernelVersion: %q}}\n", fmt.Sprint(i)))
	}
	api.Apply(t, strings.ReplaceAll(restText, "east", "west"))
	eventually(t, s, "the zone", func() bool { return s.Cluster().Nodes[0].Zone == "west" })
	if n := changes.Load(); n != 2 {
		t.Errorf("%d changes, want 2: the first list and the zone", n)
	}
}

// Nothing is forgotten while the API server is away; what changes afterwards arrives.
func TestAPIServerRestart(t *testing.T) {
	api := server(t)
	api.Apply(t, restText+"---\n"+pod("a")+"---\n"+pod("b"))
	s, log := follow(t, api.Config)
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	whole := everSmaller(t, s, 2)
	for round := range 2 {
		api.Stop(t)
		eventually(t, s, "the loss", func() bool { return !s.Status().Connected })
		if status := s.Status(); status.Error == "" || !slices.Equal(names(s)[:2], []string{"a", "b"}) {
			t.Error(status, names(s))
		}
		eventually(t, s, "one problem", func() bool {
			p := s.Problems()
			return len(p) > 0 && strings.HasSuffix(p[0].Sentence, "what was read last stays in force")
		})
		api.Resume(t)
		added := fmt.Sprintf("c%d", round)
		api.Apply(t, pod(added))
		eventually(t, s, "what came afterwards", func() bool { return slices.Contains(names(s), added) })
		eventually(t, s, "the return", func() bool { return s.Status().Connected && len(s.Problems()) == 0 })
	}
	whole()
	if n := strings.Count(log.String(), "is read again"); n < 1 || n > 4 {
		t.Errorf("%d returns are logged:\n%s", n, log)
	}
}

// everSmaller watches from the side whether fewer pods are ever shown.
func everSmaller(t *testing.T, s *Source, least int) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan string, 1)
	go func() {
		for ctx.Err() == nil {
			if c := s.Cluster(); c == nil || len(c.Pods) < least || len(c.Nodes) != 1 || len(c.Slices) < 1 {
				ended <- fmt.Sprintf("a part of the cluster is shown: %+v", c)
				return
			}
			time.Sleep(time.Millisecond) // samples; nothing waits for it
		}
		ended <- ""
	}()
	return func() {
		stop()
		if fault := <-ended; fault != "" {
			t.Error(fault)
		}
	}
}

// A source that was cut off for so long that its resource versions are gone
// reads all again, and shows the old whole until the new one is there.
func TestExpiredResourceVersion(t *testing.T) {
	api := server(t)
	api.Apply(t, restText+"---\n"+pod("a")+"---\n"+pod("b"))
	wire := newWire(t, strings.TrimPrefix(api.Config.Host, "https://"))
	config := rest.CopyConfig(api.Config)
	config.Host = "https://" + wire.address
	var lists atomic.Int32
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/pods") && r.URL.Query().Get("watch") == "" {
				lists.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	s, _ := follow(t, config)
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	whole := everSmaller(t, s, 2)
	wire.cut()
	eventually(t, s, "the loss", func() bool { return !s.Status().Connected })
	api.Delete(t, pod("a"))
	api.Apply(t, pod("c")+"---\n"+pod("d"))
	api.Stop(t) // its successor remembers no events
	api.Resume(t)
	api.Compact(t) // and neither does etcd
	wire.mend()
	eventually(t, s, "what came meanwhile", func() bool { return slices.Equal(names(s), []string{"b", "c", "d"}) })
	api.Apply(t, pod("e"))
	eventually(t, s, "what came afterwards", func() bool { return slices.Contains(names(s), "e") })
	whole()
	if lists.Load() < 2 {
		t.Error("the watch went on: its resource version was still known, and nothing was tested")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A connection that is silent, not closed, is found out.
func TestSilentConnection(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1") // 30 s otherwise
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")      // 15 s otherwise
	api := server(t)
	api.Apply(t, restText)
	wire := newWire(t, strings.TrimPrefix(api.Config.Host, "https://"))
	config := rest.CopyConfig(api.Config)
	config.Host = "https://" + wire.address
	s, _ := follow(t, config)
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	wire.freeze()
	api.Apply(t, pod("a"))
	eventually(t, s, "a pod over another connection", func() bool { return slices.Contains(names(s), "a") })
}

// One kind that is not there holds everything up, and says why.
func TestMissingDefinitions(t *testing.T) {
	api := apitest.Start(t)
	s, _ := follow(t, api.Config)
	eventually(t, s, "the problem", func() bool {
		p := s.Problems()
		return len(p) == 1 && len(s.Status().Waiting) == 3
	})
	want := plan.Problem{Object: "Kubernetes API", Sentence: "cannot read floatingippools, ipblocks, virtualnetworks: no such kind; apply packaging/helm/vragent/crds; nothing is decided before everything was read"}
	eventually(t, s, "the sentence", func() bool { return slices.Equal(s.Problems(), []plan.Problem{want}) })
	if s.Cluster() != nil {
		t.Error("a part of the cluster is shown")
	}
	api.Define(t, "../../../packaging/helm/vragent/crds")
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil && len(s.Problems()) == 0 })
}

// One object that cannot be read hides neither itself as a whole nor the others.
func TestBrokenObjects(t *testing.T) {
	api := server(t)
	api.Apply(t, restText+"---\n"+pod("a"))
	s, _ := follow(t, api.Config)
	eventually(t, s, "the first view", func() bool { return s.Cluster() != nil })
	api.Apply(t, strings.Replace(pod("odd"), `{'name':'red'}`, `red`, 1))
	eventually(t, s, "the fault of an annotation", func() bool { p, _ := s.PodOf("default", "odd"); return len(p.Faults) == 1 })
	api.ApplyStatus(t, "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 127.0.0.1}]}\n")
	eventually(t, s, "the problem", func() bool { return len(s.Problems()) == 1 })
	want := plan.Problem{Object: "Node n1", Sentence: "field status.addresses[0].address: 127.0.0.1 is no address that can be reached (unspecified, loopback, link-local or multicast)"}
	if p := s.Problems(); !slices.Equal(p, []plan.Problem{want}) || len(names(s)) != 2 || s.Cluster().Nodes[0].Zone != "east" {
		t.Error(p, names(s), s.Cluster().Nodes)
	}
}

// BenchmarkLoad reads 2,000 pods and prints what they cost.
func BenchmarkLoad(b *testing.B) {
	const pods = 2000
	api := server(b)
	var text strings.Builder
	for i := range pods {
		text.WriteString("---\n" + strings.Replace(pod(fmt.Sprintf("web-%04d", i)), "containers: [{name: c,", "containers: [{env: [{name: FILL, value: "+strings.Repeat("x", 2000)+"}], name: c,", 1))
	}
	api.Apply(b, text.String())
	for b.Loop() {
		before := heap()
		s, _ := source(b, api.Config)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		eventually(b, s, "all pods", func() bool { return s.Cluster() != nil })
		b.ReportMetric(float64(heap()-before)/pods, "B/pod")
		if n := len(s.Cluster().Pods); n != pods {
			b.Fatal(n)
		}
		stop()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
