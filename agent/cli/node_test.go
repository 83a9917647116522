package cli

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/control/wire"
	"github.com/vragent/vragent/fastpath/table"
)

var update = flag.Bool("update", false, "write the golden files")

// node is a run directory with a fake fast path and agent behind its sockets.
type node struct{ dir string }

func newNode(t *testing.T) *node {
	t.Helper()
	// Not t.TempDir: its path may exceed what a socket address holds.
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{dir: dir}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return n
}

// serve answers every request on a socket until the test ends.
func serve[Req, Rep any](t *testing.T, n *node, socket string, answer func(*Req) []Rep) {
	t.Helper()
	l, err := wire.Listen(filepath.Join(n.dir, socket), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var req Req
			for {
				if err := c.Receive(&req); err != nil {
					break
				}
				for _, r := range answer(&req) {
					_ = c.Send(r)
				}
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wait.Wait() })
}

func (n *node) withFastPath(t *testing.T) *node {
	serve(t, n, control.SocketName, answerControl)
	return n
}

func (n *node) withAgent(t *testing.T) *node {
	serve(t, n, rpc.SocketName, answerAgent)
	return n
}

// withHealthyAgent answers as an agent with nothing to complain of.
func (n *node) withHealthyAgent(t *testing.T) *node {
	serve(t, n, rpc.SocketName, func(r *rpc.Request) []rpc.Reply {
		replies := answerAgent(r)
		if s := replies[0].Status; s != nil {
			s.Conditions[1] = rpc.Condition{Name: "blocks", OK: true, Message: "2 blocks, 121 addresses free"}
		}
		if l := replies[0].Leaks; l != nil {
			l.Leaks = nil
		}
		return replies
	})
	return n
}

