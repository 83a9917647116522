package kernel

import (
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/agent/compile"
)

// What would cut the node off is refused; what somebody else has more precisely
// is not in danger.
func TestRoutesRefused(t *testing.T) {
	needRoot(t)
	t.Cleanup(func() { _ = RemoveHost("vhost0") })
	if _, err := EnsureHost("vhost0", 1468); err != nil {
		t.Fatal(err)
	}
	if err := hostEndUp("vhost0"); err != nil {
		t.Fatal(err)
	}
	pair(t, "fab0", "203.0.113.1/25", "203.0.113.2/25")
	sh(t, "ip addr add 2001:db8:9::1/64 dev fab0 nodad; ip route add 198.51.100.128/25 via 203.0.113.2; ip route add default via 203.0.113.2")
	t.Cleanup(func() { sh(t, "ip route del default 2>/dev/null || true") })
	host := addrs("192.0.2.1", "2001:db8:1::1")
	if err := SetHostAddrs("vhost0", host); err != nil {
		t.Fatal(err)
	}
	before := sh(t, "ip route show; ip -6 route show")
	external := func(list ...string) (out []compile.External) {
		for _, a := range addrs(list...) {
			out = append(out, compile.External{VIP: a})
		}
		return out
	}
	r := Routes{
		Host: "vhost0", Addrs: host, Kept: addrs("198.51.100.7", "198.51.100.200"),
		Subnets: prefixes("192.0.2.0/24", "192.0.2.0/24", // two networks
			"203.0.113.0/26",  // inside of the link
			"203.0.113.0/25",  // the link
			"203.0.112.0/22",  // around it: the link's route goes before
			"198.51.100.0/24", // a node is there, another one by a better route
			"2001:db8:9::/80", "2001:db8:1::/64"),
		Externals: external("203.0.113.1", "203.0.113.2", "198.51.100.7", "233.252.0.9", "2001:db8:9::1", "2001:db8:5::5"),
	}
	routed, left, err := SetHostRoutes(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := prefixes("192.0.2.0/24", "192.0.2.0/24", "203.0.112.0/22", "2001:db8:1::/64"); !slices.Equal(routed.Subnets, want) {
		t.Errorf("routed %v, expected %v", routed.Subnets, want)
	}
	if want := external("233.252.0.9", "2001:db8:5::5"); !slices.Equal(routed.Externals, want) {
		t.Errorf("external %v, expected %v", routed.Externals, want)
	}
	text := strings.Join(left, "\n")
	for _, want := range []string{
		"subnet 203.0.113.0/26 is not routed to vhost0: it lies in 203.0.113.0/25, which the node has on a link",
		"subnet 203.0.113.0/25 is not", "subnet 2001:db8:9::/80 is not",
		"subnet 198.51.100.0/24 is not routed to vhost0: it covers 198.51.100.7",
		"external address 203.0.113.2 is not", "external address 198.51.100.7 is not",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if len(left) != 6 {
		t.Errorf("%d sentences:\n%s", len(left), text)
	}
	for to, want := range map[string]string{
		"203.0.113.2": "dev fab0", "198.51.100.7": "dev fab0", "192.0.2.9": "dev vhost0", "233.252.0.9": "", "203.0.112.9": "dev vhost0",
	} {
		if got := sh(t, "ip route get "+to); !strings.Contains(got, want) {
			t.Errorf("%s: %s", to, got)
		}
	}
	if _, _, err := SetHostRoutes(Routes{Host: "vhost0", Addrs: host}); err != nil {
		t.Fatal(err)
	}
	if after := sh(t, "ip route show; ip -6 route show"); after != before {
		t.Errorf("routes were\n%s\nand are\n%s", before, after)
	}
}

func TestMarks(t *testing.T) {
	needRoot(t)
	pair(t, "tap00000001", "192.0.2.1/32", "192.0.2.2/32")
	i := link(t, "tap00000001").Attrs().Index
	if marks, err := Marks(); err != nil || len(marks) != 0 {
		t.Errorf("%v %v", marks, err)
	}
	long := "vrouter:" + strings.Repeat("x", 255-8)
	for _, alias := range []string{"vrouter:c:eth0 vmi 192.0.2.1", long} {
		if err := SetMark(i, alias); err != nil {
			t.Fatal(err)
		}
		if marks, err := Marks(); err != nil || marks["tap00000001"] != (Marked{alias, i, 1500}) {
			t.Errorf("%v %v", marks, err)
		}
	}
	if err := SetMark(1<<20, "vrouter:c:eth0"); err == nil {
		t.Error("an interface that is not there is marked")
	}
	if n, err := MutePods(); n != 1 || err != nil {
		t.Error(n, err)
	}
	if !IsNetns("/proc/self/ns/net") || IsNetns("/run/nosuch") || IsNetns(t.TempDir()) {
		t.Error("what is a namespace?")
	}
}
