package integration

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// The services of conf/examples/demo and testdata/manifests.
const (
	webVIP      = "10.96.0.10" // 8888 -> 80 on all, 9999 -> 90 on web1 and web3
	emptyVIP    = "10.96.0.11"
	echoVIP     = "10.96.0.12" // 7 -> 7007 in TCP, UDP, SCTP
	echoSix     = "fd00:10:96::12"
	singleVIP   = "10.96.0.13" // one listener
	externalVIP = "10.96.0.14" // backend outside the cluster
)

var everyServer = []string{"web1", "web2", "web3", "web4", "web5"}

// sample makes n connections and counts who answered.
func sample(t *testing.T, from *testbed.Place, addr string, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for i := range n {
		k, err := connect(from, addr, 0)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		seen[k.server]++
		_ = k.Close()
	}
	return seen
}

// TestServiceShares wants every backend served, and evenly per pod.
func TestServiceShares(t *testing.T) {
	l := cluster(t)
	for _, c := range []struct{ from, addr string }{
		{"client", webVIP + ":8888"},
		{"client", "[" + echoSix + "]:7"},
		{"web3", singleVIP + ":7"},
	} {
		t.Run(c.from+" to "+c.addr, func(t *testing.T) {
			seen := sample(t, l.Pod(c.from).Place, c.addr, 200)
			for _, name := range everyServer {
				if n := seen[name]; n < 20 || n > 60 {
					t.Errorf("%s got %d of 200", name, n)
				}
			}
			if len(seen) != len(everyServer) {
				t.Errorf("answers from %v", seen)
			}
		})
	}
}

// TestServicePorts wants each port of a VIP to have its own backends.
func TestServicePorts(t *testing.T) {
	l := cluster(t)
	seen := sample(t, l.Pod("client").Place, webVIP+":9999", 60)
	if seen["web1"] < 10 || seen["web3"] < 10 || len(seen) != 2 {
		t.Errorf("port 9999 was answered by %v, its backends are web1 and web3", seen)
	}
}

// TestServiceCarriesEveryProtocol moves 64 KB each way through the VIP, until
// a local and a remote backend have had their turn.
func TestServiceCarriesEveryProtocol(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client")
	for _, vip := range []string{echoVIP, echoSix} {
		addr := net.JoinHostPort(vip, "7")
		t.Run("tcp "+vip, func(t *testing.T) {
			untilBothSides(t, l, func() (string, error) {
				k, err := connect(client.Place, addr, 0)
				if err != nil {
					return "", err
				}
				defer k.Close()
				return k.server, k.echo(64 << 10)
			})
		})
		t.Run("udp "+vip, func(t *testing.T) {
			untilBothSides(t, l, func() (string, error) { return who(client.Place, addr) })
			checkUDP(t, client.Place, addr)
		})
	}
}

// untilBothSides repeats a call until backends of both nodes have answered it.
func untilBothSides(t *testing.T, l *testbed.Lab, call func() (server string, err error)) {
	t.Helper()
	seen := map[*testbed.Node]bool{}
	for range 60 {
		name, err := call()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		pod := l.Pod(name)
		if pod == nil {
			t.Fatalf("%q answered, which is no backend", name)
		}
		if seen[pod.Node] = true; len(seen) == len(l.Nodes) {
			return
		}
	}
	t.Fatalf("60 calls reached only %d node", len(seen))
}

// TestServiceSCTP sends crafted packets to the VIP and answers one of them: its
// address and port are translated both ways, and the CRC is right.
func TestServiceSCTP(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client")
	sender, err := client.ListenPacket("ip4:132", "0.0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	arrived := make(chan net.PacketConn, len(everyServer))
	from := make(chan net.Addr, len(everyServer))
	for _, name := range everyServer {
		receiver, err := l.Pod(name).ListenPacket("ip4:132", "0.0.0.0")
		if err != nil {
			t.Fatal(err)
		}
		defer receiver.Close()
		go func() {
			buf := make([]byte, 2048)
			n, addr, err := receiver.ReadFrom(buf)
			if err == nil && n >= 12 && string(buf[:n]) == string(sctpInit(41000, 7007)) {
				arrived <- receiver
				from <- addr
			}
		}()
	}
	vip := &net.IPAddr{IP: net.ParseIP(echoVIP)}
	if _, err := sender.WriteTo(sctpInit(41000, 7), vip); err != nil {
		t.Fatal(err)
	}
	select {
	case receiver := <-arrived:
		if _, err := receiver.WriteTo(sctpInit(7007, 41000), <-from); err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("no backend got the packet with port 7007 and a right CRC")
	}
	_ = sender.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, addr, err := sender.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if want := sctpInit(7, 41000); addr.String() != echoVIP || string(buf[:n]) != string(want) {
		t.Errorf("the reply from %v:\n got %x\nwant %x", addr, buf[:n], want)
	}
}

// TestServiceRefusals wants an answer at once where there is nothing to reach.
func TestServiceRefusals(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client").Place
	for _, c := range []struct {
		name, network, addr string
		want                []syscall.Errno
	}{
		{"no backend, tcp", "tcp", emptyVIP + ":80", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no listener on a service of several, tcp", "tcp", webVIP + ":7777", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no listener on a service of several, udp", "udp", webVIP + ":7777", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no listener on a service of one, tcp", "tcp", singleVIP + ":8", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no listener on a service of one, udp", "udp", singleVIP + ":7", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no listener, v6", "tcp", "[" + echoSix + "]:8", []syscall.Errno{syscall.ECONNREFUSED}},
		{"no such service", "tcp", "10.96.9.9:80", []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ECONNREFUSED}},
		{"no such pod on this node", "tcp", nobody(l.Pod("client").Four) + ":80", []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH}},
		{"no such pod on the other node", "tcp", nobody(l.Pod("web3").Four) + ":80", []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH}},
	} {
		t.Run(c.name, func(t *testing.T) {
			started := time.Now()
			err := tryOnce(client, c.network, c.addr)
			took := time.Since(started)
			for _, want := range c.want {
				if errors.Is(err, want) {
					if took > time.Second {
						t.Errorf("the answer took %v", took)
					}
					return
				}
			}
			t.Errorf("after %v: %v, want %v", took, err, c.want)
		})
	}
}

