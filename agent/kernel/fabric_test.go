package kernel

import (
	"net/netip"
	"strings"
	"testing"
)

// The fabric's interface is found by the node's address, or by the default route.
func TestFabricInterface(t *testing.T) {
	needRoot(t)
	pair(t, "fab1", "192.0.2.1/24", "192.0.2.254/24")
	pair(t, "fab2", "198.51.100.1/24", "198.51.100.254/24")
	for _, name := range []string{"fab1", "fab2"} {
		sh(t, "ip link set "+name+" up")
	}
	if name, err := FabricInterface(netip.MustParseAddr("198.51.100.1")); err != nil || name != "fab2" {
		t.Errorf("by address: %q %v", name, err)
	}
	if _, err := FabricInterface(netip.MustParseAddr("198.51.100.7")); err == nil || !strings.Contains(err.Error(), "fabric.interface") {
		t.Errorf("an address nobody has: %v", err)
	}
	if _, err := FabricInterface(netip.Addr{}); err == nil || !strings.Contains(err.Error(), "no default route") {
		t.Errorf("no default route: %v", err)
	}
	sh(t, "ip route add default via 192.0.2.254 metric 200")
	sh(t, "ip route add default via 198.51.100.254 metric 100")
	if name, err := FabricInterface(netip.Addr{}); err != nil || name != "fab2" {
		t.Errorf("by default route: %q %v", name, err)
	}
}
