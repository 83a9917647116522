package integration

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/integration/testbed"
)

// TestFabricAFXDP: with fabric.io: afxdp, tunnel packets come to the workers without
// the punt link, and the node's own traffic on the same interface passes.
func TestFabricAFXDP(t *testing.T) {
	l := cluster(t)
	if l.FabricIO != "afxdp" {
		t.Skip("fabric.io is tcx: FABRIC_IO=afxdp")
	}
	n := l.Nodes["node2"]
	status, err := n.AskFastPath(control.Request{Status: &control.Empty{}})
	if err != nil {
		t.Fatal(err)
	}
	if limits := status.Status.Limits; !slices.ContainsFunc(limits, func(s string) bool { return strings.Contains(s, "the kernel copies each tunnel packet") }) {
		t.Fatalf("status does not say that the kernel copies: %q", limits)
	}
	k, err := connect(l.Pod("client").Place, net.JoinHostPort(l.Pod("web3").Four.String(), echoPort), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const echoes = 500
	before := received(t, n, "punt1")
	for range echoes {
		if err := k.echo(100); err != nil {
			t.Fatal(err)
		}
	}
	// Each echo is a packet from the pod, by the punt link where it is on a veth, and one
	// to it; ACKs come on top.
	least, most := echoes, echoes*3/2
	if l.IO == "tap" {
		least, most = 0, echoes/10
	}
	if n := received(t, n, "punt1") - before; n < least || n > most {
		t.Errorf("%d packets came by the punt link, want those of the pod alone, %d to %d", n, least, most)
	}
	if out, err := n.Run(context.Background(), "ping", "-c", "3", "-i", "0.01", "-s", "1400", l.Nodes["node1"].Address); err != nil {
		t.Errorf("the node's own traffic: %v\n%s", err, out)
	}
}

// received is how many packets a device of the place has received.
func received(t *testing.T, n *testbed.Node, device string) int {
	t.Helper()
	out, err := n.Run(context.Background(), "cat", "/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		name, counters, _ := strings.Cut(line, ":")
		if f := strings.Fields(counters); strings.TrimSpace(name) == device && len(f) > 1 {
			packets, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return packets
		}
	}
	t.Fatal(fmt.Errorf("%s has no %s", n.Name, device))
	return 0
}
