package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestTap is the life of a pod whose interface is a tap: made, made again, checked,
// and gone without a trace; what is left of one that was killed half way is no hindrance.
func TestTap(t *testing.T) {
	n := newNode(t)
	n.agent.IO = "tap"
	list, pod := n.network("1.1.0"), n.container()
	before := n.snapshot()
	// An ADD that was killed after its first step.
	if out, err := exec.Command("ip", "-n", pod.name, "tuntap", "add", "eth0", "mode", "tap", "multi_queue", "vnet_hdr").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 2 {
		if _, err := n.add(list, pod); err != nil {
			t.Fatal(err)
		}
	}
	tap, err := n.handle.LinkByName(n.agent.Interface(pod.key()).Tap)
	if err != nil {
		t.Fatal(err)
	}
	eth0, err := pod.handle.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{tap, eth0} {
		if a := l.Attrs(); l.Type() != "tuntap" || a.MTU != 1468 || a.RawFlags&1 == 0 {
			t.Errorf("%s: %s, mtu %d, flags %#x", a.Name, l.Type(), a.MTU, a.RawFlags)
		}
	}
	if alias := tap.Attrs().Alias; alias != "vrouter:"+pod.id+":eth0" {
		t.Errorf("alias %q", alias)
	}
	out, err := exec.Command("ip", "-n", pod.name, "-d", "link", "show", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "multi_queue") || !strings.Contains(string(out), "persist on") {
		t.Errorf("%v: %s", err, out)
	}
	if err := n.check(list, pod); err != nil {
		t.Errorf("check: %v", err)
	}
	// A collection removes the host's end alone: it does not reach the pod.
	if err := n.handle.LinkDel(tap); err != nil {
		t.Fatal(err)
	}
	if _, err := n.add(list, pod); err != nil {
		t.Errorf("the pod's end is left: %v", err)
	}
	if err := n.check(list, pod); err != nil {
		t.Errorf("check: %v", err)
	}
	for _, change := range []string{"link del eth0", "tuntap add eth0 mode tap multi_queue vnet_hdr"} { // the second is a foreign one
		if out, err := exec.Command("ip", append([]string{"-n", pod.name}, strings.Fields(change)...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", change, err, out)
		}
		if err := n.check(list, pod); err == nil {
			t.Errorf("check is content after %q", change)
		}
	}
	if out, err := exec.Command("ip", "-n", pod.name, "link", "del", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := n.add(list, pod); err != nil { // made anew
		t.Fatal(err)
	}
	if tap, err = n.handle.LinkByName(tap.Attrs().Name); err != nil {
		t.Fatal(err)
	}
	if err := n.handle.LinkDel(tap); err != nil {
		t.Fatal(err)
	}
	for range 2 { // DEL finds the pod's end alone
		if err := n.del(list, pod); err != nil {
			t.Errorf("del: %v", err)
		}
	}
	n.wantSame(before)
	n.wantQuiet()
}
