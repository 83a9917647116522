package forward

import (
	"testing"

	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet/build"
)

// FuzzTurn gives any bytes to the loop, from a pod, from the host, as a tunnel packet
// and in one. Nothing panics, every buffer comes home, every packet leaves by one door.
func FuzzTurn(f *testing.F) {
	for _, p := range []*build.Packet{
		build.IPv4("10.0.0.2", "10.0.0.3").UDP(1000, 53).Payload(64),
		build.IPv4("10.0.0.2", vip).TCP(1000, 8888, "S").MSS(9000),
		build.IPv4("10.0.0.2", vip).UDP(1000, 53).Payload(3000),
		build.IPv4("10.0.1.2", vip).TCP(1000, 8888, "S"),
		build.IPv4("10.0.1.2", "10.0.0.2").SCTP(1, 2).Payload(9000),
		build.IPv4("10.0.0.2", "10.0.1.2").PortUnreachable(build.IPv4("10.0.1.2", "10.0.0.2").UDP(1, 2).Bytes()),
		build.IPv4("10.0.0.2", "10.0.1.2").TTL(1).Options(7, 7, 4, 0, 0, 0, 0).Echo(1, 2),
		build.IPv4("10.0.0.2", "10.0.1.2").Frag(7, 0, true).UDP(1, 2).Payload(16),
		build.IPv6("2001:db8::2", "2001:db8:1::2").UDP(1, 2).Payload(1400),
		build.IPv6("2001:db8::2", "2001:db8:96::a").Ext(0, 16).TCP(1, 8888, "S"),
		build.IPv6("2001:db8::2", "2001:db8:1::2").Frag(7, 1480, false).Proto(17).Payload(100),
		build.NS("2001:db8::2", "fe80::1", mac),
	} {
		f.Add(p.Bytes(), uint8(0), true)
		f.Add(p.Bytes(), uint8(3), false)
	}
	f.Add(build.ARPRequest(mac, "10.0.0.2", "169.254.1.1")[14:], uint8(0x40), true)
	f.Fuzz(func(t *testing.T, data []byte, how uint8, again bool) {
		if len(data) == 0 || len(data) > 20000 {
			return
		}
		b, n1, _ := twoNodes(t, 1+int(how>>7))
		if how&0x20 != 0 {
			b.mtus(600, 700) // answers do not fit, everything is cut
		}
		for range 2 {
			for _, frame := range fuzzFrames(data, how) {
				n1.inject(frame)
			}
			n1.shared.Trace(fuzzFrames(data, how)[0])
			b.run()
			if !again {
				break
			}
		}
		b.frames()
	})
}

// fuzzFrames are the frames that data may be.
func fuzzFrames(data []byte, how uint8) [][]byte {
	vif := func(id uint32, etherType uint16, payload []byte) []byte {
		frame := append(vifMAC(id), mac[:]...)
		return append(frame, append([]byte{byte(etherType >> 8), byte(etherType)}, payload...)...)
	}
	etherType := []uint16{0x0800, 0x86dd, 0x0806, 0x88cc}[how>>6&3]
	if etherType == 0x0800 && data[0]>>4 == 6 {
		etherType = 0x86dd
	}
	label := []uint32{vrfLabel, labelPods, labelPods + 1, 4711}[how&3]
	tunnel := build.Eth(build.Tunnel(data, "192.0.2.2", "192.0.2.1", label), link.VifMAC(1), mac)
	return [][]byte{
		vif(10, etherType, data), vif(11, etherType, data), vif(2, etherType, data), vif(1, 0x0800, data), tunnel,
		append(vifMAC(10), data...), data,
	}
}
