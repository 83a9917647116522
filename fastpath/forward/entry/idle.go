package entry

import (
	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/packet"
)

// TickShift turns monotonic nanoseconds into the ticks of flow entries.
const TickShift = 24

// Second is about a second in ticks of 16.8 ms.
const Second = 60

// Idle times after which a flow is forgotten, in ticks.
const (
	dead        = 5 * Second
	embryonic   = 30 * Second
	halfClosed  = 120 * Second
	established = 7440 * Second // RFC 5382, REQ-5: at least 2 h 4 min
	udp         = 180 * Second  // RFC 4787, REQ-5: at least 2 min; Contrail's 180 s
	icmp        = 30 * Second
	other       = 900 * Second
)

// Timeout is the idle time after which a flow is forgotten, in ticks.
func Timeout(proto uint8, tcp flow.TCPState) uint32 {
	switch proto {
	case packet.ProtoTCP:
		switch {
		case tcp&flow.DEAD != 0:
			return dead
		case tcp&flow.HALF != 0:
			return halfClosed
		case tcp&(flow.EST|flow.ESTr) == 0:
			return embryonic
		}
		return established
	case packet.ProtoUDP:
		return udp
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return icmp
	}
	return other
}

// Idle is the time since seen in ticks; another worker's clock may be a turn ahead.
func Idle(now, seen uint32) uint32 {
	if d := int32(now - seen); d > 0 {
		return uint32(d)
	}
	return 0
}
