package integration

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// TestFullFlowTable lets one pod open more conversations than its node
// remembers. The table fills; what is idle makes place, or the newcomer runs
// into a named limit. Others' transfers go on, and new connections work.
func TestFullFlowTable(t *testing.T) {
	l := cluster(t)
	ctx := context.Background()
	n := l.Nodes["node1"]
	declarePods(t, l, "attacker", "victim")
	pair := map[string]*testbed.Pod{}
	for _, name := range []string{"attacker", "victim"} {
		p, err := l.Attach(ctx, "node1", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Detach(ctx, p)
		pair[name] = p
	}
	all := startTransfers(t, l)
	before := dropsOf(t, n)
	flood(t, pair["attacker"], pair["victim"].Four.AsSlice(), 2*l.Flows*l.Workers)
	after := dropsOf(t, n)
	limit := after["vif-flow-limit"] - before["vif-flow-limit"]
	full := after["flow-table-full"] - before["flow-table-full"]
	if used := tableUse(t, n); used < 75 && limit+full == 0 {
		t.Errorf("the flow table is %d %% full and no packet ran into a limit; drops were %v and are %v", used, before, after)
	}
	if seen := sample(t, l.Pod("client").Place, webVIP+":8888", 40); len(seen) != len(everyServer) {
		t.Errorf("40 connections beside the flood were answered by %v", seen)
	}
	allMove(t, all, patience)
	allFinish(t, all)
}

// tableUse is the fill of the fullest flow table of a node, in percent.
func tableUse(t *testing.T, n *testbed.Node) int {
	t.Helper()
	s, err := n.FastPath()
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, w := range s.Workers {
		most = max(most, w.Flows*100/w.FlowSize)
	}
	return most
}

// flood sends one datagram each of n conversations, no faster than one core
// takes them: this is about entries, not about packets.
func flood(t *testing.T, from *testbed.Pod, to net.IP, n int) {
	t.Helper()
	for n > 0 {
		c, err := from.ListenPacket("udp4", ":0")
		if err != nil {
			t.Fatal(err)
		}
		for port := 10000; port < 60000 && n > 0; port++ {
			if n--; n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
			_, _ = c.WriteTo([]byte("flood"), &net.UDPAddr{IP: to, Port: port}) // a refusal of one before comes back here
		}
		_ = c.Close()
	}
}
