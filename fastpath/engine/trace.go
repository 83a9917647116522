package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// tracePort is the source port of a packet for which none was named, and the
// identifier of an ICMP echo.
const tracePort = 40000

// tcpFlags are the letters that package build knows.
const tcpFlags = "FSRPAUEC"

// trace runs a synthetic packet through the live tables and flows.
func (e *engine) trace(q *control.TraceQuery) (*control.Trace, error) {
	p := e.plane.Load()
	if p == nil {
		return nil, errors.New("trace: the fast path still waits for the agent: it has no tables")
	}
	frame, err := traceFrame(e.builder.Tables(), *q)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	r := p.shared.Trace(frame)
	t := &control.Trace{Verdict: r.Verdict, Reason: r.Reason}
	for _, s := range r.Steps {
		t.Steps = append(t.Steps, control.TraceStep{Stage: s.Stage, Text: s.Text})
	}
	return t, nil
}

// traceFrame builds the frame as steering would hand it to a worker.
func traceFrame(t *table.Tables, q control.TraceQuery) ([]byte, error) {
	v := t.Vif(q.Vif)
	if v == nil {
		return nil, fmt.Errorf("there is no vif %d", q.Vif)
	}
	if err := fillEnds(v, &q); err != nil {
		return nil, err
	}
	b, err := tracePacket(&q)
	if err != nil {
		return nil, err
	}
	if q.Label == 0 {
		return build.Eth(b, link.VifMAC(uint32(v.ID)), v.MAC), nil
	}
	if v.Kind != table.VifFabric || len(v.Addrs) == 0 || !v.Addrs[0].Is4() || !q.Peer.Is4() {
		return nil, fmt.Errorf("a packet with a label comes from an IPv4 peer over the fabric vif, not from %v over vif %d", q.Peer, v.ID)
	}
	if q.Label > table.MaxLabel {
		return nil, fmt.Errorf("label %d: the largest is %d", q.Label, table.MaxLabel)
	}
	outer := build.Tunnel(b, q.Peer.String(), v.Addrs[0].String(), uint32(q.Label))
	return build.Eth(outer, link.VifMAC(uint32(v.ID)), v.MAC), nil
}

// fillEnds completes source and destination.
func fillEnds(v *table.VifEntry, q *control.TraceQuery) error {
	dst := q.Dst.Addr()
	if !dst.IsValid() {
		return errors.New("the packet has no destination")
	}
	src := q.Src.Addr()
	if !src.IsValid() {
		for _, a := range v.Addrs {
			if a.Is4() == dst.Is4() {
				src = a
			}
		}
	}
	if !src.IsValid() {
		return fmt.Errorf("vif %d (%s) has no address of the family of %v: name a source", v.ID, v.Name, dst)
	}
	if src.Is4() != dst.Is4() {
		return fmt.Errorf("source %v and destination %v are of different families", src, dst)
	}
	port := q.Src.Port()
	if port == 0 {
		port = tracePort
	}
	q.Src = netip.AddrPortFrom(src, port)
	return nil
}

// tracePacket builds the IP packet.
func tracePacket(q *control.TraceQuery) ([]byte, error) {
	if strings.Trim(q.Flags, tcpFlags) != "" {
		return nil, fmt.Errorf("TCP flags %q: want letters of %s", q.Flags, tcpFlags)
	}
	b := build.IP(q.Src.Addr().String(), q.Dst.Addr().String())
	if q.TTL != 0 {
		b.TTL(q.TTL)
	}
	if q.DF && q.Dst.Addr().Is4() {
		b.DF()
	}
	switch q.Proto {
	case packet.ProtoTCP:
		flags := q.Flags
		if flags == "" {
			flags = "S"
		}
		b.TCP(q.Src.Port(), q.Dst.Port(), flags)
	case packet.ProtoUDP:
		b.UDP(q.Src.Port(), q.Dst.Port())
	case packet.ProtoSCTP:
		b.SCTP(q.Src.Port(), q.Dst.Port())
	case packet.ProtoICMP, packet.ProtoICMPv6:
		b.Echo(q.Src.Port(), 1)
	default:
		b.Proto(q.Proto)
	}
	bare := len(b.Bytes())
	if q.Size == 0 || q.Size == bare {
		return b.Bytes(), nil
	}
	if q.Size < bare || q.Size > 65535 {
		return nil, fmt.Errorf("a packet of %d bytes: its headers take %d, the most is 65535", q.Size, bare)
	}
	room := q.Size - bare
	if q.Proto == packet.ProtoSCTP {
		room &^= 3 // chunks are whole words (RFC 9260 3.2)
	}
	return b.Payload(room).Bytes(), nil
}
