package state

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

// sayings are the findings, one a line.
func sayings(c *rpc.LeakCheck) string {
	var out []string
	for _, l := range c.Leaks {
		out = append(out, fmt.Sprintf("%v %s: %s [%s] %t", l.Addr, l.Owner, l.Cause, l.Fix, l.Repaired))
	}
	return strings.Join(out, "\n")
}

// intact is what the kernel says when all is well.
func intact(n *Node) *Facts {
	f := &Facts{Taps: map[string]int{}, Marks: map[string]record.Mark{}, Netns: func(string) bool { return true }}
	for _, a := range n.attachments {
		f.Taps[a.Tap] = a.ifindex
		f.Marks[a.Tap] = *n.mark(a.Key(), a)
	}
	return f
}

func (f *Facts) lose(tap string) {
	delete(f.Taps, tap)
	delete(f.Marks, tap)
}

func TestAudit(t *testing.T) {
	later := epoch.Add(time.Hour)
	const pod1, pod2 = "192.0.2.2", "192.0.2.3" // the host has the first
	for _, c := range []struct {
		name  string
		spoil func(n *Node, f *Facts)
		want  []string // sentences about pod 1's IPv4 address, or the one named
		heals bool     // repair leaves nothing to say
	}{
		{"all is well", func(*Node, *Facts) {}, nil, true},
		{"interface and namespace gone", func(n *Node, f *Facts) {
			f.lose(n.attachments[key("b")].Tap)
			f.Netns = func(p string) bool { return p != "/run/netns/b" }
		}, []string{pod1 + " pod default/pod-1: interface tap00000001-00 is gone, and its namespace /run/netns/b too"}, true},
		{"only the interface gone", func(n *Node, f *Facts) { f.lose(n.attachments[key("b")].Tap) },
			[]string{pod1 + " pod default/pod-1: interface tap00000001-00 is gone, but namespace /run/netns/b is there [delete the pod] false"}, false},
		{"orphan without a namespace", func(n *Node, f *Facts) {
			n.Apply(removal(southbound.Type_TYPE_VMI, uuid(1)), later)
			f.Netns = func(p string) bool { return p != "/run/netns/b" }
		}, []string{"the controller no longer has the pod, and namespace /run/netns/b is gone, but interface tap00000001-00 is there"}, false},
		{"a stranger's interface", func(_ *Node, f *Facts) {
			f.Taps["tapx"] = 7
			f.Marks["tapx"] = record.Mark{AttachmentKey: key("x"), VMI: "x", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.50")}}
		}, []string{"192.0.2.50 container x: nothing is recorded of interface tapx"}, false},
		{"in use by nobody", func(n *Node, _ *Facts) { n.pool(network, true).Take(netip.MustParseAddr("192.0.2.40")) },
			[]string{"192.0.2.40 : it is in use, by nobody"}, true},
		{"in use and free", func(n *Node, _ *Facts) { n.pool(network, true).Release(netip.MustParseAddr(pod1), later) },
			[]string{pod1 + " pod default/pod-1: it is in use and free to be given again"}, true},
		{"outside of the blocks", func(n *Node, _ *Facts) {
			n.attachments[key("b")].Addrs[0] = netip.MustParseAddr("192.0.2.200")
			n.pool(network, true).Release(netip.MustParseAddr(pod1), later)
		}, []string{"192.0.2.200 pod default/pod-1: it lies in no block that is leased to this node [delete the pod] false"}, false},
		{"two owners", func(n *Node, _ *Facts) {
			n.attachments[key("b")].Addrs[0] = netip.MustParseAddr(pod2)
			n.pool(network, true).Release(netip.MustParseAddr(pod1), later)
		}, []string{
			pod2 + " pod default/pod-1: it has 2 owners: [pod default/pod-1 pod default/pod-2]",
			pod2 + " pod default/pod-2: it has 2 owners: [pod default/pod-1 pod default/pod-2]",
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := ready(t)
			for i, id := range []string{"b", "c"} {
				attach(t, n, i+1, id)
				_ = n.Bind(key(id), 100+i)
			}
			f := intact(n)
			c.spoil(n, f)
			got := n.Audit(f, false, later)
			if text := sayings(got); len(c.want) == 0 && text != "" {
				t.Errorf("found\n%s", text)
			}
			for _, want := range c.want {
				if text := sayings(got); !strings.Contains(text, want) {
					t.Errorf("missing %q in\n%s", want, text)
				}
			}
			if again := n.Audit(f, false, later); sayings(again) != sayings(got) {
				t.Errorf("looking changes what is seen\n%s\n%s", sayings(got), sayings(again))
			}
			if got.Addresses < 6 && c.name != "two owners" {
				t.Errorf("%d addresses were looked at", got.Addresses)
			}
			for _, l := range n.Audit(f, true, later).Leaks {
				if l.Repaired != c.heals {
					t.Errorf("%+v", l)
				}
			}
			if left := sayings(n.Audit(intact(n), false, later)); c.heals && left != "" {
				t.Errorf("after the repair\n%s", left)
			}
		})
	}
}

// An attachment whose interface is still being made is no leak.
func TestAuditDuringADD(t *testing.T) {
	n := ready(t)
	attach(t, n, 1, "b")
	f := &Facts{Netns: func(string) bool { return false }}
	if got := n.Audit(f, true, epoch.Add(time.Second)); len(got.Leaks) != 0 || n.attachments[key("b")] == nil {
		t.Error(sayings(got))
	}
}
