package record

import (
	"net/netip"
	"testing"
)

func TestAttachmentKey(t *testing.T) {
	k := AttachmentKey{"c0ffee", "eth0"}
	got, err := ParseAttachmentKey(k.String())
	if err != nil || got != k {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"", "/", "a/", "/a", "a", "a/b/c"} {
		if _, err := ParseAttachmentKey(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Attachment{
		ContainerID: "c", Ifname: "eth0", VMI: "u", VN: "n", Tap: "tap1",
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Attachment){
		"container": func(a *Attachment) { a.ContainerID = "x/y" },
		"ifname":    func(a *Attachment) { a.Ifname = "" },
		"vmi":       func(a *Attachment) { a.VMI = "" },
		"tap":       func(a *Attachment) { a.Tap = "sixteen-bytes-ab" },
		"none":      func(a *Attachment) { a.Addrs = nil },
		"multicast": func(a *Attachment) { a.Addrs = []netip.Addr{netip.MustParseAddr("ff02::1")} },
		"zero":      func(a *Attachment) { a.Addrs = []netip.Addr{{}} },
		"cluster":   func(a *Attachment) { a.ClusterAddrs, a.ClusterVN = []netip.Addr{{}}, "d" },
		"no outer":  func(a *Attachment) { a.ClusterAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.2")} },
	} {
		bad := good
		spoil(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
