package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

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
		if reply, err := ask(c.from, c.to, randomBytes(1000)); err != nil && c.to != echoVIP+":7" {
			t.Errorf("UDP from %s to %s: %d bytes, %v", c.from.Name, c.to, len(reply), err)
		}
	}
	if err := l.Check(context.Background(), a); err != nil {
		t.Errorf("check: %v", err)
	}
	all := []*transfer{
		startTransfer(t, a.Place, at(b, echoPort)), startTransfer(t, a.Place, at(veth, echoPort)),
		startTransfer(t, a.Place, at(far, echoPort)), startTransfer(t, a.Place, echoVIP+":7"),
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
	allFinish(t, all)
}
