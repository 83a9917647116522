package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/testbed"
)

const tapPod = `apiVersion: v1
kind: Pod
metadata:
  namespace: demo
  name: %[1]s
  annotations: {vragent.io/io: %[2]s}
spec:
  nodeName: %[3]s
  containers:
  - name: server
    image: example.com/server
`

// podWith attaches a pod with the annotation, and serves in it.
func podWith(t *testing.T, l *testbed.Lab, name, io, node string) *testbed.Pod {
	t.Helper()
	ctx := context.Background()
	manifest := "60-" + name + ".yaml"
	if err := l.WriteManifest(manifest, fmt.Sprintf(tapPod, name, io, node)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.RemoveManifest(manifest) })
	p, err := l.Attach(ctx, node, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Detach(ctx, p); err != nil {
			t.Error(err)
		}
	})
	if err := serve(p.Place); err != nil {
		t.Fatal(err)
	}
	return p
}

// thereAndBack sends so many bytes to the echo server at addr, which sends them back.
func thereAndBack(t *testing.T, from *testbed.Place, addr string, size int64) {
	t.Helper()
	k, err := connect(from, addr, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	_ = k.SetDeadline(time.Now().Add(time.Minute))
	block := randomBytes(1 << 20)
	done := make(chan error, 1)
	go func() {
		for sent := int64(0); sent < size; sent += int64(len(block)) {
			if _, err := k.Write(block); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	start := time.Now()
	n, err := io.CopyN(io.Discard, k.r, size)
	if err != nil {
		t.Fatalf("%d bytes came back: %v", n, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("%s > %s: %.1f Gb/s there and back", from.Name, addr, float64(16*size)/float64(time.Since(start).Nanoseconds()))
}

// TestTaps: pods on taps and on veths reach each other, pods of the other node, services
// and the outside; between taps packets pass whole. A killed fast path costs them nothing
// but the time until its successor is there, and their interface stays.
func TestTaps(t *testing.T) {
	l := cluster(t)
	n := l.Nodes["node1"]
	a, b := podWith(t, l, "tap-a", "tap", "node1"), podWith(t, l, "tap-b", "tap", "node1")
	far, veth := podWith(t, l, "tap-far", "tap", "node2"), podWith(t, l, "veth-a", "veth", "node1")
	at := func(p *testbed.Pod, port string) string { return net.JoinHostPort(p.Four.String(), port) }
	six := func(p *testbed.Pod) string { return net.JoinHostPort(p.Six.String(), echoPort) }
	before := vifOf(t, b)
	thereAndBack(t, a.Place, at(b, echoPort), 200<<20)
	after := vifOf(t, b)
	if size := (after.TxBytes - before.TxBytes) / max(1, after.TxPackets-before.TxPackets); size < 8000 {
		t.Errorf("packets to a tap have %d bytes on average: they do not pass whole", size)
	}
	for _, c := range []struct {
		from *testbed.Place
		to   string
	}{
		{a.Place, six(b)}, {a.Place, at(veth, echoPort)}, {veth.Place, at(a, echoPort)}, {veth.Place, six(a)}, {a.Place, six(veth)},
		{a.Place, at(far, echoPort)}, {a.Place, six(far)}, {a.Place, at(l.Pod("web5"), echoPort)}, {l.Pod("web5").Place, at(a, echoPort)},
		{n.Place, at(a, echoPort)}, {a.Place, echoVIP + ":7"}, {a.Place, testbed.OutsideAddress + ":" + echoPort},
	} {
		thereAndBack(t, c.from, c.to, 20<<20)
		if c.to == echoVIP+":7" { // TCP alone
			continue
		}
		for _, size := range []int{1000, 20000} { // whole, and in fragments
			if reply, err := ask(c.from, c.to, randomBytes(size)); err != nil || len(reply) != size {
				t.Errorf("UDP from %s to %s: %d bytes of %d, %v", c.from.Name, c.to, len(reply), size, err)
			}
		}
		segments(t, c.from, c.to)
	}
	for _, p := range []*testbed.Pod{b, veth, far} {
		if _, err := ask(a.Place, at(p, "9"), []byte("?")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port of %s: %v", p.Name, err)
		}
	}
	if err := l.Check(context.Background(), a); err != nil {
		t.Errorf("check: %v", err)
	}
	all := []*transfer{
		startTransfer(t, a.Place, at(b, echoPort)), startTransfer(t, a.Place, at(veth, echoPort)),
		startTransfer(t, a.Place, at(far, echoPort)), startTransfer(t, a.Place, echoVIP+":7"),
		startTransfer(t, a.Place, six(b)), startTransfer(t, veth.Place, six(a)), startTransfer(t, n.Place, at(b, echoPort)),
	}
	allMove(t, all, patience)
	killFastPath(t, n)
	waitReady(t, l, n)
	allMove(t, all, 2*patience)
	if err := n.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	allMove(t, all, patience)
	restartAgent(t, l, n)
	allMove(t, all, patience)
	if err := n.Agent.Kill(); err != nil { // and its fast path with it
		t.Fatal(err)
	}
	killFastPath(t, n)
	restartAgent(t, l, n)
	allMove(t, all, 2*patience)
	allFinish(t, all)
	madeAnew(t, l, a, at(b, echoPort))
}

// madeAnew takes a pod's tap away: CHECK says so, and another ADD brings it back.
func madeAnew(t *testing.T, l *testbed.Lab, p *testbed.Pod, addr string) {
	t.Helper()
	ctx := context.Background()
	if _, err := p.Run(ctx, "ip", "link", "del", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(ctx, p); err == nil || !strings.Contains(err.Error(), "the fast path has no queue of the pod's interface") {
		t.Errorf("check of a pod without its tap: %v", err)
	}
	if err := l.Add(ctx, p); err != nil {
		t.Fatal(err)
	}
	thereAndBack(t, p.Place, addr, 1<<20)
	if err := l.Check(ctx, p); err != nil {
		t.Errorf("check: %v", err)
	}
}

// segments sends a datagram after the other in one piece, which whoever stands where a
// network card would cuts (UDP_SEGMENT), and wants all of them back.
func segments(t *testing.T, from *testbed.Place, addr string) {
	t.Helper()
	c, err := from.Dial(&net.Dialer{}, "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size, count = 1200, 20
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
		}), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	sent := randomBytes(size * count)
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	missing := map[string]bool{}
	for i := range count {
		missing[string(sent[i*size:][:size])] = true
	}
	buf := make([]byte, 1<<16)
	for len(missing) > 0 {
		n, err := c.Read(buf)
		if err != nil {
			t.Errorf("UDP in segments from %s to %s: %d of %d are missing: %v", from.Name, addr, len(missing), count, err)
			return
		}
		if !missing[string(buf[:n])] {
			t.Fatalf("UDP in segments from %s to %s: %d bytes that nobody sent", from.Name, addr, n)
		}
		delete(missing, string(buf[:n]))
	}
}