// withCNI gives the node's runtime the plugin.
func (n *node) withCNI(t *testing.T) *node {
	t.Helper()
	for file, text := range map[string]string{"/vrouter": "", "/10-vrouter.conflist": `{"name":"n","plugins":[{"type":"vrouter"}]}`} {
		if err := os.WriteFile(n.dir+file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// run executes vragent with args against the node.
func (n *node) run(args ...string) (stdout, stderr string, code int) {
	var out, diag bytes.Buffer
	app := NewApp("v0.0.0-test")
	app.Writer, app.ErrWriter, app.ExitErrHandler = &out, &diag, func(*cli.Context, error) {}
	args = append([]string{"vragent"}, args...)
	if len(args) > 1 && app.Command(args[1]) != nil && args[1] != "completion" && !(args[1] == "ipam" && !strings.Contains(strings.Join(args, " "), "check")) {
		args = append(args, "--run-dir", n.dir)
		if args[1] == "status" {
			args = append(args, "--cni-bin-dir", n.dir, "--cni-conf-dir", n.dir)
		}
	}
	if err := app.Run(args); err != nil {
		code = ExitFailure
		if coded, ok := errors.AsType[cli.ExitCoder](err); ok {
			code = coded.ExitCode()
		}
		diag.WriteString(err.Error())
	}
	return out.String(), diag.String(), code
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it)\n--- want\n%s--- got\n%s", file, want, got)
	}
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func mac(last byte) table.MAC          { return table.MAC{0x02, 0x00, 0x00, 0x00, 0x00, last} }

// state is a small node: two pods, a service of one port with a hole, one of
// two ports, a remote node, an unresolved one.
func state() *table.State {
	route := func(vrf table.VRFID, p string, nh table.NextHopID, l table.Label) table.Route {
		return table.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p), NH: nh, Label: l}
	}
	return &table.State{
		Vifs: []table.Vif{
			{ID: 4, Kind: table.VifVirtual, Name: "tapweb1-77aa0000", Ifindex: 14, VRF: 2, NH: 24, MAC: mac(4),
				Addrs: []netip.Addr{addr("192.0.2.4"), addr("2001:db8::4")}, MTU: 1468, Owner: "default/web1", VMI: "77aa0000-0000-4000-8000-000000000004"},
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 2, VRF: 1, MAC: mac(1), Addrs: []netip.Addr{addr("198.51.100.1")}, MTU: 1500},
			{ID: 2, Kind: table.VifHost, Name: "tapvhost0", Ifindex: 11, VRF: 2, NH: 22, MAC: mac(2), Addrs: []netip.Addr{addr("192.0.2.1")}, MTU: 1468},
			{ID: 3, Kind: table.VifVirtual, Name: "tapclient-0123", Ifindex: 13, VRF: 2, NH: 23, MAC: mac(3),
				Addrs: []netip.Addr{addr("192.0.2.3")}, ClusterAddrs: []netip.Addr{addr("192.0.2.33")}, MTU: 1468, Owner: "default/client", VMI: "01230000-0000-4000-8000-000000000003"},
		},
		VRFs: []table.VRF{
			{ID: 1, Name: "ip-fabric"},
			{ID: 2, Name: "k8s-default-pod-network", Router4: addr("192.0.2.1")},
		},
		NextHops: []table.NextHop{
			{ID: 22, Type: table.NHHost, Vif: 2, VRF: 2},
			{ID: 23, Type: table.NHEncap, Vif: 3, VRF: 2},
			{ID: 24, Type: table.NHEncap, Vif: 4, VRF: 2},
			{ID: 25, Type: table.NHVRFTranslate, VRF: 2},
			{ID: 30, Type: table.NHTunnel, Vif: 1, VRF: 1, Sip: addr("198.51.100.1"), Dip: addr("198.51.100.2"), SrcMAC: mac(1), DstMAC: mac(9), MTU: 1500},
			{ID: 31, Type: table.NHResolve, Vif: 1, VRF: 1, Sip: addr("198.51.100.1"), Dip: addr("198.51.100.3")},
			{ID: 40, Type: table.NHComposite, VRF: 2, Proto: 6, Port: 8888, Members: []table.Member{
				{NH: 24, Key: 1, Name: "default/web1"}, {}, {NH: 30, Label: 37, Key: 3, Name: "default/web3", Draining: true}}},
			{ID: 41, Type: table.NHService, VRF: 2, Listeners: []table.Listener{{Proto: 6, Port: 80, NH: 42, OutsideNH: 44}, {Proto: 17, Port: 53, NH: 43}, {Proto: 6, Port: 30080, NH: 42, HostOnly: true}}},
			{ID: 42, Type: table.NHComposite, VRF: 2, Affinity: 10800, Members: []table.Member{{NH: 30, Label: 38, Key: 4, Name: "default/web4"}}},
			{ID: 43, Type: table.NHComposite, VRF: 2, Members: []table.Member{{NH: 22, Key: 5, Name: "198.51.100.53", DNAT: addrPort("198.51.100.53:53")}}},
			{ID: 44, Type: table.NHComposite, VRF: 2, Proto: 6, Port: 443},
		},
		Routes: []table.Route{
			route(2, "0.0.0.0/0", 22, 0),
			route(2, "192.0.2.0/26", 0, 0),
			route(2, "192.0.2.3/32", 23, 0),
			route(2, "192.0.2.4/32", 24, 0),
			route(2, "192.0.2.64/26", 30, 20),
			route(2, "203.0.113.10/32", 40, 0),
			{VRF: 2, Prefix: netip.MustParsePrefix("203.0.113.11/32"), NH: 41, Translate: true},
			{VRF: 2, Prefix: netip.MustParsePrefix("203.0.113.64/26"), NH: 30, Label: 20, ReplyOnly: true},
			route(2, "203.0.113.12/32", 44, 0),
			route(2, "2001:db8::4/128", 24, 0),
			route(2, "2001:db8:1::/122", 30, 20),
			route(1, "198.51.100.0/24", 22, 0),
		},
		Labels:   []table.LabelEntry{{Label: 24, NH: 24}, {Label: 20, NH: 25}, {Label: 23, NH: 23}, {Label: 40, NH: 40}},
		PortMaps: []table.PortMap{{Vif: 4, VIP: addr("203.0.113.10"), Proto: 6, Port: 8888, Fixed: addr("192.0.2.4"), Target: 80}},
		Peers:    []netip.Addr{addr("198.51.100.2"), addr("198.51.100.3")},
	}
}

