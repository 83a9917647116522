package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

func addrPortString(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrPort4(p *pod, port uint16) netip.AddrPort { return netip.AddrPortFrom(p.addr, port) }

func entry(src, dst string, proto uint8) *flow.Record {
	s, d := addrPortString(src), addrPortString(dst)
	return &flow.Record{
		Src: packet.AddrFrom(s.Addr()), Dst: packet.AddrFrom(d.Addr()), Sport: s.Port(), Dport: d.Port(), Proto: proto, VRF: 2,
		NatSrc: packet.AddrFrom(s.Addr()), NatDst: packet.AddrFrom(d.Addr()), NatSport: s.Port(), NatDport: d.Port(),
		Reverse: flow.NoReverse, LabelECMP: flow.PackLabelECMP(0, -1),
	}
}

func TestMatches(t *testing.T) {
	e := entry("192.0.2.1:1000", "198.51.100.1:80", 6)
	end := addrPortString
	for _, c := range []struct {
		query control.FlowQuery
		want  bool
	}{
		{control.FlowQuery{}, true},
		{control.FlowQuery{A: end("192.0.2.1:0")}, true},
		{control.FlowQuery{A: end("198.51.100.1:80")}, true}, // either end
		{control.FlowQuery{A: end("192.0.2.1:1000"), B: end("198.51.100.1:80")}, true},
		{control.FlowQuery{A: end("198.51.100.1:80"), B: end("192.0.2.1:1000")}, true},
		{control.FlowQuery{A: end("192.0.2.1:80")}, false},
		{control.FlowQuery{A: end("192.0.2.1:0"), B: end("192.0.2.1:0")}, false},
		{control.FlowQuery{A: end("0.0.0.0:80")}, true},
		{control.FlowQuery{B: end("[::]:1000")}, true},
		{control.FlowQuery{A: end("0.0.0.0:81")}, false},
		{control.FlowQuery{Proto: 17}, false},
		{control.FlowQuery{VRF: 2, Proto: 6}, true},
		{control.FlowQuery{VRF: 3}, false},
	} {
		if got := matches(&c.query, e); got != c.want {
			t.Errorf("%+v: %v", c.query, got)
		}
	}
	e.NatDst, e.NatDport = packet.AddrFrom(netip.MustParseAddr("203.0.113.5")), 8080
	if !matches(&control.FlowQuery{A: end("203.0.113.5:8080"), B: end("192.0.2.1:0")}, e) {
		t.Error("not found by its destination after NAT")
	}
}

func TestDescribe(t *testing.T) {
	r := &flowReader{tables: table.NewBuilder().Tables(), now: 120}
	e := entry("192.0.2.1:1000", "198.51.100.1:80", 6)
	e.Action, e.NAT, e.TCP, e.KeyNH, e.LastSeen = flow.ActionNAT, flow.NATDest|flow.NATDport, flow.SYN|flow.SYNr, 7, 60
	e.NatDst, e.NatDport = packet.AddrFrom(netip.MustParseAddr("192.0.2.9")), 8080
	f := r.describe(5, e)
	if f.Action != "N" || f.NAT != "DPd" || f.TCP != "SSr" || f.NewDst != addrPortString("192.0.2.9:8080") ||
		f.NewSrc != f.Src || f.Reverse != control.NoIndex || f.RPF != 7 || f.ECMP != -1 || f.IdleMS != 1006 {
		t.Errorf("%+v", f)
	}
	e.Action, e.Reason, e.LastSeen = flow.ActionDrop, 255, 121 // memory of another version; a clock ahead of ours
	if f := r.describe(5, e); f.Reason != "reason-255" || f.IdleMS != 0 || f.NewDst.IsValid() {
		t.Errorf("%+v", f)
	}
}

// traceTables hold a pod and the fabric.
func traceTables(t *testing.T) *table.Tables {
	t.Helper()
	b := table.NewBuilder()
	err := b.Apply(&table.Delta{Upsert: table.State{
		VRFs: []table.VRF{{ID: 1, Name: "net1"}},
		Vifs: []table.Vif{
			{ID: 1, Kind: table.VifFabric, Name: "eth0", Ifindex: 2, VRF: 1, MAC: table.MAC{2}, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, MTU: 1500},
			{ID: 3, Kind: table.VifVirtual, Name: "tap3", Ifindex: 3, VRF: 1, NH: 3, MAC: table.MAC{2, 3}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}, MTU: 1468},
		},
		NextHops: []table.NextHop{{ID: 3, Type: table.NHEncap, Vif: 3, VRF: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Tables()
}

func TestTraceFrame(t *testing.T) {
	tables := traceTables(t)
	query := func(change func(q *control.TraceQuery)) control.TraceQuery {
		q := control.TraceQuery{Vif: 3, Dst: addrPortString("192.0.2.9:80"), Proto: 6}
		change(&q)
		return q
	}
	for name, change := range map[string]func(q *control.TraceQuery){
		"no vif 9":              func(q *control.TraceQuery) { q.Vif = 9 },
		"no destination":        func(q *control.TraceQuery) { q.Dst = netip.AddrPort{} },
		"no address of":         func(q *control.TraceQuery) { q.Dst = addrPortString("[2001:db8::1]:80") },
		"different families":    func(q *control.TraceQuery) { q.Src = addrPortString("[2001:db8::1]:80") },
		`TCP flags "X"`:         func(q *control.TraceQuery) { q.Flags = "X" },
		"its headers take 40":   func(q *control.TraceQuery) { q.Size = 39 },
		"the most is 65535":     func(q *control.TraceQuery) { q.Size = 65536 },
		"comes from an IPv4":    func(q *control.TraceQuery) { q.Label = 20 },
		"the largest is":        func(q *control.TraceQuery) { *q = fromFabric(*q); q.Label = 1 << 20 },
		"not from invalid IP":   func(q *control.TraceQuery) { *q = fromFabric(*q); q.Peer = netip.Addr{} },
		"has no address of the": func(q *control.TraceQuery) { q.Dst = addrPortString("[2001:db8::1]:80") },
	} {
		if _, err := traceFrame(tables, query(change)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error that says %q", err, name)
		}
	}
	for _, proto := range []uint8{1, 6, 17, 47, 132} {
		for _, size := range []int{0, 100, 65535} {
			f, err := traceFrame(tables, query(func(q *control.TraceQuery) { q.Proto, q.Size, q.DF, q.TTL = proto, size, true, 9 }))
			if err != nil {
				t.Fatal(err)
			}
			var in packet.Info
			if fault := packet.ParseIP(f, 14, len(f)-14, &in); fault != packet.FaultNone {
				t.Errorf("protocol %d, size %d: %v", proto, size, fault)
			}
			if in.Tuple.Proto != proto || in.TTL != 9 || !in.DF || size != 0 && (in.Len > size || in.Len < size-3) {
				t.Errorf("protocol %d, size %d: %+v", proto, size, in)
			}
		}
	}
	f, err := traceFrame(tables, fromFabric(query(func(q *control.TraceQuery) {})))
	if err != nil {
		t.Fatal(err)
	}
	var tunnel packet.Tunnel
	if fault := packet.ParseTunnel(f, len(f), &tunnel); fault != packet.FaultNone || tunnel.Label != 20 {
		t.Errorf("%v, %+v", fault, tunnel)
	}
}

func fromFabric(q control.TraceQuery) control.TraceQuery {
	q.Vif, q.Label, q.Peer, q.Src = 1, 20, netip.MustParseAddr("198.51.100.2"), addrPortString("192.0.2.9:1000")
	return q
}
