package steer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// TestUp: what the cache may not or cannot forward goes to a worker as it came, and
// the flow does not count it.
func TestUp(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	tcp := func(flags string) *build.Packet {
		return build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, flags).Payload(10)
	}
	udp := func() *build.Packet { return build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2) }
	tcp6 := func() *build.Packet { return build.IPv6("2001:db8::1", "2001:db8::2").TCP(1, 2, "A").Payload(10) }
	long, long6 := tcp("A").Bytes(), tcp6().Bytes()
	for _, c := range []struct {
		name, where string
		ip          []byte
		nh          uint32
		change      func(*offload.Flow)
	}{
		{"SYN", "a", tcp("S").Bytes(), toB, nil},
		{"SYN and ACK", "a", tcp("SA").Bytes(), toB, nil},
		{"FIN", "a", tcp("FA").Bytes(), toB, nil},
		{"RST", "a", tcp("R").Bytes(), toB, nil},
		{"TTL 1", "a", udp().TTL(1).Payload(9).Bytes(), toB, nil},
		{"hop limit 1", "a", tcp6().TTL(1).Bytes(), toB, nil},
		{"options", "a", udp().Options(1, 1, 1, 1).Payload(9).Bytes(), toB, nil},
		{"extension header", "a", tcp6().Ext(packet.ProtoDestOpts, 8).Bytes(), toB, nil},
		{"larger than the pod's MTU", "a", udp().DF().Payload(1000 - 28 + 1).Bytes(), toNarrow, nil},
		{"larger than the tunnel's MTU", "a", udp().DF().Payload(1500 - 28 - 32 + 1).Bytes(), toPeer, nil},
		{"larger than the GRE tunnel's MTU", "a", udp().DF().Payload(1500 - 28 - 28 + 1).Bytes(), toGRE, nil},
		{"bytes behind the packet", "a", append(long, 0, 0), toB, nil},
		{"bytes behind the IPv6 packet", "a", append(long6, 0, 0), toB, nil},
		{"no checksum, translated", "a", udp().NoChecksum().Payload(9).Bytes(), toB, func(f *offload.Flow) { f.To.Dport = 80 }},
		{"an old generation", "a", tcp("A").Bytes(), toB, func(f *offload.Flow) { f.Gen = 4 }},
		{"a scope without generation", "a", tcp("A").Bytes(), toB, func(f *offload.Flow) { f.Scope = offload.MaxScope - 1 }},
		{"another vif", "a", tcp("A").Bytes(), toB, func(f *offload.Flow) { f.From = 2 }},
		{"a slot in another turn", "a", tcp("A").Bytes(), toB, func(f *offload.Flow) { f.Handover, f.Turn = 9, 9 }},
		{"another label", "udp", tcp("A").Bytes(), toB, func(f *offload.Flow) { f.From++ }},
		{"out of one tunnel into another", "udp", tcp("A").Bytes(), toPeer, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, frame := b.entering(c.where, c.ip)
			f := flowOf(t, from, c.ip, c.ip, c.nh)
			if c.change != nil {
				c.change(f)
			}
			b.put(t, f)
			defer b.c.Delete(f.Key)
			write(t, b.socketOf(c.where), frame)
			if macs := b.wantUp(t, frame); slices.ContainsFunc(macs[6:], func(b byte) bool { return b != 0 }) {
				t.Errorf("it is marked: % x", macs)
			}
			if r, ok := b.record(t, f.Key); !ok || r.Packets != 0 {
				t.Errorf("the flow counts it: %+v", r)
			}
		})
	}
	b.wantUpNever(t)
}

// wantUpNever sends fragments and errors about a flow of the cache.
func (b *bed) wantUpNever(t *testing.T) {
	t.Helper()
	whole := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(3000).Bytes()
	f := flowOf(t, uint32(b.a.Vif.ID), whole, whole, toB)
	b.put(t, f)
	defer b.c.Delete(f.Key)
	others := build.Fragments(whole, 1500, 7)
	others = append(others, build.IPv4("192.0.2.1", "192.0.2.2").PortUnreachable(build.IPv4("192.0.2.2", "192.0.2.1").UDP(2, 1).Bytes()).Bytes())
	for _, ip := range others {
		_, frame := b.entering("a", ip)
		write(t, b.at["a"], frame)
		b.wantUp(t, frame)
	}
}

