package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/integration/testbed"
)

// offloading skips unless the kernel forwards: OFFLOAD=auto or force.
func offloading(t *testing.T) *testbed.Lab {
	t.Helper()
	l := cluster(t)
	s, err := l.Nodes["node1"].FastPath()
	if err != nil {
		t.Fatal(err)
	}
	if s.Offload.Mode == "off" {
		t.Skip("the kernel forwards nothing: OFFLOAD=auto or force")
	}
	return l
}

// bulk moves so much each way round that it is bulk by any measure.
const bulk = 4 << 20 // bytes

// offloaded echoes over k until both directions are the kernel's on the node, and
// returns what it says of them.
func offloaded(t *testing.T, n *testbed.Node, k *talk, to string) [2]control.Flow {
	t.Helper()
	var pair [2]control.Flow
	err := testbed.Until(context.Background(), 10*time.Second, func() error {
		if err := k.echo(bulk); err != nil {
			return err
		}
		pair = flowPair(t, n, k.seen, netip.MustParseAddrPort(to))
		if !pair[0].Offloaded || !pair[1].Offloaded {
			return fmt.Errorf("%s: offloaded %v and %v", n.Name, pair[0].Offloaded, pair[1].Offloaded)
		}
		// The hand-over of a flow at rest waits for its packets, or the flow may be changing hands.
		before := received(t, n, "punt1")
		if err := k.echo(bulk); err != nil {
			return err
		}
		if more := received(t, n, "punt1") - before; more > few {
			return fmt.Errorf("%s: offloaded, and %d packets come to the workers", n.Name, more)
		}
		pair = flowPair(t, n, k.seen, netip.MustParseAddrPort(to))
		return nil
	})
	if err != nil {
		s, _ := n.FastPath()
		t.Fatalf("%v; %+v, limits %q", err, s.Offload, s.Limits)
	}
	return pair
}

// few is how many packets may come to workers while the kernel forwards a transfer.
const few = 300

// TestOffloadBulk: bulk flows of every kind become the kernel's, both ways, on both
// nodes; the workers see next to none of their packets, and the counters all.
func TestOffloadBulk(t *testing.T) {
	l := offloading(t)
	for name, c := range map[string]struct {
		to    string
		nodes []string
	}{
		"same node": {net.JoinHostPort(l.Pod("web1").Four.String(), echoPort), []string{"node1"}},
		"other":     {net.JoinHostPort(l.Pod("web3").Four.String(), echoPort), []string{"node1", "node2"}},
		"VIP":       {echoVIP + ":7", []string{"node1"}},
		"IPv6":      {net.JoinHostPort(l.Pod("web1").Six.String(), echoPort), []string{"node1"}},
		"IPv6 far":  {net.JoinHostPort(l.Pod("web3").Six.String(), echoPort), []string{"node1"}},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := connect(l.Pod("client").Place, c.to, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			for _, node := range c.nodes {
				offloaded(t, l.Nodes[node], k, c.to)
			}
			n := l.Nodes[c.nodes[0]]
			time.Sleep(1200 * time.Millisecond) // news come once a second: the counters before are those of now
			was := flowPair(t, n, k.seen, netip.MustParseAddrPort(c.to))
			rounds := uint64(0)
			err = testbed.Until(context.Background(), 5*time.Second, func() error { // a flow changes hands when it rests
				rounds++
				punted := received(t, n, "punt1")
				if err := k.echo(bulk); err != nil {
					return err
				}
				if seen := received(t, n, "punt1") - punted; seen > few {
					return fmt.Errorf("%d packets came to the workers", seen)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			err = testbed.Until(context.Background(), 5*time.Second, func() error {
				now := flowPair(t, n, k.seen, netip.MustParseAddrPort(c.to))
				for i := range now {
					if got := now[i].Bytes - was[i].Bytes; got < rounds*bulk || got > rounds*bulk*5/4 || now[i].IdleMS > 4000 {
						return fmt.Errorf("entry %d grew by %d bytes and %d packets, idle %d ms", i, got, now[i].Packets-was[i].Packets, now[i].IdleMS)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOffloadBackendGoes: an offloaded flow to a backend that is removed is reset within a second.
func TestOffloadBackendGoes(t *testing.T) {
	l := offloading(t)
	k, _ := remoteTalk(t, l, singleVIP+":7")
	offloaded(t, l.Nodes["node1"], k, singleVIP+":7")
	removeMember(t, l, "51-service-single.yaml", k.server)
	waitMembers(t, l, singleVIP, len(everyServer)-1)
	began := time.Now()
	var err error
	for err == nil && time.Since(began) < 10*time.Second {
		err = k.echo(1000)
	}
	if err == nil || time.Since(began) > time.Second {
		t.Errorf("the connection ended %v after its backend was removed: %v", time.Since(began), err)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it ended with %v, want a reset", err)
	}
}

// TestOffloadBothKilled: with agent and fast path dead, what the kernel forwards goes
// on; their successors take it over.
func TestOffloadBothKilled(t *testing.T) {
	l := offloading(t)
	n := l.Nodes["node1"]
	to := net.JoinHostPort(l.Pod("web3").Four.String(), echoPort)
	k, err := connect(l.Pod("client").Place, to, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	before := offloaded(t, n, k, to)
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	s, err := n.FastPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := k.echo(bulk); err != nil {
			t.Errorf("while both are dead: %v", err)
		}
	}
	restartAgent(t, l, n)
	if err := k.echo(bulk); err != nil {
		t.Fatalf("with both back: %v", err)
	}
	if s, err := n.FastPath(); err != nil || s.Offload.Adopted == 0 {
		t.Errorf("the successor adopted no flow of the kernel: %+v, %v", s, err)
	}
	after := offloaded(t, n, k, to)
	if got := after[0].Bytes - before[0].Bytes; got < 6*bulk {
		t.Errorf("the counters grew by %d bytes, want at least %d: what the kernel forwarded meanwhile as well", got, 6*bulk)
	}
}
