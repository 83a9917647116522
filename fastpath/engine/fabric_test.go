package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

// addFabric makes a device that stands for the fabric's NIC, and its vif.
func (n *node) addFabric(t *testing.T) table.Vif {
	t.Helper()
	run(t, "ip -n "+n.ns+" link add fab0 mtu 1500 address 02:00:00:00:00:09 type veth peer name fab1")
	run(t, "ip -n "+n.ns+" link set fab0 up; ip -n "+n.ns+" link set fab1 up")
	return table.Vif{
		ID: 100, Kind: table.VifFabric, Name: "fab0", Ifindex: n.ifindex(t, "fab0"), VRF: 1, NH: 100,
		MAC: table.MAC{2, 0, 0, 0, 0, 9}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.200")}, MTU: 1500,
	}
}

func fabricNetwork(v table.Vif) *table.Delta {
	return &table.Delta{Upsert: table.State{
		VRFs: []table.VRF{{ID: 1, Name: "net1"}}, Vifs: []table.Vif{v},
		NextHops: []table.NextHop{{ID: 100, Type: table.NHDiscard}},
	}}
}

// TestFabricLives walks fabric.io: afxdp through a killed fast path, a change of the
// configuration and back, and the loss of the device.
func TestFabricLives(t *testing.T) {
	n := newNode(t, 2)
	v := n.addFabric(t)
	native := func() bool { return strings.Contains(run(t, "ip -n "+n.ns+" link show fab0"), "prog/xdp") }
	live := func(afxdp bool, epoch uint64) *client {
		t.Helper()
		n.cfg.FabricXDP = afxdp
		n.start(t)
		c := dial(t, n.socket())
		c.hello()
		c.replay(epoch, fabricNetwork(v))
		if native() != afxdp {
			t.Fatalf("afxdp %v: native XDP on the device: %v", afxdp, native())
		}
		limits := strings.Join(c.status().Limits, " ")
		if strings.Contains(limits, "the kernel copies each tunnel packet") != afxdp {
			t.Errorf("afxdp %v: limits %q", afxdp, limits)
		}
		return c
	}
	for epoch, afxdp := range []bool{true, true, false, true} {
		c := live(afxdp, uint64(epoch)+1)
		if afxdp {
			c.drop("fabric-rx-ring-full")
		}
		n.kill()
		if native() != afxdp {
			t.Error("the program went with its process")
		}
	}
	live(true, 9)
	run(t, "ip -n "+n.ns+" link del fab0")
	await(t, "the fast path ends", func() bool { return !listens(n.socket()) })
	n.kill()
}

// TestFabricRefused: where the device has no native XDP, tunnel packets take the punt
// link, and status says why.
func TestFabricRefused(t *testing.T) {
	n := newNode(t, 1)
	n.cfg.FabricXDP = true
	n.start(t)
	c := dial(t, n.socket())
	c.hello()
	v := n.addFabric(t)
	run(t, "ip -n "+n.ns+" link add name br9 type bridge")
	v.Name, v.Ifindex = "br9", n.ifindex(t, "br9")
	c.replay(1, fabricNetwork(v))
	if l := strings.Join(c.status().Limits, " "); !strings.Contains(l, "fabric.io: afxdp is not possible, tunnel packets take the punt link: AF_XDP on br9: attach") {
		t.Errorf("limits %q", l)
	}
	for _, s := range c.ask(control.Request{Vifs: &control.Empty{}}).Vifs {
		if !s.Attached {
			t.Errorf("vif %d is not attached", s.ID)
		}
	}
}
