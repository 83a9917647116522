// Package build writes packets as packets, for tests and for tracing: what a
// line of code says is what stands on the wire, checksums included. A Packet is
// owned by the expression that builds it. It is not for the packet path: it
// allocates freely and panics on input that no packet can have.
package build

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vragent/vragent/fastpath/packet"
)

// Packet is an IP packet in the making. Methods set one thing and return it, so
// that calls chain; Bytes ends the chain.
type Packet struct {
	src, dst netip.Addr
	ttl, tos uint8

	// IPv4 only.
	df      bool
	id      uint16
	options []byte

	// The fragment this packet is, when frag is set.
	frag, more bool
	fragID     uint32
	fragOff    int // bytes

	ext []extension // IPv6 only, in order

	proto   uint8
	l4      []byte // header; empty: payload follows the IP header
	payload []byte
	bare    bool // no L4 checksum

	wraps []func([]byte) []byte // applied in order by Bytes
}

type extension struct {
	proto uint8
	body  []byte // next header is filled in by Bytes
}

// IPv4 begins a packet: TTL 64, no DF, protocol 253 (experiments, RFC 3692) until an L4 method says more.
func IPv4(src, dst string) *Packet { return begin(src, dst, true) }

// IPv6 begins a packet: hop limit 64.
func IPv6(src, dst string) *Packet { return begin(src, dst, false) }

// IP begins a packet of the family that src has.
func IP(src, dst string) *Packet { return begin(src, dst, netip.MustParseAddr(src).Is4()) }

func begin(src, dst string, is4 bool) *Packet {
	p := &Packet{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), ttl: 64, proto: 253}
	if p.src.Is4() != is4 || p.dst.Is4() != is4 {
		panic(fmt.Sprintf("build: %s > %s: addresses of the wrong family", src, dst))
	}
	return p
}

// TTL sets the TTL or hop limit.
func (p *Packet) TTL(n uint8) *Packet { p.ttl = n; return p }

// TOS sets the IPv4 type of service or IPv6 traffic class.
func (p *Packet) TOS(n uint8) *Packet { p.tos = n; return p }

// DF forbids fragmentation. IPv4 only.
func (p *Packet) DF() *Packet { p.df = true; return p }

// ID sets the IPv4 identification.
func (p *Packet) ID(n uint16) *Packet { p.id = n; return p }

// Options sets IPv4 options, padded to whole words.
func (p *Packet) Options(b ...byte) *Packet { p.options = pad4(b); return p }

// Frag makes this packet a fragment: what follows its IP header lies at off (bytes)
// in the datagram. For the fragments of a whole packet use Fragments.
func (p *Packet) Frag(id uint32, off int, more bool) *Packet {
	p.frag, p.fragID, p.fragOff, p.more = true, id, off, more
	p.id = uint16(id)
	if !p.src.Is4() {
		p.ext = append(p.ext, extension{packet.ProtoFragment, fragBody(id, off, more)})
	}
	return p
}

// Ext adds an IPv6 extension header of size bytes (a multiple of 8), filled with PadN.
func (p *Packet) Ext(proto uint8, size int) *Packet {
	body := make([]byte, size)
	body[1] = byte(size/8 - 1)
	if proto != packet.ProtoRouting {
		body[2], body[3] = 1, byte(size-4)
	}
	p.ext = append(p.ext, extension{proto, body})
	return p
}

// Payload sets what follows the L4 header: a number of bytes (a pattern), bytes or text.
func (p *Packet) Payload(v any) *Packet {
	switch v := v.(type) {
	case int:
		p.payload = Pattern(v)
	case []byte:
		p.payload = append([]byte(nil), v...)
	case string:
		p.payload = []byte(v)
	default:
		panic(fmt.Sprintf("build: payload of type %T", v))
	}
	return p
}

// Pattern returns n bytes, each different from its neighbours and from those 256 on.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}

// Bytes assembles the packet: lengths, checksums, then the wraps in the order of their calls.
func (p *Packet) Bytes() []byte {
	body := p.segment()
	var b []byte
	if p.src.Is4() {
		b = append(p.header4(len(body)), body...)
	} else {
		b = append(p.header6(len(body)), body...)
	}
	for _, wrap := range p.wraps {
		b = wrap(b)
	}
	return b
}

func (p *Packet) header4(n int) []byte {
	h := append(make([]byte, packet.IPv4Len), p.options...)
	h[0], h[1] = 0x40|byte(len(h)/4), p.tos
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+n))
	binary.BigEndian.PutUint16(h[4:], p.id)
	word := uint16(p.fragOff / 8)
	if p.df {
		word |= 0x4000
	}
	if p.more {
		word |= 0x2000
	}
	binary.BigEndian.PutUint16(h[6:], word)
	h[8], h[9] = p.ttl, p.proto
	copy(h[12:], p.src.AsSlice())
	copy(h[16:], p.dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return h
}

func (p *Packet) header6(n int) []byte {
	h := make([]byte, packet.IPv6Len)
	binary.BigEndian.PutUint32(h, 6<<28|uint32(p.tos)<<20)
	h[7] = p.ttl
	copy(h[8:], p.src.AsSlice())
	copy(h[24:], p.dst.AsSlice())
	next := 6 // where the last header names what follows it
	for _, e := range p.ext {
		h[next], next = e.proto, len(h)
		h = append(h, e.body...)
	}
	h[next] = p.proto
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-packet.IPv6Len+n))
	return h
}

func pad4(b []byte) []byte { return append(append([]byte(nil), b...), make([]byte, -len(b)&3)...) }

func fragBody(id uint32, off int, more bool) []byte {
	b := make([]byte, 8)
	word := uint16(off)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(b[2:], word)
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}
