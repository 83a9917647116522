package tap

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
	"github.com/vragent/vragent/fastpath/table"
)

// pipe is a Set with vifs 10 and 11, whose queues are sockets.
type pipe struct {
	*testing.T
	set  *Set
	pool *frame.Pool
	ends map[uint32]int
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	pools := frame.NewPools(chunks, 1)
	s, err := New(make(frame.Memory, frame.AddLarge(pools, larges)), pools[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &pipe{t, s, pools[0], map[uint32]int{10: feed(t, s, 10), 11: feed(t, s, 11)}}
}

// send sends frames in one batch and returns what arrives at the vif, with headers.
func (p *pipe) send(vif uint32, frames ...[]byte) (out [][]byte) {
	p.Helper()
	var run []frame.Desc
	for _, f := range frames {
		addr, _ := p.pool.Get()
		n := copy(p.set.memory.Chunk(addr)[frame.Headroom:], f)
		run = append(run, frame.Desc{Addr: addr + frame.Headroom, Len: uint32(n)})
	}
	if n := p.set.Transmit(run); n != len(run) {
		p.Fatalf("%d of %d taken", n, len(run))
	}
	if n := p.pool.Len(); n != chunks {
		p.Errorf("%d of %d chunks are free", n, chunks)
	}
	for buf := make([]byte, 1<<17); ; {
		n, err := unix.Read(p.ends[vif], buf)
		if err != nil {
			return out
		}
		out = append(out, bytes.Clone(buf[:n]))
	}
}

func to(vif uint32, p *build.Packet) []byte { return build.Eth(p.Bytes(), podMAC[0], link.VifMAC(vif)) }

// cut does what the pod's card would be asked to, segment by segment.
func cut(t *testing.T, whole []byte) (out [][]byte) {
	t.Helper()
	o, _, _, ok := readHeader(whole)
	f := bytes.Clone(whole[headerLen:])
	var in packet.Info
	if packet.ParseIP(f, 14, len(f)-14, &in) != packet.FaultNone || !ok {
		t.Fatalf("% x", whole[:60])
	}
	if o == 0 {
		return [][]byte{f}
	}
	at, _ := packet.PayloadAt(f, &in)
	for i, rest := 0, f[at:]; len(rest) > 0; i++ {
		n := min(len(rest), o.Size())
		s, sin := append(bytes.Clone(f[:at]), rest[:n]...), in
		packet.PutSegment(s, &sin, packet.Segment{Index: i, Off: i * o.Size(), Len: n, Last: n == len(rest)})
		// What was left to the card is checked, not replaced: it is of the whole packet.
		packet.PutChecksum(s, &sin)
		out, rest = append(out, s), rest[n:]
	}
	packet.FinishChecksum(f, in.L4, in.L4+16)
	if err := build.Verify(f[14:]); err != nil {
		t.Errorf("the whole packet, once finished: %v", err)
	}
	return out
}

// begin is a sequence number that soon wraps around.
var begin uint32 = 0xffffff00

// stream are segments of a connection.
func stream(v6 bool, sizes ...int) (out []*build.Packet) {
	at := 0
	for i, size := range sizes {
		p := build.IPv4("192.0.2.1", "192.0.2.2").DF().ID(uint16(i))
		if v6 {
			p = build.IPv6("2001:db8::1", "2001:db8::2")
		}
		p.TCP(1000, 80, "A").Seq(begin+uint32(at)).Ack(77).TCPOption(1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8)
		out = append(out, p.Payload(bytes.Repeat([]byte{byte('a' + i%26)}, size)))
		at += size
	}
	return out
}

func repeat(size, n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// TestJoin: segments that follow each other arrive as one packet, up to the largest there is.
func TestJoin(t *testing.T) {
	p := newPipe(t)
	for _, v6 := range []bool{false, true} {
		for _, c := range []struct {
			sizes []int
			want  int // packets
		}{
			{[]int{1400}, 1}, {[]int{1400, 1400}, 1}, {[]int{1400, 1}, 1}, {append(repeat(1400, 40), 7), 1},
			{[]int{1400, 700, 700}, 2}, {[]int{700, 1400}, 2}, {repeat(1400, 60), 2}, {repeat(100, 130), 3}, {[]int{0, 0}, 2},
		} {
			var frames [][]byte
			for _, s := range stream(v6, c.sizes...) {
				frames = append(frames, to(10, s))
			}
			out := p.send(10, frames...)
			if len(out) != c.want {
				t.Errorf("%d: %d packets, want %d", c.sizes, len(out), c.want)
			}
			p.same(out, frames)
		}
	}
}

// same wants what arrived, cut again, to be what was sent.
func (p *pipe) same(out, frames [][]byte) {
	p.Helper()
	var got [][]byte
	for _, whole := range out {
		got = append(got, cut(p.T, whole)...)
	}
	if len(got) != len(frames) {
		p.Fatalf("%d packets are %d segments, want %d", len(out), len(got), len(frames))
	}
	for i := range got {
		if d := build.Diff(got[i][14:], frames[i][14:]); d != "" {
			p.Fatalf("segment %d of %d: %s", i, len(got), d)
		}
		if !bytes.Equal(got[i][6:12], table.RouterMAC[:]) {
			p.Errorf("source % x", got[i][6:12])
		}
	}
}

// TestNotJoined: what is not the next segment of the same connection, alike in everything,
// arrives as it was sent.
func TestNotJoined(t *testing.T) {
	p := newPipe(t)
	first := func() *build.Packet { return stream(false, 1000, 1000)[0] }
	next := func() *build.Packet { return stream(false, 1000, 1000)[1] }
	if out := p.send(10, to(10, first()), to(10, next())); len(out) != 1 {
		t.Fatal("these are joined")
	}
	wrong := to(10, next())
	wrong[len(wrong)-1]++
	wrongFirst := to(10, first())
	wrongFirst[len(wrongFirst)-1]++
	padded := append(to(10, next()), 0)
	tcp := func(src string, sport uint16, flags string) *build.Packet {
		return build.IPv4(src, "192.0.2.2").DF().ID(1).TCP(sport, 80, flags).Seq(begin+1000).Ack(77).TCPOption(1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8).Payload(1000)
	}
	for name, c := range map[string][2][]byte{
		"a gap":             {to(10, first()), to(10, next().Seq(begin+1001))},
		"again":             {to(10, first()), to(10, first())},
		"another ack":       {to(10, first()), to(10, next().Ack(78))},
		"another TTL":       {to(10, first()), to(10, next().TTL(9))},
		"another TOS":       {to(10, first()), to(10, next().TOS(3))},
		"another source":    {to(10, first()), to(10, tcp("192.0.2.3", 1000, "A"))},
		"another port":      {to(10, first()), to(10, tcp("192.0.2.1", 1001, "A"))},
		"FIN":               {to(10, first()), to(10, tcp("192.0.2.1", 1000, "FA"))},
		"CWR":               {to(10, first()), to(10, tcp("192.0.2.1", 1000, "AC"))},
		"after PSH":         {to(10, tcp("192.0.2.1", 1000, "AP").Seq(begin)), to(10, tcp("192.0.2.1", 1000, "A"))},
		"options":           {to(10, first()), to(10, stream(false, 1000, 1000)[1].TCPOption(1, 1, 1, 1))},
		"a wrong checksum":  {to(10, first()), wrong},
		"a wrong first one": {wrongFirst, to(10, next())},
		"padding":           {to(10, first()), padded},
		"UDP": {
			to(10, build.IPv4("192.0.2.1", "192.0.2.2").DF().UDP(1, 2).Payload(100)),
			to(10, build.IPv4("192.0.2.1", "192.0.2.2").DF().UDP(1, 2).Payload(100)),
		},
		"fragments": {
			to(10, build.IPv4("192.0.2.1", "192.0.2.2").Frag(7, 0, true).TCP(1, 2, "A").Payload(60)),
			to(10, build.IPv4("192.0.2.1", "192.0.2.2").Frag(7, 80, false).Proto(6).Payload(60)),
		},
	} {
		out := p.send(10, bytes.Clone(c[0]), bytes.Clone(c[1]))
		if len(out) != 2 {
			t.Errorf("%s: %d packets", name, len(out))
			continue
		}
		for i := range out {
			if want := append(bytes.Repeat([]byte{0}, headerLen), c[i]...); !bytes.Equal(out[i][headerLen+14:], want[headerLen+14:]) || !bytes.Equal(out[i][:headerLen], want[:headerLen]) {
				t.Errorf("%s: packet %d has changed", name, i)
			}
		}
	}
	without := func(id uint16, seq uint32) []byte {
		return to(10, build.IPv4("192.0.2.1", "192.0.2.2").ID(id).TCP(1, 2, "A").Seq(seq).Payload(10))
	}
	if out := p.send(10, without(1, 0), without(2, 10)); len(out) != 2 {
		t.Error("without DF, the identification is lost")
	}
	if a, b := p.send(10, to(10, first()), to(11, next())), p.send(11); len(a) != 1 || len(b) != 1 {
		t.Errorf("two pods: %d and %d packets", len(a), len(b))
	}
}

// TestJoinRandom: whatever is joined is the same again when it is cut.
func TestJoinRandom(t *testing.T) {
	p := newPipe(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	joined := 0
	for range 300 {
		sizes := make([]int, 1+rnd.IntN(60))
		for i := range sizes {
			sizes[i] = []int{1400, 1400, 1400, 1400, 1 + rnd.IntN(1400), 0}[rnd.IntN(6)]
		}
		var frames [][]byte
		for i, s := range stream(rnd.IntN(2) == 0, sizes...) {
			switch rnd.IntN(12) {
			case 0:
				s.Ack(uint32(i))
			case 1:
				s.Seq(rnd.Uint32())
			case 2:
				s.TOS(4)
			}
			frames = append(frames, to(10, s))
		}
		out := p.send(10, frames...)
		joined += len(frames) - len(out)
		p.same(out, frames)
	}
	if joined < 1000 {
		t.Errorf("%d joined", joined)
	}
}

// TestJoinAllocates nothing, and takes what follows no other as it is.
func TestJoinAllocates(t *testing.T) {
	p := newPipe(t)
	var run []frame.Desc
	for _, s := range stream(false, repeat(1400, 40)...) {
		addr, _ := p.pool.Get()
		n := copy(p.set.memory.Chunk(addr)[frame.Headroom:], to(10, s))
		run = append(run, frame.Desc{Addr: addr + frame.Headroom, Len: uint32(n)})
	}
	if n := testing.AllocsPerRun(100, func() { p.set.join(run) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkJoin is what joining costs for each of 40 segments, checksums included.
func BenchmarkJoin(b *testing.B) {
	pools := frame.NewPools(chunks, 1)
	s := &Set{memory: make(frame.Memory, frame.AddLarge(pools, larges)), pool: pools[0]}
	var run []frame.Desc
	for _, p := range stream(false, repeat(1400, 40)...) {
		addr, _ := pools[0].Get()
		n := copy(s.memory.Chunk(addr)[frame.Headroom:], to(10, p))
		run = append(run, frame.Desc{Addr: addr + frame.Headroom, Len: uint32(n)})
	}
	first := bytes.Clone(s.memory.Bytes(run[0]))
	for b.Loop() {
		copy(s.memory.Bytes(run[0]), first)
		if s.join(run) != len(run) {
			b.Fatal("not joined")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(run)), "ns/segment")
}
