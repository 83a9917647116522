package record

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	id := strings.Repeat("f", 64)
	full := Mark{
		AttachmentKey: AttachmentKey{id, "eth0"}, VMI: "5b3c1d2e-0000-4000-8000-1234567890ab", Network: "k8s",
		Addrs: []netip.Addr{four, six}, ClusterAddrs: []netip.Addr{netip.MustParseAddr("198.51.100.7")},
		Vif: 12, NH: 4000, Label: 300007,
	}
	hidden, plain, largest := full, full, full
	hidden.Hidden = true
	plain.ClusterAddrs, plain.Network = nil, ""
	largest.ClusterAddrs = []netip.Addr{four, six}
	for _, m := range []Mark{full, hidden, plain, largest} {
		text, ok := m.String()
		if !ok || len(text) > 255 {
			t.Fatalf("%t %d bytes: %s", ok, len(text), text)
		}
		if got, ok := ParseMark(text); !ok || !reflect.DeepEqual(*got, m) {
			t.Errorf("%s\nread as %+v", text, got)
		}
	}
	// What is most needed stays when there is no room for all.
	long := largest
	long.ContainerID = strings.Repeat("f", 90)
	text, ok := long.String()
	got, _ := ParseMark(text)
	if want := (Mark{AttachmentKey: long.AttachmentKey, VMI: long.VMI, Addrs: long.Addrs, ClusterAddrs: long.ClusterAddrs}); !ok || got.VMI != want.VMI || !reflect.DeepEqual(got.Addrs, want.Addrs) {
		t.Errorf("%q: %+v", text, got)
	}
	long.ContainerID = strings.Repeat("f", 150)
	if text, ok := long.String(); ok {
		t.Errorf("a mark of %d bytes: %s", len(text), text)
	}
}

func TestParseMark(t *testing.T) {
	for alias, want := range map[string]*Mark{
		"": nil, "eth0 of somebody": nil, "vrouter:": nil, "vrouter:id": nil, "vrouter::eth0": nil, "vrouter:id: x": nil,
		"vrouter:id:eth0":                   {AttachmentKey: AttachmentKey{"id", "eth0"}},
		"vrouter:id:eth0 vmi nonsense":      {AttachmentKey: AttachmentKey{"id", "eth0"}},
		"vrouter:id:eth0 vmi 192.0.2.1 7/x": {AttachmentKey: AttachmentKey{"id", "eth0"}, VMI: "vmi", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Vif: 7},
	} {
		if got, ok := ParseMark(alias); ok != (want != nil) || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %t", alias, got, ok)
		}
	}
}
