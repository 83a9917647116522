package convert

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/plan"
)

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// converted reads YAML and converts it, without what every object has.
func converted[O, T any](t *testing.T, reduce func(*O) (T, error), text string) (T, error) {
	t.Helper()
	var o O
	if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return reduce(&o)
}

var named = plan.Meta{Name: "x"}

func annotated(name, value string) string {
	return "metadata: {name: x, annotations: {" + name + ": " + value + "}}\n"
}

func TestNetworkAnnotation(t *testing.T) {
	const example = `; an example: {"domain":"default-domain","project":"k8s-demo","name":"red"}`
	for _, x := range []struct {
		value string
		want  *plan.FQName
		fault string // after the annotation's name, before the example
	}{
		{`'{"domain":"default-domain","project":"k8s-demo","name":"red"}'`, &plan.FQName{Domain: "default-domain", Project: "k8s-demo", Name: "red"}, ""},
		{`'{"name":"red"}'`, &plan.FQName{Name: "red"}, ""},
		{`"{'domain':'default-domain', 'project': 'k8s-demo', 'name':'red'}"`, &plan.FQName{Domain: "default-domain", Project: "k8s-demo", Name: "red"}, ""},
		{`red`, nil, `"red" cannot be read: invalid character 'r' looking for beginning of value`},
		{`""`, nil, `"" cannot be read: EOF`},
		{`"{}"`, nil, `"name" is missing`},
		{`'{"name":"red","colour":"blue"}'`, nil, `"{\"name\":\"red\",\"colour\":\"blue\"}" cannot be read: unknown field "colour"`},
		{`'{"name":"red"} {}'`, nil, `"{\"name\":\"red\"} {}" goes on behind its end`},
		{`'{"name":"red","network":"blue"}'`, nil, `"network" is a part of a pool's name, not of a network's`},
		{`'["default-domain","k8s-demo","red"]'`, nil, `"[\"default-domain\",\"k8s-demo\",\"red\"]" cannot be read: it is of the wrong type, array`},
	} {
		text := annotated(network, x.value)
		p, err := converted(t, Pod, text)
		n, err2 := converted(t, Namespace, text)
		var want []string
		if x.fault != "" {
			want = []string{"annotation opencontrail.org/network: " + x.fault + example}
		}
		if err != nil || err2 != nil || !reflect.DeepEqual(p.Network, x.want) || !reflect.DeepEqual(n.Network, x.want) ||
			!reflect.DeepEqual(p.Faults, want) || !reflect.DeepEqual(n.Faults, want) {
			t.Errorf("%s:\n got %+v %q %v\nwant %+v %q", x.value, p.Network, p.Faults, err, x.want, want)
		}
	}
}

func TestPoolAnnotation(t *testing.T) {
	text := annotated(fipPool, `"{'domain':'default-domain','project':'k8s-demo','network':'public','name':'outside'}"`)
	want := &plan.FQName{Domain: "default-domain", Project: "k8s-demo", Network: "public", Name: "outside"}
	s, err := converted(t, Service, text)
	n, err2 := converted(t, Namespace, text)
	if err != nil || err2 != nil || !reflect.DeepEqual(s.Outside.Pool, want) || !reflect.DeepEqual(n.Pool, want) {
		t.Error(s.Outside.Pool, n.Pool, err, err2)
	}
	s, err = converted(t, Service, annotated(fipPool, "public"))
	if err != nil || s.Outside.Pool != nil || len(s.Faults) != 1 || !strings.Contains(s.Faults[0], "annotation opencontrail.org/fip-pool: ") {
		t.Error(s, err)
	}
}

func TestIsolationAnnotations(t *testing.T) {
	for _, x := range []struct {
		annotations    string
		isolated, open bool
		faults         int
	}{
		{``, false, false, 0},
		{`opencontrail.org/isolation: "true"`, true, false, 0},
		{`opencontrail.org/isolation: "True", opencontrail.org/isolation.service: "false"`, true, true, 0},
		{`opencontrail.org/isolation: "false", opencontrail.org/isolation.service: "true"`, false, false, 0},
		{`opencontrail.org/isolation: "yes", opencontrail.org/isolation.service: ""`, false, false, 2},
	} {
		n, err := converted(t, Namespace, "metadata: {name: x, annotations: {"+x.annotations+"}}\n")
		if err != nil || n.Isolated != x.isolated || n.OpenServices != x.open || len(n.Faults) != x.faults {
			t.Errorf("%s: %+v %v", x.annotations, n, err)
		}
	}
}

