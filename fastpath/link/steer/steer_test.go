package steer_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/table"
)

// transfer sends size bytes from one pod to another over TCP and compares hashes.
func transfer(t testing.TB, from, to *pod, addr netip.Addr, size int64) {
	t.Helper()
	l := listen(t, to, addr, 8080)
	defer l.Close()
	type sum struct {
		hash [32]byte
		n    int64
		err  error
	}
	got := make(chan sum, 1)
	go func() {
		var s sum
		c, err := l.Accept()
		if err != nil {
			got <- sum{err: err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(60 * time.Second))
		h := sha256.New()
		s.n, s.err = io.Copy(h, c)
		copy(s.hash[:], h.Sum(nil))
		got <- s
	}()
	c, err := dial(t, from, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	h := sha256.New()
	src := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
	if _, err := io.Copy(io.MultiWriter(c, h), src); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	s := <-got
	if s.err != nil || s.n != size || string(s.hash[:]) != string(h.Sum(nil)) {
		t.Fatalf("received %d of %d bytes, hash equal: %v, error: %v", s.n, size, string(s.hash[:]) == string(h.Sum(nil)), s.err)
	}
}

// ping reports whether an echo request is answered within a second.
func ping(from *pod, to netip.Addr) bool {
	return exec.Command("nsenter", "--net=/run/netns/"+from.NS, "ping", "-c", "1", "-W", "1", "-n", to.String()).Run() == nil
}

// TestForward: real TCP between two pods of a node, segments of large sends included,
// with every frame at its owner.
func TestForward(t *testing.T) {
	for _, c := range []struct{ queues, mtu int }{{1, 1500}, {2, 1500}, {2, 9000}} {
		t.Run(fmt.Sprintf("%d queues MTU %d", c.queues, c.mtu), func(t *testing.T) {
			n := newNode(t, "n", c.queues)
			a, b := n.addPod(t, 1, c.mtu), n.addPod(t, 2, c.mtu)
			s := n.open(t)
			r := startRouter(t, n, s)
			n.attach(t, s, a)
			n.attach(t, s, b)
			for _, to := range []netip.Addr{b.Addr, b.Addr6} {
				for range 4 { // other ports, other owners
					transfer(t, a, b, to, 8<<20)
				}
			}
			await(t, "answers to ping", func() bool { return ping(a, b.Addr) && ping(b, a.Addr6) })
			if got := r.largest.Load(); got != uint64(c.mtu+14) {
				t.Errorf("the largest frame had %d bytes, want %d: sends are cut to the pod's MTU", got, c.mtu+14)
			}
			if c.mtu > 3840 && r.multi.Load() == 0 {
				t.Error("no frame came in several chunks")
			}
			if broken := r.broken.Load(); broken != 0 {
				t.Errorf("%d of %d frames came with a wrong checksum", broken, r.forwarded.Load())
			}
			if astray := r.astray.Load(); astray != 0 {
				t.Errorf("%d of %d frames came to another worker than their owner", astray, r.forwarded.Load())
			}
			n.wantDrops(t, s, nil)
		})
	}
}

// addHost makes the node itself a vif: vhost0 with an address, routes to the pods,
// and a tap like a pod's.
func (n *node) addHost(t testing.TB, id int) *pod {
	t.Helper()
	h := &pod{NS: n.NS, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(id)}), Addr6: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", id))}
	mac := table.MAC{2, 0, 0, 0, 0, byte(id)}
	run(t, fmt.Sprintf("ip -n %s link add tapvhost0 mtu 1500 type veth peer name vhost0 mtu 1500 address %s", n.NS, mac))
	n.quiet(t, "tapvhost0")
	for _, c := range []string{
		"link set vhost0 up",
		fmt.Sprintf("addr add %s/32 dev vhost0", h.Addr),
		fmt.Sprintf("addr add %s/128 dev vhost0 nodad", h.Addr6),
		"neigh replace 169.254.1.1 lladdr " + table.RouterMAC.String() + " dev vhost0",
		fmt.Sprintf("route add 192.0.2.0/24 via 169.254.1.1 dev vhost0 onlink src %s", h.Addr),
		"-6 neigh replace fe80::1 lladdr " + table.RouterMAC.String() + " dev vhost0",
		fmt.Sprintf("-6 route add 2001:db8::/64 via fe80::1 dev vhost0 src %s", h.Addr6),
	} {
		run(t, "ip -n "+n.NS+" "+c)
	}
	h.Vif = table.Vif{ID: table.VifID(id), Kind: table.VifHost, Name: "tapvhost0", Ifindex: n.ifindex(t, "tapvhost0"), MAC: mac, MTU: 1500}
	n.Pods = append(n.Pods, h)
	return h
}

// TestHost: the host is a vif too. Its sockets know many queues, and still each
// frame comes to its owner.
func TestHost(t *testing.T) {
	n := newNode(t, "n", 2)
	a, h := n.addPod(t, 1, 1500), n.addHost(t, 250)
	s := n.open(t)
	r := startRouter(t, n, s)
	n.attach(t, s, a)
	n.attach(t, s, h)
	for range 3 {
		transfer(t, a, h, h.Addr, 4<<20)
		transfer(t, h, a, a.Addr, 4<<20)
		transfer(t, h, a, a.Addr6, 4<<20)
	}
	for _, p := range []*pod{a, h} {
		datagrams(t, p, n.Pods)
	}
	if broken := r.broken.Load(); broken != 0 {
		t.Errorf("%d of %d frames came with a wrong checksum", broken, r.forwarded.Load())
	}
	if astray := r.astray.Load(); astray != 0 {
		t.Errorf("%d of %d frames came to another worker than their owner", astray, r.forwarded.Load())
	}
	n.wantDrops(t, s, nil)
}

// datagrams sends from one unconnected socket to many ports, and from a connected one.
func datagrams(t *testing.T, from *pod, to []*pod) {
	t.Helper()
	in(t, from.NS, func() {
		c, err := net.ListenPacket("udp4", netip.AddrPortFrom(from.Addr, 0).String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for port := range uint16(100) {
			for _, p := range to {
				c.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Addr, 10000+port)))
			}
		}
	})
	for _, p := range to {
		if p != from {
			udpSend(t, from.NS, netip.AddrPortFrom(p.Addr, 9), make([]byte, 1400))
		}
	}
}

// wantDrops compares all steering counters with want; what is not there is 0.
func (n *node) wantDrops(t testing.TB, s *steer.Steer, want map[string]uint64) {
	t.Helper()
	for _, d := range n.stats(t, s) {
		if d.Count != want[d.Name] {
			t.Errorf("drop %s is %d, want %d", d.Name, d.Count, want[d.Name])
		}
	}
}
