package veth

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/table"
)

// The attachment's alias is what GC and DEL live on.
func TestAliasIsReadBack(t *testing.T) {
	o := Owner{ContainerID: strings.Repeat("a", 64), Ifname: "eth0.100"}
	if got, ok := ParseOwner(o.String()); !ok || got != o {
		t.Errorf("got %+v", got)
	}
	for _, alias := range []string{"", "vrouter:", "vrouter:a", "vrouter::b", "vrouter:a:", "other:a:b"} {
		if _, ok := ParseOwner(alias); ok {
			t.Errorf("%q is taken for ours", alias)
		}
	}
}

// A plan is refused whole, before anything is touched.
func TestPlanValidate(t *testing.T) {
	good := func() *Plan {
		return &Plan{
			Owner:    Owner{"a", "eth0"},
			Tap:      "tap1",
			MAC:      table.MAC{2, 0, 0, 0, 0, 1},
			MTU:      1400,
			Addrs:    []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			Gateways: []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")},
			Routes:   []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Plan){
		"longer than an interface's alias": func(p *Plan) { p.Owner.ContainerID = strings.Repeat("x", 250) },
		`tap "" is not a name`:             func(p *Plan) { p.Tap = "" },
		"is not a name of an interface":    func(p *Plan) { p.Tap = "tap0123456789012" },
		"is not a unicast one":             func(p *Plan) { p.MAC[0] = 1 },
		"MAC 00:00:00:00:00:00":            func(p *Plan) { p.MAC = table.MAC{} },
		"no address":                       func(p *Plan) { p.Addrs = nil },
		"2001:db8::1 has no gateway":       func(p *Plan) { p.Gateways = p.Gateways[:1] },
		"0.0.0.0/0 has no gateway":         func(p *Plan) { p.Addrs, p.Gateways = p.Addrs[1:], p.Gateways[1:] },
		"::ffff:192.0.2.1 has no gateway":  func(p *Plan) { p.Addrs[0] = netip.MustParseAddr("::ffff:192.0.2.1") },
	} {
		p := good()
		spoil(p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s…", err, want)
		}
	}
}