func TestAddressesAnnotation(t *testing.T) {
	for _, x := range []struct {
		value string
		want  []netip.Addr
		fault string
	}{
		{`'["192.0.2.10","2001:db8::10"]'`, addrs("192.0.2.10", "2001:db8::10"), ""},
		{`"['192.0.2.10']"`, addrs("192.0.2.10"), ""},
		{`192.0.2.10`, addrs("192.0.2.10"), ""},
		{`"2001:db8::10, 192.0.2.10"`, addrs("2001:db8::10", "192.0.2.10"), ""},
		{`"192.0.2.10,192.0.2.11"`, nil, "192.0.2.10 and 192.0.2.11 are of one family; a pod has one address of each"},
		{`"[]"`, nil, "names no address"},
		{`""`, nil, `"" is no address`},
		{`127.0.0.1`, nil, "127.0.0.1 is no address that can be reached (unspecified, loopback, link-local or multicast)"},
		{`"[192.0.2.10]"`, nil, `"[192.0.2.10]" cannot be read: invalid character '.' after array element`},
	} {
		p, err := converted(t, Pod, annotated(addresses, x.value))
		var want []string
		if x.fault != "" {
			want = []string{"annotation vragent.io/addresses: " + x.fault + `; an example: ["192.0.2.10","2001:db8::10"]`}
		}
		if err != nil || !reflect.DeepEqual(p.Addresses, x.want) || !reflect.DeepEqual(p.Faults, want) {
			t.Errorf("%s:\n got %v %q %v\nwant %v %q", x.value, p.Addresses, p.Faults, err, x.want, want)
		}
	}
}

func TestPod(t *testing.T) {
	p, err := converted(t, Pod, `metadata: {name: x}
spec: {nodeName: n1, containers: []}
status: {phase: Failed, podIPs: [{ip: 198.51.100.2}, {ip: "2001:db8::2"}]}
`)
	if want := (plan.Pod{Meta: named, Node: "n1", Finished: true, IPs: addrs("198.51.100.2", "2001:db8::2")}); err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v %v", p, err)
	}
	p, err = converted(t, Pod, annotated(network, "nonsense")+"spec: {nodeName: n1, hostNetwork: true, containers: []}\nstatus: {podIPs: [{ip: 192.0.2.1}]}\n")
	if want := (plan.Pod{Meta: named, Node: "n1", HostNetwork: true}); err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("a pod on the host's network: %+v %v", p, err)
	}
}

func TestNode(t *testing.T) {
	n, err := converted(t, Node, `metadata: {name: x, labels: {topology.kubernetes.io/zone: east}}
status: {addresses: [{type: InternalIP, address: "fe80::1"}, {type: ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 192.0.2.1}]}
`)
	want := plan.Node{Meta: named, Address: netip.MustParseAddr("192.0.2.1"), Others: addrs("203.0.113.1"), Zone: "east"}
	if err == nil || !strings.HasPrefix(err.Error(), "field status.addresses[0].address: fe80::1 is no address that can be reached") || !reflect.DeepEqual(n, want) {
		t.Errorf("what can be read of a node: %+v %v", n, err)
	}
}

