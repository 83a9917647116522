package steer_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/link/steer"
)

// TestByClsact: programs that are filters of clsact live, survive, are taken over and go
// as those attached by tcx do.
func TestByClsact(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"Killed": TestKilled, "Vifs": TestVifs, "Gone": TestGone, "Detached": TestDetached, "Drops": TestDrops,
		"Upgrade": TestUpgrade, "PuntAgain": TestPuntAgain, "Remove": TestRemove, "CacheAlone": TestCacheAlone,
	} {
		t.Run(name, test)
	}
}

// filters lists what tc shows of a device's received frames.
func (n *node) filters(t testing.TB, dev string) string {
	t.Helper()
	out, _ := exec.Command("tc", "-n", n.NS, "filter", "show", "dev", dev, "ingress").CombinedOutput()
	return string(out)
}

// openBy opens steering with programs attached as how says.
func (n *node) openBy(t testing.TB, how steer.Attach) *steer.Steer {
	t.Helper()
	n.Attach = how
	return n.open(t)
}

// TestChangeOfAttachment: a successor that attaches in the other way takes over what
// there is; each device has one program, and pods do not notice.
func TestChangeOfAttachment(t *testing.T) {
	n := newNode(t, "n", 1)
	a, b := n.addPod(t, 1, 1500), n.addPod(t, 2, 1500)
	s := n.openBy(t, steer.AttachTCX)
	n.attach(t, s, a)
	n.attach(t, s, b)
	fab := addFabric(t, n, s).vif.ID
	host := n.hostAddr(t)
	for _, how := range []steer.Attach{steer.AttachClsact, steer.AttachTCX, steer.AttachClsact} {
		s.Close()
		wantMute(t, n, a, host)
		s = n.openBy(t, how)
		wantVifs(t, s, 1, 2, fab)
		r := startRouter(t, n, s)
		transfer(t, a, b, b.Addr, 1<<18)
		r.halt(t)
		for _, dev := range []string{"tap1", "tap2", "fab0", "punt0"} {
			got := strings.Count(n.filters(t, dev), "direct-action")
			if want := map[steer.Attach]int{steer.AttachClsact: 1}[how]; got != want {
				t.Errorf("%s: %s has %d filters, want %d", how, dev, got, want)
			}
		}
	}
	// What others have on the device stays, and the discipline with it.
	run(t, "tc -n "+n.NS+" filter add dev fab0 egress prio 7 protocol ip u32 match u32 0 0 classid 1:1")
	if err := s.DetachVif(fab); err != nil {
		t.Error(err)
	}
	if out := n.filters(t, "fab0"); strings.Contains(out, "direct-action") {
		t.Errorf("left on the fabric:\n%s", out)
	}
	if out := run(t, "tc -n "+n.NS+" filter show dev fab0 egress"); !strings.Contains(out, "u32") {
		t.Errorf("another's filter is gone: %q", out)
	}
}

// TestForeignFilter: a filter that is not ours is not replaced, and one that somebody
// takes away makes the vif one that is not attached, until it is attached again.
func TestForeignFilter(t *testing.T) {
	n := newNode(t, "n", 1)
	a := n.addPod(t, 1, 1500)
	s := n.openBy(t, steer.AttachClsact)
	n.attach(t, s, a)
	run(t, "tc -n "+n.NS+" filter del dev tap1 ingress")
	wantVifs(t, s)
	n.attach(t, s, a)
	wantVifs(t, s, 1)
	if out := run(t, "tc -n "+n.NS+" filter show dev punt0 ingress"); strings.Count(out, "vragent-from_punt") != 1 {
		t.Errorf("on punt0:\n%s", out)
	}
	b := n.addPod(t, 2, 1500)
	run(t, "tc -n "+n.NS+" qdisc add dev tap2 clsact")
	run(t, "tc -n "+n.NS+" filter add dev tap2 ingress prio 1 protocol all u32 match u32 0 0 classid 1:1")
	in(t, n.NS, func() {
		if err := s.AttachVif(b.Vif); err == nil || !strings.Contains(err.Error(), "priority 1") {
			t.Errorf("attached beside a filter of the same priority: %v", err)
		}
	})
	wantVifs(t, s, 1)
}

// TestWithoutTCX: a kernel before 6.6 uses clsact, unless tcx was asked for, and says so.
func TestWithoutTCX(t *testing.T) {
	n := newNode(t, "n", 1)
	cfg := steer.Config{BPFDir: n.Dir, PuntOuter: n.Outer, PuntInner: n.Inner, Workers: 1, CacheFlows: 1024, Attach: steer.AttachTCX}
	in(t, n.NS, func() {
		if s, err := steer.OpenWithoutTCX(cfg); err == nil || !strings.Contains(err.Error(), "attach by tcx") {
			t.Errorf("%v, %v", s, err)
		}
	})
	cfg.Attach = "auto"
	var s *steer.Steer
	var err error
	in(t, n.NS, func() { s, err = steer.OpenWithoutTCX(cfg) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if l := s.Limits(); len(l) != 1 || !strings.HasSuffix(l[0], ".") {
		t.Errorf("limits %q", l)
	}
	if out := n.filters(t, "punt0"); !strings.Contains(out, "vragent-from_punt") {
		t.Errorf("on punt0: %q", out)
	}
	if s.Cache().Cap() == 0 {
		t.Error("no flow cache")
	}
}
