package kernel

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/fastpath/table"
)

func watchUnderlay(t *testing.T) (u *Underlay, changes *atomic.Int64) {
	t.Helper()
	u, changes = NewUnderlay("fab0", slog.New(slog.DiscardHandler)), &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = u.Run(ctx, func() { changes.Add(1) }); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return u, changes
}

// Neighbours are found without any traffic, followed when they change, and
// given up when they do not answer.
func TestUnderlay(t *testing.T) {
	needRoot(t)
	other := pair(t, "fab0", "192.0.2.1/24", "192.0.2.2/24")
	there := peerLink(t, other)
	u, changes := watchUnderlay(t)
	peer, absent := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.77")
	mac := func() table.MAC { return u.Known()[peer].DstMAC }
	u.SetPeers([]netip.Addr{absent})
	u.SetPeers([]netip.Addr{peer, absent})
	eventually(t, "the peer is resolved", func() bool { return mac() == toMAC(there.Attrs().HardwareAddr) })
	n := u.Known()[peer]
	if n.SrcMAC != toMAC(link(t, "fab0").Attrs().HardwareAddr) || n.MTU != 1500 {
		t.Errorf("%+v", n)
	}
	if a := u.Known()[absent]; a.DstMAC != (table.MAC{}) {
		t.Errorf("somebody who is not there has %v", a.DstMAC)
	}

	// The kernel forgets it: what was known stays until it fails to answer.
	if err := netlink.NeighDel(&netlink.Neigh{LinkIndex: link(t, "fab0").Attrs().Index, IP: peer.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	seen := changes.Load()
	eventually(t, "the kernel is asked again", func() bool {
		list, err := netlink.NeighList(link(t, "fab0").Attrs().Index, netlink.FAMILY_V4)
		for _, n := range list {
			if fromIP(n.IP) == peer && len(n.HardwareAddr) == 6 {
				return err == nil
			}
		}
		return false
	})
	if mac() == (table.MAC{}) || changes.Load() != seen {
		t.Errorf("forgotten with the kernel; %d changes", changes.Load()-seen)
	}

	// It gets another card: a gratuitous ARP or the next question tells.
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, "fab0").Attrs().Index, IP: peer.AsSlice(), Family: netlink.FAMILY_V4, State: netlink.NUD_REACHABLE, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new address is taken", func() bool { return mac() == table.MAC{2, 0, 0, 0, 0, 9} })

	// The MTU of the interface, and of a route, are followed.
	sh(t, "ip link set fab0 mtu 1400")
	eventually(t, "the MTU is 1400", func() bool { return u.Known()[peer].MTU == 1400 })
	sh(t, "ip route add 192.0.2.2/32 dev fab0 mtu 1350")
	eventually(t, "the MTU is the route's", func() bool { return u.Known()[peer].MTU == 1350 })
	sh(t, "ip route del 192.0.2.2/32 dev fab0")

	u.SetPeers(nil)
	eventually(t, "nobody is of interest", func() bool { return len(u.Known()) == 0 })
}

func TestUnderlayFailure(t *testing.T) {
	needRoot(t)
	other := pair(t, "fab0", "192.0.2.1/24", "192.0.2.2/24")
	sh(t, "echo 1 > /proc/sys/net/ipv4/neigh/fab0/delay_first_probe_time; echo 100 > /proc/sys/net/ipv4/neigh/fab0/retrans_time_ms")
	u, _ := watchUnderlay(t)
	peer := netip.MustParseAddr("192.0.2.2")
	u.SetPeers([]netip.Addr{peer})
	known := func() bool { return u.Known()[peer].DstMAC != table.MAC{} }
	eventually(t, "the peer is resolved", known)
	if err := other.LinkSetARPOff(peerLink(t, other)); err != nil {
		t.Fatal(err)
	}
	askNeighbour(link(t, "fab0"), peer) // as every half minute
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, "fab0").Attrs().Index, IP: peer.AsSlice(), Family: netlink.FAMILY_V4, State: netlink.NUD_PROBE, HardwareAddr: peerLink(t, other).Attrs().HardwareAddr}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer that does not answer is given up", func() bool { return !known() })
	if err := other.LinkSetARPOn(peerLink(t, other)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", known)
}

// A peer behind a router is reached by the router's address; one that the
// fabric does not lead to is not reached at all.
func TestUnderlayRoutes(t *testing.T) {
	needRoot(t)
	other := pair(t, "fab0", "192.0.2.1/24", "192.0.2.2/24")
	u, _ := watchUnderlay(t)
	far := netip.MustParseAddr("198.51.100.5")
	u.SetPeers([]netip.Addr{far})
	eventually(t, "it is looked for", func() bool { _, ok := u.Known()[far]; return ok })
	if n := u.Known()[far]; n.DstMAC != (table.MAC{}) {
		t.Errorf("no route, but %+v", n)
	}
	sh(t, "ip route add 198.51.100.0/24 via 192.0.2.2")
	eventually(t, "it is behind the router", func() bool {
		return u.Known()[far].DstMAC == toMAC(peerLink(t, other).Attrs().HardwareAddr)
	})
}

func TestLinks(t *testing.T) {
	needRoot(t)
	gone, lost := make(chan int, 100), make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = NewLinks(slog.New(slog.DiscardHandler)).Run(ctx, func(i int) { gone <- i }, func() { lost <- struct{}{} })
		close(ended)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-lost: // the first look
	case <-time.After(5 * time.Second):
		t.Fatal("no first look")
	}
	pair(t, "tap1", "192.0.2.1/32", "192.0.2.2/32")
	index := link(t, "tap1").Attrs().Index
	if err := DeleteTap("tap1"); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case i := <-gone:
			if i == index {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("its end went unnoticed")
		}
	}
}