func TestService(t *testing.T) {
	port := []plan.ServicePort{{Port: 80, Protocol: plan.TCP}}
	for _, x := range []struct {
		name, spec string
		want       plan.Service
		err        string
	}{
		{"affinity", `{sessionAffinity: ClientIP, ports: [{port: 80}]}`, plan.Service{Ports: port, AffinitySeconds: 10800}, ""},
		{"affinity for a while", `{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ports: [{port: 80}]}`, plan.Service{Ports: port, AffinitySeconds: 60}, ""},
		{"affinity for ever", `{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, ports: [{port: 80}]}`, plan.Service{Ports: port, AffinitySeconds: 10800}, "86401 is not between 1 and 86400"},
		{"no affinity", `{sessionAffinity: None, ports: [{port: 80}]}`, plan.Service{Ports: port}, ""},
		{"odd affinity", `{sessionAffinity: Cookie, ports: [{port: 80}]}`, plan.Service{Ports: port}, `"Cookie" is neither None nor ClientIP`},
		{"policies", `{internalTrafficPolicy: Local, externalTrafficPolicy: Local, ports: [{port: 80}]}`,
			plan.Service{Ports: port, InternalLocal: true, Outside: plan.Outside{Local: true}}, ""},
		{"node port", `{type: NodePort, ports: [{port: 80, nodePort: 30080}]}`,
			plan.Service{Ports: []plan.ServicePort{{Port: 80, NodePort: 30080, Protocol: plan.TCP}}}, ""},
		{"no node port", `{type: NodePort, ports: [{port: 80, nodePort: 70000}]}`, plan.Service{Ports: port}, "field spec.ports[0].nodePort: 70000 is no port"},
		{"external addresses", `{externalIPs: [203.0.113.7, nonsense, "2001:db8::7"], ports: [{port: 80}]}`,
			plan.Service{Ports: port, Outside: plan.Outside{IPs: addrs("203.0.113.7", "2001:db8::7")}}, `field spec.externalIPs[1]: "nonsense" is no address`},
		{"load balancer", `{type: LoadBalancer, loadBalancerIP: 203.0.113.9, loadBalancerSourceRanges: [192.0.2.0/24], healthCheckNodePort: 32000, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.9}, {hostname: example.com}]}}`,
			plan.Service{Ports: port, Outside: plan.Outside{LoadBalancer: true, Wanted: netip.MustParseAddr("203.0.113.9"), HealthPort: 32000, SourceRanges: true, Ingress: addrs("203.0.113.9")}}, ""},
		{"our class", `{type: LoadBalancer, loadBalancerClass: vragent.io/native, ports: [{port: 80}]}`, plan.Service{Ports: port, Outside: plan.Outside{LoadBalancer: true}}, ""},
		{"another class", `{type: LoadBalancer, loadBalancerClass: example.com/cloud, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.8, ipMode: Proxy}, {ip: 203.0.113.9, ipMode: VIP}]}}`,
			plan.Service{Ports: port, Outside: plan.Outside{OtherClass: true, Ingress: addrs("203.0.113.9")}}, ""},
		{"a wish that is no address", `{type: LoadBalancer, loadBalancerIP: any, ports: [{port: 80}]}`,
			plan.Service{Meta: plan.Meta{Faults: []string{`field spec.loadBalancerIP: "any" is no address`}}, Ports: port, Outside: plan.Outside{LoadBalancer: true}}, ""},
		{"two faults", `{type: Odd, ports: [{port: 0}, {port: 80}]}`, plan.Service{Ports: port}, "field spec.type: \"Odd\" is none\nfield spec.ports[0].port: 0 is no port"},
	} {
		got, err := converted(t, Service, "metadata: {name: x}\nspec: "+x.spec+"\n")
		x.want.Name = "x"
		if !reflect.DeepEqual(got, x.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", x.name, got, x.want)
		}
		if (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: %v, want %q", x.name, err, x.err)
		}
	}
}

// One endpoint that cannot be read does not hide the others.
func TestSlice(t *testing.T) {
	s, err := converted(t, Slice, `metadata: {name: x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 0}, {name: http, port: 80}]
endpoints:
- {addresses: ["2001:db8::1"]}
- {addresses: [198.51.100.2], hints: {forZones: [{name: east}, {name: west}], forNodes: [{name: n1}]}}
`)
	want := plan.EndpointSlice{
		Meta: named, Service: "web", Ports: []plan.EndpointPort{{Name: "http", Protocol: plan.TCP, Port: 80}},
		Endpoints: []plan.Endpoint{{Address: netip.MustParseAddr("198.51.100.2"), HintZones: []string{"east", "west"}, HintNodes: []string{"n1"}}},
	}
	if !reflect.DeepEqual(s, want) || err == nil ||
		err.Error() != "field ports[0].port: 0 is no port\nfield endpoints[0].addresses[0]: 2001:db8::1 is not of the slice's addressType" {
		t.Errorf("%+v %v", s, err)
	}
	for _, text := range []string{
		"metadata: {name: x}\naddressType: IPv4\nendpoints: []\n",
		"metadata: {name: x, labels: {kubernetes.io/service-name: web}}\naddressType: FQDN\nendpoints: []\n",
	} {
		if _, err := converted(t, func(o *discoveryv1.EndpointSlice) (plan.EndpointSlice, error) { return Slice(o) }, text); !errors.Is(err, ErrNotOurs) {
			t.Error(text, err)
		}
	}
}