func vifStats() []control.VifStats {
	var out []control.VifStats
	s := state()
	for _, id := range []table.VifID{1, 2, 3, 4} {
		for _, v := range s.Vifs {
			if v.ID == id {
				n := uint64(id)
				out = append(out, control.VifStats{Vif: v, RxPackets: 100 * n, RxBytes: 6400 * n, TxPackets: 90 * n, TxBytes: 9000 * n, Drops: n, Flows: int(n), Attached: id != 2})
			}
		}
	}
	return out
}

func flows() []control.Flow {
	return []control.Flow{
		{Index: 152860, Reverse: 16777220, Forward: true, KeyNH: 23, Src: addrPort("192.0.2.3:45148"), Dst: addrPort("203.0.113.10:8888"),
			Proto: 6, VRF: 2, Action: "F", TCP: "SSrEEr", NewSrc: addrPort("192.0.2.3:45148"), NewDst: addrPort("203.0.113.10:8888"),
			NH: 30, Label: 37, ECMP: 2, RPF: 23, Gen: 3, Packets: 26, Bytes: 1778, IdleMS: 1250, Sport: 53357},
		{Index: 16777220, Reverse: 152860, KeyNH: 23, Src: addrPort("192.0.2.4:80"), Dst: addrPort("192.0.2.3:45148"),
			Proto: 6, VRF: 2, Action: "N", NAT: "SPs", TCP: "SSrEEr", NewSrc: addrPort("203.0.113.10:8888"), NewDst: addrPort("192.0.2.3:45148"),
			NH: 23, ECMP: -1, RPF: 24, Gen: 3, Packets: 20, Bytes: 14000, IdleMS: 1250},
		{Index: 7, Reverse: control.NoIndex, Forward: true, KeyNH: 24, Src: addrPort("[2001:db8::4]:5353"), Dst: addrPort("[2001:db8:9::1]:53"),
			Proto: 17, VRF: 2, Action: "D", Reason: "no-route", ECMP: -1, RPF: 24, Gen: 1, Packets: 1, Bytes: 60, IdleMS: 90000},
	}
}

func answerControl(r *control.Request) []control.Reply {
	switch {
	case r.Status != nil:
		return []control.Reply{{Status: fastPathStatus()}}
	case r.Tables != nil:
		return []control.Reply{{Tables: state()}}
	case r.Vifs != nil:
		return []control.Reply{{Vifs: vifStats()}}
	case r.Flows != nil:
		return answerFlows(r.Flows)
	case r.DropStats != nil:
		return []control.Reply{{DropStats: []control.DropCounter{
			{Name: "invalid-source", Sentence: "The source address is not the sender's own.", Count: 12, PerCore: []uint64{5, 7}},
			{Name: "flow-table-full", Sentence: "No free entry and none to evict.", PerCore: []uint64{0, 0}},
			{Name: "kernel-unknown-vif", Sentence: "Steering: the interface is not attached.", Count: 3},
		}}}
	case r.Trace != nil:
		return []control.Reply{answerTrace(r.Trace)}
	}
	return []control.Reply{{Error: "unknown request"}}
}

// answerFlows streams a batch for each flow, then an empty last one.
func answerFlows(query *control.FlowQuery) []control.Reply {
	var out []control.Reply
	for _, f := range flows() {
		if query.Index == nil || *query.Index == f.Index {
			out = append(out, control.Reply{Flows: []control.Flow{f}})
		}
	}
	return append(out, control.Reply{Done: true})
}

func answerTrace(query *control.TraceQuery) control.Reply {
	if query.Proto == 132 {
		return control.Reply{Error: "trace: vif 3 has no IPv6 address"}
	}
	from := "vif0/" + string(rune('0'+query.Vif))
	return control.Reply{Trace: &control.Trace{
		Steps: []control.TraceStep{
			{Stage: "parse", Text: "IPv4 TCP to " + query.Dst.String() + " from " + from},
			{Stage: "next hop", Text: "composite 40 member 2"},
		},
		Verdict: "dropped", Reason: "no-route",
	}}
}

