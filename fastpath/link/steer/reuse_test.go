package steer_test

import (
	"testing"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// TestReuse: once a packet has begun a connection anew, whichever way it is written, no
// packet behind it is forwarded by what the connection before left in the cache, until
// that is put anew. What ends a connection leaves what is under way of it to the cache.
func TestReuse(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	four := func(flags string) *build.Packet {
		return build.IPv4("192.0.2.1", "198.51.100.80").TCP(40001, 80, flags)
	}
	six := func(flags string) *build.Packet {
		return build.IPv6("2001:db8::1", "2001:db8::80").TCP(40001, 80, flags)
	}
	for _, c := range []struct {
		name   string
		packet func(flags string) *build.Packet
		first  []byte
		begins bool
	}{
		{"SYN", four, four("S").Bytes(), true},
		{"SYN with TCP options", four, four("S").MSS(1460).Bytes(), true},
		{"SYN and ACK", four, four("SA").Bytes(), true},
		{"SYN with data", four, four("S").Payload(99).Bytes(), true},
		{"SYN, ECN asked for", four, four("SEC").Bytes(), true},
		{"SYN with IP options", four, four("S").Options(1, 1, 1, 1).Bytes(), true},
		{"SYN in fragments", four, build.Fragments(four("S").Payload(2000).Bytes(), 1000, 7)[0], true},
		{"FIN", four, four("FA").Bytes(), false},
		{"RST", four, four("R").Bytes(), false},
		{"ACK with IP options", four, four("A").Options(1, 1, 1, 1).Bytes(), false},
		{"IPv6 SYN", six, six("S").Bytes(), true},
		{"IPv6 SYN and ACK", six, six("SA").Bytes(), true},
		{"IPv6 SYN with an extension header", six, six("S").Ext(packet.ProtoDestOpts, 8).Bytes(), true},
		{"IPv6 FIN", six, six("FA").Bytes(), false},
		{"IPv6 RST", six, six("R").Bytes(), false},
		{"IPv6 ACK with an extension header", six, six("A").Ext(packet.ProtoDestOpts, 8).Bytes(), false},
	} {
		for _, where := range []string{"a", "host", "udp"} {
			t.Run(c.name+" from "+where, func(t *testing.T) { b.reuse(t, where, c.packet, c.first, c.begins) })
		}
	}
}

// reuse has a flow in the cache whose packets enter at where, then first, and right behind
// it data of whatever connection that leaves.
func (b *bed) reuse(t *testing.T, where string, of func(flags string) *build.Packet, first []byte, begins bool) {
	ip, out := of("A").Payload(7).Bytes(), of("A").TTL(63).Payload(7).Bytes()
	from, data := b.entering(where, ip)
	_, syn := b.entering(where, first)
	old, near := toHost, toB
	if where == "host" {
		old = toA
	}
	f := flowOf(t, from, ip, out, uint32(old))
	b.put(t, f)
	defer b.c.Delete(f.Key)
	passes := func(nh int) {
		t.Helper()
		at, want := b.leaving(uint32(nh), out)
		wantFrame(t, b.at[at], want)
	}
	write(t, b.socketOf(where), data)
	passes(old)
	write(t, b.socketOf(where), syn)
	write(t, b.socketOf(where), data)
	b.wantUp(t, syn)
	if !begins {
		passes(old)
		return
	}
	b.wantUp(t, data)
	if r, ok := b.record(t, f.Key); !ok || r.Packets != 1 {
		t.Errorf("the connection before counts what followed: %+v", r)
	}
	f.NH = uint32(near)
	b.put(t, f)
	write(t, b.socketOf(where), data)
	passes(near)
}

// TestReuseOthers: a packet that begins a connection concerns no other, one of the same
// ports by another interface or family, or the other way, included.
func TestReuseOthers(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	tcp := func(src, dst string, sport, dport uint16, flags string) *build.Packet {
		return build.IP(src, dst).TCP(sport, dport, flags)
	}
	rows := []struct {
		where string
		of    func(flags string) *build.Packet
	}{
		{"a", func(f string) *build.Packet { return tcp("192.0.2.1", "192.0.2.9", 40001, 81, f) }},
		{"a", func(f string) *build.Packet { return tcp("192.0.2.9", "192.0.2.1", 80, 40001, f) }},
		{"host", func(f string) *build.Packet { return tcp("192.0.2.1", "192.0.2.9", 40001, 80, f) }},
		{"udp", func(f string) *build.Packet { return tcp("192.0.2.1", "192.0.2.9", 40001, 80, f) }},
		{"a", func(f string) *build.Packet { return tcp("2001:db8::1", "2001:db8::9", 40001, 80, f) }},
	}
	for _, c := range rows {
		ip := c.of("A").Bytes()
		from, _ := b.entering(c.where, ip)
		b.put(t, flowOf(t, from, ip, ip, toB))
	}
	_, syn := b.entering("a", tcp("192.0.2.1", "192.0.2.9", 40001, 80, "S").Bytes())
	write(t, b.at["a"], syn)
	b.wantUp(t, syn)
	for _, c := range rows {
		_, frame := b.entering(c.where, c.of("A").Bytes())
		write(t, b.socketOf(c.where), frame)
		_, want := b.leaving(toB, c.of("A").TTL(63).Bytes())
		wantFrame(t, b.at["b"], want)
	}
}

// TestForcedTurn: a turn that was forced is over with its first packet; one that was given up
// before that, even if the order is late, never is.
func TestForcedTurn(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	ip, out := build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Bytes(), build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).TCP(1, 2, "A").Bytes()
	from, frame := b.entering("a", ip)
	f := flowOf(t, from, ip, out, toB)
	const at = offload.MaxSlots - 1
	slot := &b.c.Slots()[at]
	f.Handover, f.Turn = at, slot.Begin()
	slot.Force()
	slot.Void()
	b.put(t, f)
	write(t, b.at["a"], frame)
	if macs := b.wantUp(t, frame); macs[6] != 0 {
		t.Errorf("marked in a turn that was given up: % x", macs)
	}
	f.Turn = slot.Begin()
	slot.Force()
	b.put(t, f)
	write(t, b.at["a"], frame)
	_, want := b.leaving(toB, out)
	wantFrame(t, b.at["b"], want)
	if r, _ := b.record(t, f.Key); !slot.Taken() || r.Handover != 0 {
		t.Errorf("%+v, slot %+v", r, slot)
	}
}