func TestUnserved(t *testing.T) {
	for text, ours := range map[string]bool{
		"metadata: {name: x}\n": true,
		"metadata: {name: x}\nspec: {ingressClassName: opencontrail}\n":               true,
		annotated(ingressClass, "opencontrail"):                                       true,
		"metadata: {name: x}\nspec: {ingressClassName: other}\n":                      false,
		annotated(ingressClass, "opencontrail") + "spec: {ingressClassName: other}\n": false,
		annotated(ingressClass, "other"):                                              false,
	} {
		got, err := converted(t, func(o *networkingv1.Ingress) (plan.Unserved, error) { return Ingress(o) }, text)
		if ours != (err == nil) || ours && !reflect.DeepEqual(got, plan.Unserved{Meta: named, Kind: "Ingress"}) || !ours && !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	if p, err := NetworkPolicy(&networkingv1.NetworkPolicy{}); err != nil || p.Kind != "NetworkPolicy" {
		t.Error(p, err)
	}
}

func TestVirtualNetwork(t *testing.T) {
	for _, x := range []struct {
		spec string
		want plan.VirtualNetwork
		err  string
	}{
		{`{subnets: [198.51.100.0/24, "2001:db8::/64"], routeTargets: ["target:64512:4294967295", "target:4200000000:65535"]}`, plan.VirtualNetwork{
			Subnets:      []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/64")},
			RouteTargets: []string{"target:64512:4294967295", "target:4200000000:65535"}, SNAT: true,
		}, ""},
		{`{external: true, snat: false, subnets: [203.0.113.0/24]}`, plan.VirtualNetwork{External: true, Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, ""},
		{`{subnets: []}`, plan.VirtualNetwork{SNAT: true}, "field spec.subnets: none; a network has at least one"},
		{`{subnets: [198.51.100.1/24]}`, plan.VirtualNetwork{SNAT: true}, "field spec.subnets[0]: 198.51.100.1/24 has host bits; the prefix is 198.51.100.0/24"},
		{`{subnets: [198.51.100.1]}`, plan.VirtualNetwork{SNAT: true}, `field spec.subnets[0]: "198.51.100.1" is no prefix in CIDR form, such as 10.0.0.0/16`},
		{`{subnets: [0.0.0.0/0]}`, plan.VirtualNetwork{SNAT: true}, "is not of addresses that hosts may have"},
		{`{subnets: ["fe80::/64"]}`, plan.VirtualNetwork{SNAT: true}, "is not of addresses that hosts may have"},
		{`{subnets: [198.51.100.0/24, 198.51.100.128/25]}`, plan.VirtualNetwork{SNAT: true, Subnets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
			"field spec.subnets[1]: 198.51.100.128/25 overlaps 198.51.100.0/24"},
		{`{subnets: [203.0.113.0/24], routeTargets: ["64512:100"]}`, plan.VirtualNetwork{SNAT: true, Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
			`field spec.routeTargets[0]: "64512:100" is no route target, such as target:64512:100`},
		{`{subnets: [203.0.113.0/24], routeTargets: ["target:65536:65536"]}`, plan.VirtualNetwork{SNAT: true, Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, "is no route target"},
	} {
		got, err := converted(t, VirtualNetwork, "metadata: {name: x}\nspec: "+x.spec+"\n")
		x.want.Meta = named
		if !reflect.DeepEqual(got, x.want) || (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: %+v %v", x.spec, got, err)
		}
	}
}

func TestPoolAndLease(t *testing.T) {
	p, err := converted(t, Pool, "metadata: {name: x}\nspec: {virtualNetwork: public, subnets: [203.0.113.0/25]}\n")
	if want := (plan.FloatingIPPool{Meta: named, Network: "public", Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/25")}}); err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := converted(t, Pool, "metadata: {name: x}\nspec: {virtualNetwork: \"\"}\n"); err == nil {
		t.Error("a pool of no network")
	}
	l, err := converted(t, Lease, "metadata: {name: x}\nspec: {network: red, node: n1, prefix: 198.51.100.0/26}\n")
	if want := (plan.Lease{Network: "red", Node: "n1", Prefix: netip.MustParsePrefix("198.51.100.0/26")}); err != nil || l != want {
		t.Errorf("%+v %v", l, err)
	}
	if l, err := Lease(&v1alpha1.IPBlock{Spec: v1alpha1.IPBlockSpec{Prefix: "nonsense"}}); err == nil || l.Prefix.IsValid() {
		t.Error(l, err)
	}
}

// Nothing that an API server could send makes a conversion panic.
func TestEmptyObjects(t *testing.T) {
	_, _ = Pod(&corev1.Pod{})
	_, _ = Node(&corev1.Node{})
	_, _ = Service(&corev1.Service{})
	_, _ = Namespace(&corev1.Namespace{})
	_, _ = Slice(&discoveryv1.EndpointSlice{})
	_, _ = Ingress(&networkingv1.Ingress{})
	_, _ = VirtualNetwork(&v1alpha1.VirtualNetwork{})
	_, _ = Pool(&v1alpha1.FloatingIPPool{})
	_, _ = Lease(&v1alpha1.IPBlock{})
}