// TestUpFromFabric: tunnel packets that are not as we write them, or of nobody we know, go up.
func TestUpFromFabric(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	ip := build.IPv4("192.0.2.1", "192.0.2.2").TCP(1, 2, "A").Payload(10).Bytes()
	f := flowOf(t, offload.FromLabel|bedLabel, ip, ip, toB)
	b.put(t, f)
	good := build.Tunnel(ip, b.fab.peer.String(), b.fab.addr.String(), bedLabel)
	edit := func(fn func([]byte)) []byte {
		c := slices.Clone(good)
		fn(c)
		return c
	}
	for _, c := range []struct {
		name string
		out  []byte
	}{
		{"another sender", build.Tunnel(ip, "198.51.100.77", b.fab.addr.String(), bedLabel)},
		{"a UDP checksum", build.IPv4(b.fab.peer.String(), b.fab.addr.String()).UDP(1, packet.TunnelPort).Payload(good[28:]).Bytes()},
		{"a wrong header checksum", edit(func(c []byte) { c[10]++ })},
		{"a second label", edit(func(c []byte) { c[28+2] &^= 1 })},
		{"a label TTL of 0", edit(func(c []byte) { c[28+3] = 0 })},
		{"a wrong UDP length", edit(func(c []byte) { c[25]++ })},
		{"bytes behind the datagram", append(slices.Clone(good), 0)},
		{"options", build.IPv4(b.fab.peer.String(), b.fab.addr.String()).Options(1, 1, 1, 1).UDP(1, packet.TunnelPort).NoChecksum().Payload(good[28:]).Bytes()},
	} {
		frame := ethernet(b.fab.vif.MAC, c.out)
		write(t, b.at["fabric"], frame)
		t.Run(c.name, func(t *testing.T) { b.wantUp(t, frame) })
	}
	if r, _ := b.record(t, f.Key); r.Packets != 0 {
		t.Errorf("forwarded: %+v", r)
	}
	write(t, b.at["fabric"], ethernet(b.fab.vif.MAC, good))
	_, frame := b.leaving(toB, build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).TCP(1, 2, "A").Payload(10).Bytes())
	wantFrame(t, b.at["b"], frame)
}

