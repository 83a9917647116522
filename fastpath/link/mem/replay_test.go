package mem

import (
	"testing"

	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// TestReplay: what is received is what a builder makes of the same fields, round
// and round; every buffer comes back.
func TestReplay(t *testing.T) {
	memory := make(frame.Memory, 4*frame.ChunkSize)
	pool := frame.NewPools(4, 1)[0]
	r := NewReplay(memory, pool)
	whole := func(src string, sport uint16) []byte {
		return build.Eth(build.IPv4(src, "192.0.2.9").UDP(sport, 53).NoChecksum().Bytes(), [6]byte{2}, [6]byte{4})
	}
	r.Frames = []Frame{{Bytes: whole("192.0.2.1", 1), Src: 26, Dst: 30, Ports: 34, Sum: 24}}
	var want [][]byte
	for i, src := range []string{"192.0.2.1", "192.0.2.77", "203.0.113.5"} {
		b := whole(src, uint16(1000+i))
		want = append(want, b)
		r.Packets = append(r.Packets, Packet{Src: [4]byte(b[26:30]), Dst: [4]byte(b[30:34]), Sport: uint16(1000 + i), Dport: 53, Sum: uint16(b[24])<<8 | uint16(b[25])})
	}
	var b [2]frame.Desc
	for round := range 7 {
		if n := r.Receive(b[:]); n != 2 {
			t.Fatalf("received %d packets", n)
		}
		for i, d := range b {
			if got := memory.Bytes(d); string(got) != string(want[(2*round+i)%3]) {
				t.Errorf("packet %d is % x, want % x", 2*round+i, got, want[(2*round+i)%3])
			}
		}
		if n := r.Transmit(b[:]); n != 2 || pool.Len() != 4 {
			t.Errorf("transmitted %d, %d buffers are free", n, pool.Len())
		}
	}
	if n := testing.AllocsPerRun(100, func() { r.Transmit(b[:r.Receive(b[:])]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if r.Stop = true; r.Receive(b[:]) != 0 {
		t.Error("received after the stop")
	}
}
