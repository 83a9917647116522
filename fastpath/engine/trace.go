package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// trace builds the packet the query describes and lets the workers' code say what
// it would do with it.
func (p *plane) trace(q *control.TraceQuery) *control.Reply {
	f, err := p.frame(q)
	if err != nil {
		return reply(err)
	}
	r := p.shared.Trace(f)
	out := &control.Trace{Verdict: r.Verdict, Reason: r.Reason}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, control.TraceStep{Stage: s.Stage, Text: s.Text})
	}
	return &control.Reply{Trace: out}
}

// traceRoom is left in front of the frame, as the kernel leaves it.
const defaultTraceSize = 84 // bytes, as ping's

// frame makes the Ethernet frame as a worker would receive it. Checksums of the
// transport are left out: no stage looks at them.
func (p *plane) frame(q *control.TraceQuery) ([]byte, error) {
	v := p.builder.Tables().Vif(q.Vif)
	if v == nil {
		return nil, fmt.Errorf("vif %d: no such interface (vragent vif lists them)", q.Vif)
	}
	src := q.Src
	if !src.Addr().IsValid() {
		a, err := ownAddr(v, q.Dst.Addr())
		if err != nil {
			return nil, err
		}
		src = netip.AddrPortFrom(a, max(src.Port(), 40000))
	}
	ip, err := tracePacket(q, src)
	if err != nil {
		return nil, err
	}
	if v.Kind == table.VifFabric {
		if ip, err = wrap(v, q, ip); err != nil {
			return nil, err
		}
	}
	mac := link.VifMAC(uint32(v.ID))
	f := append(mac[:], v.MAC[:]...)
	f = append(f, 0x08, 0x00)
	if ip[0]>>4 == 6 {
		f[12], f[13] = 0x86, 0xdd
	}
	return append(f, ip...), nil
}

func ownAddr(v *table.VifEntry, dst netip.Addr) (netip.Addr, error) {
	for _, a := range v.Addrs {
		if a.Is4() == dst.Is4() && v.Kind != table.VifFabric {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("vif %d (%s) has no address of the destination's family: name the source", v.ID, v.Name)
}

// tracePacket writes the IP packet.
func tracePacket(q *control.TraceQuery, src netip.AddrPort) ([]byte, error) {
	if src.Addr().Is4() != q.Dst.Addr().Is4() {
		return nil, errors.New("source and destination are of different families")
	}
	header := packet.IPv6Len
	if src.Addr().Is4() {
		header = packet.IPv4Len
	}
	size := q.Size
	if size == 0 {
		size = defaultTraceSize
	}
	if least := header + 20; size < least || size > 65535 {
		return nil, fmt.Errorf("size %d: want %d to 65535 bytes", size, least)
	}
	b := make([]byte, size)
	ttl := q.TTL
	if ttl == 0 {
		ttl = 64
	}
	if header == packet.IPv6Len {
		b[0], b[6], b[7] = 0x60, q.Proto, ttl
		binary.BigEndian.PutUint16(b[4:], uint16(size-header))
		copy(b[8:], src.Addr().AsSlice())
		copy(b[24:], q.Dst.Addr().AsSlice())
	} else {
		traceIPv4(b, q, src, ttl)
	}
	return b, traceL4(b[header:], q, src.Port())
}

func traceIPv4(b []byte, q *control.TraceQuery, src netip.AddrPort, ttl uint8) {
	b[0], b[8], b[9] = 0x45, ttl, q.Proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if q.DF {
		b[6] = 0x40
	}
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], q.Dst.Addr().AsSlice())
	var sum uint32
	for i := 0; i < packet.IPv4Len; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
}

// traceL4 is a flat switch over the protocols.
func traceL4(b []byte, q *control.TraceQuery, sport uint16) error {
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], q.Dst.Port())
	switch q.Proto {
	case packet.ProtoTCP:
		b[12] = 5 << 4
		for _, c := range q.Flags {
			bit, ok := map[rune]uint8{'F': packet.FIN, 'S': packet.SYN, 'R': packet.RST, 'P': packet.PSH, 'A': packet.ACK}[c]
			if !ok {
				return fmt.Errorf("TCP flags %q: want letters of FSRPA", q.Flags)
			}
			b[13] |= bit
		}
		if q.Flags == "" {
			b[13] = packet.SYN
		}
	case packet.ProtoUDP:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	case packet.ProtoICMP, packet.ProtoICMPv6:
		clear(b[:4])
		b[0] = 8
		if q.Proto == packet.ProtoICMPv6 {
			b[0] = 128
		}
		binary.BigEndian.PutUint16(b[4:], sport)
	}
	return nil
}

// wrap puts the packet into the tunnel it would come out of.
func wrap(v *table.VifEntry, q *control.TraceQuery, ip []byte) ([]byte, error) {
	if !q.Peer.Is4() || q.Label == 0 || len(v.Addrs) == 0 {
		return nil, errors.New("a packet from the fabric needs its label and the peer it comes from (IPv4)")
	}
	b := make([]byte, packet.TunnelLen+len(ip))
	packet.PutTunnel(b, q.Peer.As4(), v.Addrs[0].As4(), 0xC000, uint32(q.Label), len(ip))
	copy(b[packet.TunnelLen:], ip)
	return b, nil
}