// TestChange: whatever is changed takes effect with the next packet.
func TestChange(t *testing.T) {
	b := newBed(t, 1)
	b.listen(t)
	ip, out := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Payload(10).Bytes(), build.IPv4("192.0.2.1", "192.0.2.2").TTL(63).UDP(1, 2).Payload(10).Bytes()
	from, frame := b.entering("a", ip)
	f := flowOf(t, from, ip, out, toB)
	b.put(t, f)
	passes := func(nh uint32) {
		t.Helper()
		where, want := b.leaving(nh, out)
		write(t, b.at["a"], frame)
		wantFrame(t, b.at[where], want)
	}
	up := func() {
		t.Helper()
		write(t, b.at["a"], frame)
		b.wantUp(t, frame)
	}
	passes(toB)
	b.c.SetGeneration(scope, 6)
	up()
	b.c.SetGeneration(scope, 5)
	passes(toB)
	f.NH = toPeer
	b.put(t, f)
	passes(toPeer)
	if r, _ := b.record(t, f.Key); r.Packets != 3 {
		t.Errorf("a change loses counters: %+v", r)
	}
	must(t, b.c.RemoveNextHops([]uint32{toPeer, 999}))
	up()
	b.learn(t)
	b.put(t, f) // the next hop that came back is another
	passes(toPeer)
	must(t, b.c.RemoveNextHops([]uint32{toPeer}))
	other := local(99, offload.Pod, b.b)
	must(t, b.c.SetNextHops([]offload.NextHop{other}))
	up()
	f.NH = 99
	b.put(t, f)
	passes(toB)
	other.Eth[5] = 7
	must(t, b.c.SetNextHops([]offload.NextHop{other}))
	write(t, b.at["a"], frame)
	_, want := b.leaving(toB, out)
	want[5] = 7
	wantFrame(t, b.at["b"], want)
	if s, err := b.c.Delete(f.Key); err != nil || s.Packets != 6 || s.Bytes != uint64(6*len(ip)) {
		t.Errorf("last counters %+v, %v", s, err)
	}
	up()
	if s, err := b.c.Delete(f.Key); err != nil || s != (offload.Stats{}) || b.c.Len() != 0 {
		t.Errorf("nothing to delete: %+v, %v; %d flows", s, err, b.c.Len())
	}

	f.From = offload.FromLabel | bedLabel
	b.put(t, f)
	_, frame = b.entering("udp", ip)
	tunnelled := func() { write(t, b.at["fabric"], frame) }
	must(t, b.c.SetPeers([]packet.Addr{packet.AddrFrom(b.fab.second)}))
	tunnelled()
	b.wantUp(t, frame)
	must(t, b.c.SetPeers([]packet.Addr{packet.AddrFrom(b.fab.second), packet.AddrFrom(b.fab.peer)}))
	tunnelled()
	wantFrame(t, b.at["b"], want)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRefused: what the cache does not take, it names.
func TestRefused(t *testing.T) {
	b := newBed(t, 1)
	ip := build.IPv4("192.0.2.1", "192.0.2.2").UDP(1, 2).Bytes()
	good := flowOf(t, 1, ip, ip, toB)
	for _, c := range []struct {
		change func(*offload.Flow)
		want   error
	}{
		{func(f *offload.Flow) { f.NH = 999 }, offload.ErrNextHop},
		{func(f *offload.Flow) { f.Scope = offload.MaxScope }, offload.ErrUnsupported},
		{func(f *offload.Flow) { f.Handover = offload.MaxSlots }, offload.ErrUnsupported},
		{func(f *offload.Flow) { f.Proto = packet.ProtoSCTP }, offload.ErrUnsupported},
		{func(f *offload.Flow) { f.To.Dst = packet.AddrFrom(b.a.Addr6) }, offload.ErrUnsupported},
		{func(f *offload.Flow) { f.To.Src, f.To.Dst = packet.Addr{}, packet.Addr{} }, offload.ErrUnsupported},
		{func(f *offload.Flow) { f.From = 1 << 23 }, offload.ErrUnsupported},
	} {
		f := *good
		c.change(&f)
		if err := b.c.Put(&f); !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "offload vif ") {
			t.Errorf("%v; want %v", err, c.want)
		}
	}
	if err := b.c.SetNextHops([]offload.NextHop{{ID: 1}}); !errors.Is(err, offload.ErrUnsupported) {
		t.Error(err)
	}
	ip6 := build.IPv6("2001:db8::1", "2001:db8::2").UDP(1, 2).Bytes()
	for i := range b.c.Cap() { // of both families together
		f := *good
		if i%3 == 0 {
			f = *flowOf(t, 1, ip6, ip6, toB)
		}
		f.Sport = uint16(i)
		b.put(t, &f)
	}
	f := *good
	f.From = 9
	if err := b.c.Put(&f); !errors.Is(err, offload.ErrFull) || b.c.Len() != b.c.Cap() {
		t.Errorf("%v with %d of %d flows", err, b.c.Len(), b.c.Cap())
	}
	f = *good
	f.Sport, f.Index = 7, 8
	b.put(t, &f) // it is there
	seen := map[offload.Key]bool{}
	for _, r := range b.records(t) {
		seen[r.Key] = true
	}
	if len(seen) != b.c.Cap() {
		t.Errorf("%d of %d flows are listed", len(seen), b.c.Cap())
	}
	var ways []offload.NextHop
	for i := range offload.MaxNextHops {
		ways = append(ways, local(uint32(1000+i), offload.Pod, b.a))
	}
	if err := b.c.SetNextHops(ways); !errors.Is(err, offload.ErrFull) {
		t.Errorf("too many next hops: %v", err)
	}
}
