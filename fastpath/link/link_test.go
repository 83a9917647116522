package link_test

import (
	"testing"

	"github.com/vragent/vragent/fastpath/link"
)

func TestVifMAC(t *testing.T) {
	for _, id := range []uint32{0, 1, 0x01020304, ^uint32(0)} {
		mac := link.VifMAC(id)
		if mac[0]&3 != 2 {
			t.Errorf("%x is not a locally administered unicast address", mac)
		}
		if got, ok := link.VifOf(mac[:]); got != id || !ok {
			t.Errorf("VifOf(VifMAC(%d)) is %d %v", id, got, ok)
		}
	}
	if _, ok := link.VifOf([]byte{0x02, 0x57, 0, 0, 0, 1}); ok {
		t.Error("02:57:… is taken for a vif")
	}
	if mac := link.VifMAC(0x01020304); mac != [6]byte{2, 0x56, 1, 2, 3, 4} {
		t.Errorf("VifMAC is %x", mac)
	}
}
