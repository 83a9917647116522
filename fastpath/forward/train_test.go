package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/packet/build"
)

// TestTrains: where the kernel joins segments, the last that leaves for a pod in a turn
// says so, after translation. Fragments that the router makes are left alone.
func TestTrains(t *testing.T) {
	for _, joins := range []bool{false, true} {
		b, n1, _ := twoNodes(t, 1)
		n1.workers[0].doors[0].joins = joins
		b.backends("b1")
		connect(b, 3000)
		n1.got("b1")
		segment := func(dst string, port uint16, i uint32, flags string) *build.Packet {
			return build.IPv4("10.0.0.2", dst).TCP(3000, port, flags).Seq(100 * i).Payload(100)
		}
		for i := range uint32(3) {
			n1.send("c", segment(vip, 8888, i, "A").Bytes())
		}
		n1.send("c", segment(vip, 8888, 3, "A").Payload(1000).Bytes())
		b.mtus(600, 1500)
		b.run()
		last := "A"
		if joins {
			last = "PA"
		}
		got := n1.got("b1")
		if len(got) != 5 {
			t.Fatalf("%d packets", len(got))
		}
		for i, flags := range []string{"A", "A", last} {
			if d := build.Diff(got[i], segment("10.0.0.3", 80, uint32(i), flags).TTL(63).Bytes()); d != "" {
				t.Errorf("joins %v, segment %d: %s", joins, i, d)
			}
		}
		for i, want := range build.Fragments(segment("10.0.0.3", 80, 3, "A").TTL(63).Payload(1000).Bytes(), 600, 0) {
			if d := build.Diff(got[3+i], want); d != "" {
				t.Errorf("joins %v, fragment %d: %s", joins, i, d)
			}
		}
		b.wantDrops("")
	}
}
