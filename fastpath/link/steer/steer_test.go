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

// ping reports whether one of a few echo requests is answered.
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
			if !ping(a, b.Addr) || !ping(b, a.Addr6) {
				t.Error("ping is not answered")
			}
			if got := r.largest.Load(); got != uint64(c.mtu+14) {
				t.Errorf("the largest frame had %d bytes, want %d: sends are cut to the pod's MTU", got, c.mtu+14)
			}
			if c.mtu > 3840 && r.multi.Load() == 0 {
				t.Error("no frame came in several chunks")
			}
			if n := r.broken.Load(); n != 0 {
				t.Errorf("%d of %d frames came with a wrong checksum", n, r.forwarded.Load())
			}
			if n := r.astray.Load(); n != 0 {
				t.Errorf("%d of %d frames came to another worker than their owner", n, r.forwarded.Load())
			}
			wantDrops(t, s, nil)
		})
	}
}

// wantDrops compares all steering counters with want; what is not there is 0.
func wantDrops(t testing.TB, s *steer.Steer, want map[string]uint64) {
	t.Helper()
	all, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Count != want[d.Name] {
			t.Errorf("drop %s is %d, want %d", d.Name, d.Count, want[d.Name])
		}
	}
}
