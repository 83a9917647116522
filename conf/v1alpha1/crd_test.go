package v1alpha1_test

import (
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/vragent/vragent/conf/v1alpha1"
	"github.com/vragent/vragent/controller/watch/kube/apitest"
)

func network(name, spec string) string {
	return "apiVersion: vragent.io/v1alpha1\nkind: VirtualNetwork\nmetadata: {namespace: default, name: " + name + "}\nspec: " + spec + "\n"
}

func pool(name, spec string) string {
	return strings.Replace(network(name, spec), "VirtualNetwork", "FloatingIPPool", 1)
}

func block(name, spec string) string {
	return "apiVersion: vragent.io/v1alpha1\nkind: IPBlock\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// taken and refused are tried in this order: a later row may change an earlier one's object.
var rows = []struct{ name, object, refusal string }{
	{"a network", network("red", `{subnets: [198.51.100.0/25, "2001:db8:1::/64"], routeTargets: ["target:64512:100", "target:4200000000:65535"]}`), ""},
	{"another subnet", network("red", `{subnets: [198.51.100.0/25, "2001:db8:1::/64", 198.51.100.128/25], routeTargets: ["target:64512:4294967295"]}`), ""},
	{"a removed subnet", network("red", `{subnets: [198.51.100.0/25]}`), "subnets may be added, not removed or changed: pods and services hold addresses of them; make another network instead"},
	{"a network that becomes external", network("red", `{external: true, subnets: [198.51.100.0/25, "2001:db8:1::/64", 198.51.100.128/25]}`), "a network stays external or internal; make another network instead"},
	{"SNAT off", network("red", `{snat: false, subnets: [198.51.100.0/25, "2001:db8:1::/64", 198.51.100.128/25]}`), ""},
	{"the same addresses again", network("blue", `{subnets: [198.51.100.0/24]}`), ""},
	{"an external network", network("public", `{external: true, subnets: [203.0.113.0/24]}`), ""},
	{"no subnet", network("x", `{subnets: []}`), "spec.subnets in body should have at least 1 items"},
	{"no spec", "apiVersion: vragent.io/v1alpha1\nkind: VirtualNetwork\nmetadata: {namespace: default, name: x}\n", "spec: Required value"},
	{"no prefix", network("x", `{subnets: [198.51.100.0]}`), "198.51.100.0 is no prefix in CIDR form, such as 10.0.0.0/16 or 2001:db8::/64"},
	{"host bits", network("x", `{subnets: [198.51.100.1/24]}`), "spec.subnets[0]: Invalid value: \"string\": 198.51.100.1/24 has host bits: the address must be the first of the prefix, as in 10.0.0.0/16"},
	{"host bits, IPv6", network("x", `{subnets: ["2001:db8::1/64"]}`), "2001:db8::1/64 has host bits"},
	{"everything", network("x", `{subnets: [0.0.0.0/0]}`), "is not of addresses that hosts may have"},
	{"multicast", network("x", `{subnets: ["ff00::/16"]}`), "is not of addresses that hosts may have"},
	{"overlap", network("x", `{subnets: [198.51.100.0/24, 198.51.100.128/25]}`), "two subnets overlap"},
	{"twice", network("x", `{subnets: [198.51.100.0/24, 198.51.100.0/24]}`), "two subnets overlap"},
	{"a route target without number", network("x", `{subnets: [198.51.100.0/24], routeTargets: ["64512:100"]}`), "64512:100 is no route target, such as target:64512:100"},
	{"a number too large", network("x", `{subnets: [198.51.100.0/24], routeTargets: ["target:65536:65536"]}`), "has a number that is too large"},
	{"an AS too large", network("x", `{subnets: [198.51.100.0/24], routeTargets: ["target:4294967296:1"]}`), "has a number that is too large"},
	{"a long name", network(strings.Repeat("x", 64), `{subnets: [198.51.100.0/24]}`), "metadata.name has at most 63 characters"},
	{"an unknown field", network("x", `{subnets: [198.51.100.0/24], subnet: y}`), ".spec.subnet"},

	{"a pool", pool("outside", `{virtualNetwork: public, subnets: [203.0.113.0/25]}`), ""},
	{"a pool that grows", pool("outside", `{virtualNetwork: public, subnets: [203.0.113.0/25, 203.0.113.128/26]}`), ""},
	{"a pool that shrinks", pool("outside", `{virtualNetwork: public, subnets: [203.0.113.128/26]}`), "a pool may grow, not shrink"},
	{"a pool of all", pool("outside", `{virtualNetwork: public}`), ""},
	{"a pool of less than all", pool("outside", `{virtualNetwork: public, subnets: [203.0.113.0/25]}`), "a pool may grow, not shrink"},
	{"another network", pool("outside", `{virtualNetwork: red}`), "a pool stays with its network; make another pool instead"},
	{"a pool of nothing", pool("x", `{}`), "spec.virtualNetwork: Required value"},
	{"a pool's host bits", pool("x", `{virtualNetwork: public, subnets: [203.0.113.1/25]}`), "has host bits"},

	{"a block", block("b", `{network: k8s-default-pod-network, node: n1, prefix: 198.51.100.0/26}`), ""},
	{"the same block", block("b", `{network: k8s-default-pod-network, node: n1, prefix: 198.51.100.0/26}`), ""},
	{"a block of another node", block("b", `{network: k8s-default-pod-network, node: n2, prefix: 198.51.100.0/26}`), "a block is given whole, once"},
	{"a block of no node", block("c", `{network: k8s-default-pod-network, prefix: 198.51.100.0/26}`), "spec.node: Required value"},
	{"a block's host bits", block("c", `{network: red, node: n1, prefix: 198.51.100.1/26}`), "198.51.100.1/26 has host bits"},
}

// The API server itself refuses what is broken, and says why.
func TestTheAPIServerRefusesBrokenObjects(t *testing.T) {
	s := apitest.Start(t)
	s.Define(t, "../../packaging/helm/vragent/crds")
	for _, r := range rows {
		err := s.Try(r.object)
		switch {
		case r.refusal == "" && err != nil:
			t.Errorf("%s: %v", r.name, err)
		case r.refusal != "" && err == nil:
			t.Errorf("%s is taken", r.name)
		case r.refusal != "" && !strings.Contains(err.Error(), r.refusal):
			t.Errorf("%s:\n got %v\nwant %s", r.name, err, r.refusal)
		}
	}
}

func TestIPBlockName(t *testing.T) {
	seen := map[string]bool{}
	for _, space := range []string{"k8s-default-pod-network", "k8s-a:b", "k8s-a-b"} {
		for _, p := range []string{"198.51.100.0/26", "198.51.100.64/26", "198.51.100.0/27", "2001:db8::/122", "2001:db8::40/122"} {
			name := v1alpha1.IPBlockName(space, netip.MustParsePrefix(p))
			if errs := validation.IsDNS1123Label(name); len(errs) > 0 || seen[name] {
				t.Error(name, errs)
			}
			seen[name] = true
		}
	}
}
