package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// TestPaths sends every kind of packet between pods of one node and of two.
func TestPaths(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client")
	for _, to := range []*testbed.Pod{l.Pod("web1"), l.Pod("web3")} {
		for _, addr := range []netip.Addr{to.Four, to.Six} {
			t.Run(fmt.Sprintf("%s/%s", to.Name, family(addr)), func(t *testing.T) {
				target := net.JoinHostPort(addr.String(), echoPort)
				t.Run("tcp", func(t *testing.T) { checkTCP(t, client, target, addr) })
				t.Run("udp", func(t *testing.T) { checkUDP(t, client.Place, target) })
				t.Run("icmp", func(t *testing.T) { checkPing(t, client.Place, addr) })
				t.Run("sctp", func(t *testing.T) { checkSCTP(t, client, to, addr) })
			})
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "v4"
	}
	return "v6"
}

// checkTCP wants 64 KB to come back, and the server to see the pod's own address.
func checkTCP(t *testing.T, from *testbed.Pod, target string, addr netip.Addr) {
	k, err := connect(from.Place, target, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	want := from.Four
	if addr.Is6() {
		want = from.Six
	}
	if k.seen.Addr() != want {
		t.Errorf("the server sees %v, the client is %v", k.seen.Addr(), want)
	}
	for _, size := range []int{1, 64 << 10, 1 << 20} {
		if err := k.echo(size); err != nil {
			t.Fatalf("echo of %d bytes: %v", size, err)
		}
	}
}

// checkUDP sends datagrams from one byte to the largest there is; large ones
// travel as fragments.
func checkUDP(t *testing.T, from *testbed.Place, target string) {
	for _, size := range []int{1, 1400, 1441, 4000, 60000} {
		sent := randomBytes(size)
		got, err := ask(from, target, sent)
		if err != nil {
			t.Fatalf("echo of %d bytes: %v", size, err)
		}
		if !bytes.Equal(sent, got) {
			t.Fatalf("%d bytes came back as %d others", size, len(got))
		}
	}
}

func checkPing(t *testing.T, from *testbed.Place, addr netip.Addr) {
	for _, size := range []int{56, 1400, 20000} {
		if _, err := from.Run(context.Background(), "ping", "-n", "-c", "3", "-i", "0.05", "-W", "3", "-s", strconv.Itoa(size), addr.String()); err != nil {
			t.Errorf("ping with %d bytes: %v", size, err)
		}
	}
}

// checkSCTP sends a crafted SCTP packet and wants it on the other side as it
// was. This kernel has no SCTP sockets; raw ones do.
func checkSCTP(t *testing.T, from, to *testbed.Pod, addr netip.Addr) {
	network, any := "ip4:132", "0.0.0.0"
	if addr.Is6() {
		network, any = "ip6:132", "::"
	}
	receiver, err := to.ListenPacket(network, any)
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	sender, err := from.ListenPacket(network, any)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	packet := sctpInit(40000, 7007)
	if _, err := sender.WriteTo(packet, &net.IPAddr{IP: addr.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	_ = receiver.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, _, err := receiver.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf[:n], packet) {
		t.Errorf("sent %x\n got %x", packet, buf[:n])
	}
}

// TestHost lets a node and its pods talk, and a node and the pods of the other.
func TestHost(t *testing.T) {
	l := cluster(t)
	node1, node2 := l.Nodes["node1"], l.Nodes["node2"]
	web1, web3 := l.Pod("web1"), l.Pod("web3")
	for _, c := range []struct {
		from *testbed.Place
		to   netip.Addr
		name string
	}{
		{node1.Place, web1.Four, "web1"}, {node1.Place, web1.Six, "web1"},
		{node1.Place, web3.Four, "web3"}, {node1.Place, web3.Six, "web3"},
		{node2.Place, web1.Four, "web1"},
		{web1.Place, netip.MustParseAddr(node1.Address), "node1"},
		{web1.Place, netip.MustParseAddr(node2.Address), "node2"},
		{web3.Place, netip.MustParseAddr(node1.Address), "node1"},
	} {
		t.Run(fmt.Sprintf("%s to %s %s", c.from.Name, c.name, family(c.to)), func(t *testing.T) {
			k, err := connect(c.from, net.JoinHostPort(c.to.String(), echoPort), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if k.server != c.name {
				t.Errorf("%s answers for %s", k.server, c.name)
			}
			if err := k.echo(64 << 10); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOutside lets pods of both nodes reach a host outside, which sees the
// node's address.
func TestOutside(t *testing.T) {
	l := cluster(t)
	for _, name := range []string{"client", "web3"} {
		for _, outside := range []string{testbed.OutsideAddress, testbed.OutsideSix} {
			t.Run(name+" to "+outside, func(t *testing.T) {
				pod := l.Pod(name)
				k, err := connect(pod.Place, net.JoinHostPort(outside, echoPort), 0)
				if err != nil {
					t.Fatal(err)
				}
				defer k.Close()
				if err := k.echo(64 << 10); err != nil {
					t.Error(err)
				}
				if a := k.seen.Addr(); a.Is4() && a.String() != pod.Node.Address || a == pod.Six {
					t.Errorf("the outside sees %v, not node %s", a, pod.Node.Address)
				}
			})
		}
	}
}

// TestTraceroute wants to see the node's router and then the pod.
func TestTraceroute(t *testing.T) {
	l := cluster(t)
	target := l.Pod("web3").Four.String()
	out, err := l.Pod("client").Run(context.Background(), "traceroute", "-n", "-q", "1", "-w", "2", "-m", "5", target)
	if err != nil {
		t.Fatal(err)
	}
	hops := strings.Split(strings.TrimSpace(out), "\n")[1:]
	if len(hops) < 2 || strings.Contains(hops[0], "*") || !strings.Contains(hops[len(hops)-1], target+" ") {
		t.Errorf("want a router, then %s:\n%s", target, out)
	}
}

// TestFragNeeded checks that a pod hears of a smaller MTU on its way, of ours
// and of a router's far away.
func TestFragNeeded(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	client := l.Pod("client")
	t.Run("outside", func(t *testing.T) {
		if _, err := l.Underlay.Run(ctx, "ip", "link", "set", "outside", "mtu", "1300"); err != nil {
			t.Fatal(err)
		}
		defer l.Underlay.Run(ctx, "ip", "link", "set", "outside", "mtu", strconv.Itoa(l.MTU))
		checkFragNeeded(t, client.Place, testbed.OutsideAddress, 1372, 1300)
	})
	t.Run("overlay", func(t *testing.T) {
		setPodMTU(t, client, l.MTU)
		defer setPodMTU(t, client, l.MTU-32)
		checkFragNeeded(t, client.Place, l.Pod("web4").Four.String(), l.MTU-28, l.MTU-32)
	})
}

// setPodMTU changes both ends: the kernel does not take from a veth what its
// peer could not send.
func setPodMTU(t *testing.T, p *testbed.Pod, mtu int) {
	t.Helper()
	tap := vifOf(t, p).Name
	for place, device := range map[*testbed.Place]string{p.Node.Place: tap, p.Place: "eth0"} {
		if _, err := place.Run(context.Background(), "ip", "link", "set", device, "mtu", strconv.Itoa(mtu)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFragNeeded pings with DF set and wants to be told the MTU.
func checkFragNeeded(t *testing.T, from *testbed.Place, to string, size, mtu int) {
	t.Helper()
	out, err := from.Run(context.Background(), "ping", "-n", "-M", "do", "-c", "2", "-W", "2", "-s", strconv.Itoa(size), to)
	if err == nil {
		t.Fatalf("a packet of %d bytes passed:\n%s", size+28, out)
	}
	if !strings.Contains(out, fmt.Sprintf("mtu = %d", mtu)) && !strings.Contains(out, fmt.Sprintf("mtu=%d", mtu)) {
		t.Errorf("want to be told of MTU %d:\n%s", mtu, out)
	}
	if _, err := from.Run(context.Background(), "ping", "-n", "-M", "do", "-c", "1", "-W", "2", "-s", strconv.Itoa(mtu-28), to); err != nil {
		t.Errorf("a packet of exactly %d bytes: %v", mtu, err)
	}
}