func fastPathStatus() *control.Status {
	return &control.Status{
		PID: 4250, Version: "v0.1.0", Node: "node1", State: "running", Epoch: 3, Poll: "adaptive",
		Workers: []control.WorkerStatus{
			{Worker: 0, Core: 1, RxPackets: 100, RxBytes: 6400, TxPackets: 90, TxBytes: 5760, Drops: 5, Handoffs: 11, Splits: 2,
				Loops: 1000, Sleeps: 50, Flows: 2, FlowSize: 131072, FreeFrames: 4000, LastAliveMS: 1},
			{Worker: 1, Core: -1, Drops: 7, Flows: 1, FlowSize: 131072, FreeFrames: 4096, LastAliveMS: 12},
		},
		Offload: control.OffloadStatus{Mode: "auto", Entries: 4, Size: 65536, Packets: 1200, Bytes: 1800000, Put: 9, Deleted: 7, Adopted: 2, Refused: 1},
		Limits:  []string{"This kernel takes 32 frames per transmit call."},
	}
}

func answerAgent(r *rpc.Request) []rpc.Reply {
	switch {
	case r.Status != nil:
		return []rpc.Reply{{Status: &rpc.Status{
			Node: "node1", PID: 4242, Version: "v0.1.0", Fabric: "eth0", Address: addr("198.51.100.1"), VMIs: 3, Attached: 2,
			Conditions: []rpc.Condition{
				{Name: "controller", OK: true, Message: "connected to 198.51.100.254:7443"},
				{Name: "blocks", OK: false, Message: "no block for network k8s-blue-pod-network", Fix: "is its subnet exhausted?"},
			},
			Controllers: []rpc.Controller{
				{Address: "198.51.100.254:7443", Primary: true, Connected: true},
				{Address: "198.51.100.253:7443", Error: "connection refused"},
			},
			KubeProxyReplacement: true,
		}}}
	case r.Leaks != nil:
		return []rpc.Reply{{Leaks: &rpc.LeakCheck{Addresses: 63, Leaks: []rpc.Leak{
			{Network: "k8s-default-pod-network", Addr: addr("192.0.2.9"), Owner: "default/gone", Cause: "its interface is gone", Repaired: r.Leaks.Repair},
		}}}}
	case r.VMIs != nil:
		return []rpc.Reply{{VMIs: []rpc.VMI{
			{UUID: "77aa0000-0000-4000-8000-000000000004", Name: "web1__77aa", Namespace: "default", Pod: "web1", Network: "k8s-default-pod-network",
				Addrs: []netip.Addr{addr("192.0.2.4"), addr("2001:db8::4")}, MAC: mac(4), Label: 24, Vif: 4, Tap: "tapweb1-77aa000",
				State: "attached", FloatingIPs: []string{"203.0.113.10 TCP 8888 -> 80"}},
			{UUID: "88bb0000-0000-4000-8000-000000000005", Name: "late__88bb", Namespace: "default", Pod: "late",
				Network: "k8s-default-pod-network", State: "expected"},
			{UUID: "99cc0000-0000-4000-8000-000000000006", Name: "blue__99cc", Namespace: "blue", Pod: "web", Network: "k8s-blue:net",
				Addrs: []netip.Addr{addr("198.51.100.9")}, ClusterAddrs: []netip.Addr{addr("192.0.2.9")}, MAC: mac(6), Label: 26, Vif: 6, Tap: "tap99cc0000000", State: "attached"},
			{UUID: "aadd0000-0000-4000-8000-000000000007", Name: "red__aadd", Namespace: "red", Pod: "web", State: "refused",
				Refusal: "its network red/none does not exist"},
		}}}
	case r.Blocks != nil:
		return []rpc.Reply{{Blocks: []rpc.Block{
			{Network: "k8s-default-pod-network", Prefix: netip.MustParsePrefix("192.0.2.0/26"), Used: 3, Free: 59},
			{Network: "k8s-default-pod-network", Prefix: netip.MustParsePrefix("2001:db8::/122"), Used: 1, Free: 62},
		}}}
	}
	return []rpc.Reply{{Error: &rpc.Error{Code: rpc.CodeInternal, Message: "unknown request"}}}
}
