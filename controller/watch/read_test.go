package watch

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

var someTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func born(objectKey) time.Time { return someTime }

func TestParse(t *testing.T) {
	text, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(text, born)
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	meta := func(kind, ns, name string) plan.Meta {
		return plan.Meta{Namespace: ns, Name: name, UID: plan.Derive(kind, ns, name), Created: someTime}
	}
	want := &plan.Cluster{
		Namespaces: []plan.Namespace{{Meta: meta("Namespace", "", "demo")}},
		Nodes: []plan.Node{{
			Meta: meta("Node", "", "n1"), Address: netip.MustParseAddr("192.0.2.1"),
			Others: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.2")},
		}},
		Pods: []plan.Pod{
			{Meta: plan.Meta{Namespace: "demo", Name: "web", UID: "6f2c", Created: time.Date(2025, 5, 6, 7, 8, 9, 0, time.UTC)}, Node: "n1"},
			{Meta: meta("Pod", "default", "host"), HostNetwork: true},
			{Meta: meta("Pod", "default", "job"), Node: "n1", Finished: true},
		},
		Services: []plan.Service{
			{
				Meta:  meta("Service", "demo", "web"),
				VIPs:  []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8:2::10")},
				Ports: []plan.ServicePort{{Name: "http", Protocol: plan.TCP, Port: 80}, {Name: "dns", Protocol: plan.UDP, Port: 53}, {Name: "m3ua", Protocol: plan.SCTP, Port: 2905}},
			},
			{Meta: meta("Service", "demo", "headless"), Headless: true, PublishNotReady: true},
			{Meta: meta("Service", "demo", "external"), External: true},
			{Meta: meta("Service", "demo", "foreign"), Foreign: true, VIPs: []netip.Addr{netip.MustParseAddr("203.0.113.11")}},
		},
		Slices: []plan.EndpointSlice{{
			Meta: meta("EndpointSlice", "demo", "web-1"), Service: "web",
			Ports: []plan.EndpointPort{{Name: "http", Protocol: plan.TCP, Port: 8080}, {Name: "any", Protocol: plan.UDP}},
			Endpoints: []plan.Endpoint{
				{Address: netip.MustParseAddr("198.51.100.2"), Ready: &yes, Node: "n1", Pod: &plan.PodRef{Namespace: "demo", Name: "web", UID: "6f2c"}},
				{Address: netip.MustParseAddr("198.51.100.3"), Ready: &no, Serving: &yes, Terminating: &yes},
			},
		}},
		VirtualNetworks: []plan.VirtualNetwork{{
			Meta: meta("VirtualNetwork", "demo", "public"), Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")},
			RouteTargets: []string{"target:64512:100"}, External: true, SNAT: true,
		}},
		Pools:    []plan.FloatingIPPool{{Meta: meta("FloatingIPPool", "demo", "outside"), Network: "public"}},
		Unserved: []plan.Unserved{{Meta: meta("NetworkPolicy", "demo", "strict"), Kind: "NetworkPolicy"}, {Meta: meta("Ingress", "demo", "strict"), Kind: "Ingress"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestErrorsNameDocumentAndField(t *testing.T) {
	for name, x := range map[string]struct{ text, want string }{
		"unknown field":    {podText + "---\n" + strings.Replace(serviceText, "clusterIP", "clusterIp", 1), `document 2 (line 5): Service demo/web: unknown field "spec.clusterIp"`},
		"deep field":       {strings.Replace(podText, "image:", "imagePullpolicy: Always, image:", 1), `document 1 (line 1): Pod demo/web: unknown field "spec.containers[0].imagePullpolicy"`},
		"duplicate key":    {"apiVersion: v1\nkind: Pod\nkind: Pod\n", `document 1: line 3: key "kind" already set in map`},
		"line of the file": {podText + "---\napiVersion: v1\nkind: Pod\nkind: Pod\nkind: Pod\n", `document 2: line 8: key "kind" already set in map; line 9: key "kind" already set in map`},
		"unknown anchor":   {podText + "---\na: *b\n", "document 2 (line 5): unknown anchor 'b' referenced"},
		"wrong type":       {strings.Replace(serviceText, "port: 80", "port: eighty", 1), "document 1 (line 1): Service demo/web: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32"},
		"no YAML":          {"a: [", "document 1: line 1: did not find expected node content"},
		"other kind":       {"apiVersion: apps/v1\nkind: Deployment\n", `document 1 (line 1): kind "Deployment" of apiVersion "apps/v1" is not read here`},
		"no kind":          {"metadata: {name: x}\n", "document 1 (line 1): field apiVersion, kind: missing"},
		"no object":        {"just text\n", "document 1 (line 1): is no Kubernetes object"},
		"empty":            {"# nothing\n---\n", "holds no object; remove the file to remove what it held"},
		"no name":          {"apiVersion: v1\nkind: Pod\n", "Pod : field metadata.name: missing"},
		"bad name":         {"apiVersion: v1\nkind: Pod\nmetadata: {name: ../x}\n", "field metadata.name"},
		"bad namespace":    {"apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: a/b}\n", "field metadata.namespace"},
		"namespaced node":  {"apiVersion: v1\nkind: Node\nmetadata: {name: x, namespace: demo}\n", "a Node has none"},
		"bad VIP":          {strings.Replace(serviceText, "203.0.113.10", "203.0.113.1000", 1), `field spec.clusterIPs[0]: "203.0.113.1000" is no address`},
		"loopback VIP":     {strings.Replace(serviceText, "203.0.113.10", "127.0.0.1", 1), "field spec.clusterIPs[0]: 127.0.0.1 is no address that can be reached"},
		"two first VIPs":   {strings.Replace(serviceText, "  ports", "  clusterIPs: [203.0.113.11]\n  ports", 1), "is not spec.clusterIP"},
		"bad protocol":     {strings.Replace(serviceText, "port: 80", "protocol: HTTP, port: 80", 1), `field spec.ports[0].protocol: "HTTP" is neither TCP, UDP nor SCTP`},
		"bad port":         {strings.Replace(serviceText, "port: 80", "port: 0", 1), "field spec.ports[0].port: 0 is no port"},
		"bad type":         {strings.Replace(serviceText, "  ports", "  type: Clusterip\n  ports", 1), "field spec.type"},
		"bad slice type":   {slice("addressType: IPv5"), "field addressType"},
		"family":           {slice("addressType: IPv6\nendpoints: [{addresses: [198.51.100.1]}]"), "field endpoints[0].addresses[0]: 198.51.100.1 is not of the slice's addressType"},
		"no address":       {slice("addressType: IPv4\nendpoints: [{addresses: []}]"), "field endpoints[0].addresses: none"},
		"slice port":       {slice("addressType: IPv4\nports: [{port: 70000}]"), "field ports[0].port: 70000 is no port"},
		"list item":        {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {nam: b}}\n", `items[1]: Pod : unknown field "metadata.nam"`},
		"node address":     {"apiVersion: v1\nkind: Node\nmetadata: {name: x}\nstatus: {addresses: [{type: InternalIP, address: nowhere}]}\n", "field status.addresses[0].address"},
		"network field":    {"apiVersion: vragent.io/v1alpha1\nkind: VirtualNetwork\nmetadata: {name: x}\nspec: {subnet: 198.51.100.0/24}\n", `VirtualNetwork x: unknown field "spec.subnet"`},
		"subnet":           {"apiVersion: vragent.io/v1alpha1\nkind: VirtualNetwork\nmetadata: {name: x}\nspec: {subnets: [198.51.100.1/24]}\n", "field spec.subnets[0]: 198.51.100.1/24 has host bits"},
		"pool's network":   {"apiVersion: vragent.io/v1alpha1\nkind: FloatingIPPool\nmetadata: {name: x}\nspec: {}\n", "field spec.virtualNetwork: missing"},
		"two faults":       {strings.Replace(serviceText, "port: 80", "protocol: HTTP, port: 0", 1), `"HTTP" is neither TCP, UDP nor SCTP; field spec.ports[0].port: 0 is no port`},
		"Windows newlines": {"apiVersion: v1\r\nkind: Pod\r\nmetadata: {name: a}\r\n---\r\nkind: X\r\n", "document 2 (line 4)"},
	} {
		_, err := parse([]byte(x.text), born)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s:\n got %v\nwant %s", name, err, x.want)
		}
	}
}

func slice(more string) string {
	return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: web}}\n" + more + "\n"
}

func TestDocuments(t *testing.T) {
	for _, x := range []struct {
		text string
		want [][2]int // number, line
	}{
		{"", nil},
		{"a: 1", [][2]int{{1, 1}}},
		{"---\na: 1\n", [][2]int{{1, 1}}},
		{"# head\n---\na: 1\n--- # next\nb: 2\n---\n# none\n---\nc: 3", [][2]int{{1, 2}, {2, 4}, {4, 8}}},
		{"a: |\n  ---\n  text\n", [][2]int{{1, 1}}},
	} {
		docs, err := split([]byte(x.text))
		var got [][2]int
		for _, d := range docs {
			got = append(got, [2]int{d.number, d.line})
		}
		if err != nil || !reflect.DeepEqual(got, x.want) {
			t.Errorf("%q: %v %v", x.text, got, err)
		}
	}
}

// The examples are manifests that anybody may start from.
func TestExamplesAreRead(t *testing.T) {
	c, problems := Read(filepath.Join("..", "..", "conf", "examples", "demo"))
	if c == nil || len(problems) > 0 || len(c.Nodes) != 2 || len(c.Services) == 0 {
		t.Error(c, problems)
	}
}

// FuzzManifest: any text is read or refused with one line that names a
// document, and what is read goes through a plan.
func FuzzManifest(f *testing.F) {
	all, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(all))
	f.Add(podText + "---\n" + serviceText)
	f.Add(slice("addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [198.51.100.1]}]"))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse([]byte(text), born)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		again, err := parse([]byte(text), born)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Error("read twice, it differs", err)
		}
		config := plan.Config{Cluster: "k8s", PodSubnets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, BlockBits4: 26}
		plan.Build(plan.Input{Config: config, Cluster: c})
	})
}