// tryOnce connects, or sends a datagram, and returns what the network says.
func tryOnce(from *testbed.Place, network, addr string) error {
	if strings.HasPrefix(network, "udp") {
		_, err := ask(from, addr, []byte("who?"))
		return err
	}
	c, err := from.Dial(&net.Dialer{Timeout: patience}, network, addr)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// nobody is an address of the same block that no pod has.
func nobody(a netip.Addr) string {
	b := a.As4()
	b[3] |= 0x3f // the last of the block of 64
	return netip.AddrFrom4(b).String()
}

// TestHairpin lets a server reach itself through its own VIP; it then sees the
// VIP as the client.
func TestHairpin(t *testing.T) {
	l := cluster(t)
	for _, vip := range []string{echoVIP, echoSix} {
		t.Run(vip, func(t *testing.T) {
			for range 100 {
				k, err := connect(l.Pod("web1").Place, net.JoinHostPort(vip, "7"), 0)
				if err != nil {
					t.Fatal(err)
				}
				defer k.Close()
				if k.server != "web1" {
					continue
				}
				if k.seen.Addr().String() != vip {
					t.Errorf("web1 sees %v as its client, want the VIP", k.seen)
				}
				if err := k.echo(64 << 10); err != nil {
					t.Error(err)
				}
				return
			}
			t.Fatal("100 connections, none to web1 itself")
		})
	}
}

// TestExternalBackend reaches a backend that is no pod.
func TestExternalBackend(t *testing.T) {
	l := cluster(t)
	for _, from := range []string{"client", "web3"} {
		k, err := connect(l.Pod(from).Place, externalVIP+":7", 0)
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if err := k.echo(64 << 10); err != nil || k.server != "outside" {
			t.Errorf("%s: %s answered, %v", from, k.server, err)
		}
		_ = k.Close()
	}
}

// TestHostReachesService connects from both nodes themselves.
func TestHostReachesService(t *testing.T) {
	l := cluster(t)
	for name, n := range l.Nodes {
		t.Run(name, func(t *testing.T) {
			if seen := sample(t, n.Place, webVIP+":8888", 40); len(seen) != len(everyServer) {
				t.Errorf("40 connections were answered by %v", seen)
			}
		})
	}
}

// TestConsistentChoice removes one of five backends: no flow of the other four
// moves, and new connections of the same ports stay with the backend they had,
// but for those of the one that went.
func TestConsistentChoice(t *testing.T) {
	l := cluster(t)
	client := l.Pod("client").Place
	const first, count = 20000, 500
	open := map[int]*talk{}
	for port := first; port < first+count; port++ {
		k, err := connect(client, singleVIP+":7", port)
		if err != nil {
			t.Fatalf("port %d: %v", port, err)
		}
		defer k.Close()
		open[port] = k
	}
	removeMember(t, l, "51-service-single.yaml", "web4")
	waitMembers(t, l, singleVIP, 4)
	for port, k := range open {
		if k.server == "web4" {
			continue
		}
		if err := k.echo(100); err != nil {
			t.Errorf("the connection of port %d to %s broke: %v", port, k.server, err)
		}
	}
	moved := 0
	for port := first; port < first+count; port++ {
		before := open[port].server
		_ = open[port].Conn.(*net.TCPConn).SetLinger(0)
		_ = open[port].Close()
		k, err := connect(client, singleVIP+":7", port)
		if err != nil {
			t.Fatalf("port %d again: %v", port, err)
		}
		_ = k.Conn.(*net.TCPConn).SetLinger(0)
		_ = k.Close()
		if before != "web4" && k.server != before {
			moved++
		}
		if k.server == "web4" {
			t.Errorf("port %d: web4 still gets connections", port)
		}
	}
	if moved*20 > count {
		t.Errorf("%d of %d new connections map elsewhere, at most 5 %%", moved, count)
	}
	t.Logf("%d of %d moved", moved, count)
}
