package train

import (
	"slices"
	"testing"

	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// segment is a packet of 100 bytes of TCP payload from port, at seq.
func segment(port uint16, seq uint32, flags string) *build.Packet {
	return build.IPv4("192.0.2.1", "198.51.100.1").TCP(port, 80, flags).Seq(seq).Payload(100)
}

// The end of every run of segments gets PSH, once: what is sent next, or that nothing is,
// shows where it is. All else leaves as it came.
func TestTrain(t *testing.T) {
	six := build.IPv6("2001:db8::1", "2001:db8::2").TCP(7, 80, "A").Seq(5).Payload(101)
	for name, c := range map[string]struct {
		packets []*build.Packet
		want    []int // those that PSH is added to
	}{
		"one":                      {[]*build.Packet{segment(7, 0, "A")}, []int{0}},
		"one run":                  {[]*build.Packet{segment(7, 0, "A"), segment(7, 100, "A"), segment(7, 200, "A")}, []int{2}},
		"wraps around":             {[]*build.Packet{segment(7, 1<<32-100, "A"), segment(7, 0, "A")}, []int{1}},
		"a gap":                    {[]*build.Packet{segment(7, 0, "A"), segment(7, 200, "A")}, []int{0, 1}},
		"once more":                {[]*build.Packet{segment(7, 0, "A"), segment(7, 0, "A")}, []int{0, 1}},
		"two connections":          {[]*build.Packet{segment(7, 0, "A"), segment(8, 100, "A"), segment(7, 100, "A")}, []int{0, 1, 2}},
		"sender's own":             {[]*build.Packet{segment(7, 0, "A"), segment(7, 100, "PA")}, nil},
		"after the sender's":       {[]*build.Packet{segment(7, 0, "PA"), segment(7, 100, "A")}, []int{1}},
		"its end":                  {[]*build.Packet{segment(7, 0, "A"), segment(7, 100, "FA")}, nil},
		"an acknowledgement alone": {[]*build.Packet{segment(7, 0, "A"), segment(7, 100, "A").Payload(0), segment(7, 100, "A")}, []int{0, 2}},
		"datagrams":                {[]*build.Packet{segment(7, 0, "A"), build.IPv4("192.0.2.1", "198.51.100.1").UDP(7, 80).Payload(100)}, []int{0}},
		"fragments":                {[]*build.Packet{segment(7, 0, "A").Frag(1, 0, true)}, nil},
		"IPv6, odd":                {[]*build.Packet{six}, []int{0}},
		"no TCP header yet":        {[]*build.Packet{build.IPv4("192.0.2.1", "198.51.100.1").Proto(6).Payload(8)}, nil},
		"nothing":                  {nil, nil},
	} {
		var train Train
		var all [][]byte
		var before []byte // flags
		for _, p := range c.packets {
			b := p.Bytes()
			var in packet.Info
			packet.ParseIP(b, 0, len(b), &in)
			all, before = append(all, b), append(before, in.TCPFlags)
			train.Add(b, &in)
		}
		train.End()
		train.End()
		var got []int
		for i, b := range all {
			var in packet.Info
			packet.ParseIP(b, 0, len(b), &in)
			switch in.TCPFlags {
			case before[i]:
			case before[i] | packet.PSH:
				got = append(got, i)
			default:
				t.Errorf("%s: packet %d: flags %s, sent %s", name, i, build.Flags(in.TCPFlags), build.Flags(before[i]))
			}
			if err := build.Verify(b); err != nil && in.L4 != 0 && in.Frag == packet.FragNone {
				t.Errorf("%s: packet %d: %v", name, i, err)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: PSH was added to %v, want %v", name, got, c.want)
		}
	}
}
