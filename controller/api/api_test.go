package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

var leases = []plan.Lease{{Network: "k8s-default-pod-network", Node: "n1", Prefix: netip.MustParsePrefix("198.51.100.0/26")}}

// model is a small cluster in which one pod of two is in service.
func model() *plan.Model {
	pod := func(node, name string) plan.Pod {
		return plan.Pod{Meta: plan.Meta{Namespace: "demo", Name: name, UID: "uid-" + name}, Node: node}
	}
	service := func(name string, created int64, vips ...string) plan.Service {
		s := plan.Service{Meta: plan.Meta{Namespace: "demo", Name: name, UID: "uid-" + name, Created: time.Unix(created, 0)}}
		for _, v := range vips {
			s.VIPs = append(s.VIPs, netip.MustParseAddr(v))
		}
		s.Ports = []plan.ServicePort{{Name: "http", Protocol: plan.TCP, Port: 8888}}
		return s
	}
	no, yes := false, true
	a, b := pod("n1", "a"), pod("n2", "b")
	address := netip.MustParseAddr("198.51.100.9")
	in := plan.Input{
		Config: plan.Config{
			Cluster:        "k8s",
			PodSubnets:     []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
			ServiceSubnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
			BlockBits4:     26, BlockBits6: 122,
		},
		Cluster: &plan.Cluster{
			Nodes:    []plan.Node{{Meta: plan.Meta{Name: "n1"}}, {Meta: plan.Meta{Name: "n2"}}},
			Pods:     []plan.Pod{a, b},
			Services: []plan.Service{service("web", 1, "203.0.113.10"), service("young", 2, "203.0.113.10")},
			Slices: []plan.EndpointSlice{{
				Meta: plan.Meta{Namespace: "demo", Name: "web"}, Service: "web",
				Ports: []plan.EndpointPort{{Name: "http", Protocol: plan.TCP, Port: 80}},
				Endpoints: []plan.Endpoint{
					{Address: address, Pod: &plan.PodRef{Name: "a"}},
					{Address: address, Pod: &plan.PodRef{Name: "b"}},
					{Address: netip.MustParseAddr("192.0.2.99"), Ready: &no, Serving: &yes},
				},
			}},
		},
		Leases: leases,
		Reports: map[string]*plan.Report{"n1": {
			Node: "n1", Tunnel: netip.MustParseAddr("192.0.2.1"),
			VMIs: map[string]plan.AttachedVMI{plan.VMIUUID(&a): {
				Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}, MAC: "02:00:00:00:00:01", Label: 20, Tap: "tap1234",
			}},
			Routes: map[plan.RouteKey]plan.LocalRoute{
				{VRF: "k8s-default-pod-network", Prefix: netip.MustParsePrefix("198.51.100.0/26")}: {Label: 16, Encapsulations: []string{"udp"}},
				{VRF: "k8s-default-pod-network", Prefix: netip.MustParsePrefix("203.0.113.10/32")}: {Label: 17, Encapsulations: []string{"udp"}, VMIs: []string{plan.VMIUUID(&a)}},
			},
		}},
	}
	in.Cluster.Services[0].Outside = plan.Outside{LoadBalancer: true, Pool: &plan.FQName{Name: "pool"}, Ingress: []netip.Addr{netip.MustParseAddr("192.0.2.200")}}
	in.Cluster.VirtualNetworks = []plan.VirtualNetwork{{
		Meta: plan.Meta{Namespace: "demo", Name: "public", UID: "uid-public"}, External: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.192/27")}, RouteTargets: []string{"target:64512:1"},
	}}
	in.Cluster.Pools = []plan.FloatingIPPool{{Meta: plan.Meta{Namespace: "demo", Name: "pool", UID: "uid-pool"}, Network: "public"}}
	out := plan.Build(in)
	for _, r := range out.Intents.Sets["node/n1"] {
		if r.Name == plan.VMIUUID(&a) { // acknowledged
			v := in.Reports["n1"].VMIs[r.Name]
			v.PortMaps = map[plan.PortMapKey]uint16{}
			for _, vip := range []string{"203.0.113.10", "192.0.2.200"} {
				v.PortMaps[plan.PortMapKey{VIP: netip.MustParseAddr(vip), Protocol: plan.TCP, Port: 8888}] = 80
			}
			in.Reports["n1"].VMIs[r.Name] = v
		}
	}
	in.Memory = out.Memory
	return plan.Build(in).Model
}

func server(m *plan.Model, leases ...plan.Lease) *Server {
	return New(Config{
		Model:  func() *plan.Model { return m },
		Leases: func() []plan.Lease { return leases },
		Status: func() Status {
			return Status{Version: "1", Cluster: "k8s", State: "running", Agents: []Agent{}, Problems: []Problem{}, Leases: []Lease{}}
		},
		Log: slog.New(slog.DiscardHandler),
	})
}

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://controller.example:8082"+path, nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("%s: %s", path, ct)
	}
	return w.Code, w.Body.String()
}

// TestGolden walks every list, each object of it, and compares with files.
func TestGolden(t *testing.T) {
	s := server(model(), leases...)
	for _, kind := range append(kinds[:], "") {
		var text bytes.Buffer
		path := "/" + kind + "s"
		if kind == "" {
			path = "/"
		}
		_, list := get(t, s, path)
		fmt.Fprintf(&text, "GET %s\n%s", path, list)
		if kind != "" && kind != "routing-instance" { // that list has the whole objects
			_, detail := get(t, s, path+"?detail=true")
			fmt.Fprintf(&text, "\nGET %s?detail=true\n%s", path, detail)
		}
		file := filepath.Join("testdata", strings.TrimPrefix(kind+".txt", "/"))
		if kind == "" {
			file = filepath.Join("testdata", "index.txt")
		}
		if *update {
			if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, text.Bytes()) {
			t.Errorf("%s differs (go test -update writes it anew):\n%s", file, text.String())
		}
	}
}

// TestEveryReferenceLeadsSomewhere follows all hrefs from the root.
func TestEveryReferenceLeadsSomewhere(t *testing.T) {
	s := server(model(), leases...)
	seen := map[string]bool{}
	todo := []string{"/"}
	href := regexp.MustCompile(`"(?:parent_)?href": "http://controller\.example:8082([^"]*)"`)
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		code, body := get(t, s, path)
		if code != http.StatusOK || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s", path, code, body)
		}
		for _, m := range href.FindAllStringSubmatch(body, -1) {
			todo = append(todo, m[1])
		}
	}
	if len(seen) < 25 {
		t.Error("the walk was short:", seen)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := server(model(), leases...)
	for path, want := range map[string]string{
		"/loadbalancer/none": "no loadbalancer has the uuid none",
		"/loadbalancer":      "there is nothing at /loadbalancer",
		"/xs":                "there is nothing at /xs",
		"/x/y":               "there is nothing at /x/y",
		"/s":                 "there is nothing at /s",
	} {
		if code, body := get(t, s, path); code != http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/loadbalancers", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

func TestAnEmptyModel(t *testing.T) {
	s := server(&plan.Model{Cluster: "k8s"})
	for _, kind := range kinds {
		if code, body := get(t, s, "/"+kind+"s"); code != http.StatusOK || strings.Join(strings.Fields(body), "") != `{"`+kind+`s":[]}` {
			t.Errorf("%s: %d %s", kind, code, body)
		}
	}
}
