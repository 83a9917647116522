package loop

import (
	"context"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/table"
)

// TestLedgerGone takes the ledger away while the agent is: its successor touches
// nothing before the controller has spoken, gives no address a second time, and
// then has the same tables again.
func TestLedgerGone(t *testing.T) {
	m := newMachine(t)
	a := m.start()
	a.say(cluster()...)
	var ifaces []*rpc.Interface
	for i := range 4 {
		ifaces = append(ifaces, a.mustAdd(i))
	}
	a.healthy()
	before, pid := a.tables(), a.fastpath.Health().PID
	l, err := netlink.LinkByName(ifaces[1].Tap)
	must(t, err)
	if mark, ok := record.ParseMark(l.Attrs().Alias); !ok || !slices.Equal(mark.Addrs, ifaces[1].Addrs) || mark.VMI != ifaces[1].VMI || mark.Label == 0 || mark.Network != "vrouter" {
		t.Errorf("the mark %q says %+v", l.Attrs().Alias, mark)
	}
	a.stop()
	must(t, os.RemoveAll(m.cfg.StateDir))
	must(t, netlink.LinkSetAlias(l, "vrouter:c1:eth0")) // as an agent left it that did not mark

	b := m.start()
	if got := b.tables(); !reflect.DeepEqual(got, before) {
		t.Errorf("before the controller has spoken: tables\n got %+v\nwant %+v", got, before)
	}
	lost := b.ask(&rpc.Request{VMIs: &rpc.Empty{}}).VMIs
	if len(lost) != 4 || lost[0].State != "lost" {
		t.Errorf("VMIs %+v", lost)
	}
	n := index(t, ifaces[2].Tap)
	if r := b.ask(&rpc.Request{Check: &rpc.Check{Attachment: id(2), Ifindex: n}}); r.Error == nil || r.Error.Code != rpc.CodeTryAgain {
		t.Errorf("CHECK of a lost one: %v", r.Error)
	}
	b.del(0, ifaces[0].Tap)
	all := slices.DeleteFunc(cluster(), func(r *southbound.Resource) bool { return r.GetName() == ifaces[3].VMI })
	// A controller that has just begun says nothing of other nodes at first.
	others := []southbound.Type{southbound.Type_TYPE_NODE, southbound.Type_TYPE_ROUTE, southbound.Type_TYPE_LOAD_BALANCER}
	isOther := func(k southbound.Type) bool { return slices.Contains(others, k) }
	b.events.call(context.Background(), func() {
		b.update(dial.Update{ToAgent: &southbound.ToAgent{
			Upserts: slices.DeleteFunc(slices.Clone(all), func(r *southbound.Resource) bool { return isOther(r.GetType()) }),
			InSync:  slices.DeleteFunc(slices.Clone(southbound.Types[:]), isOther),
		}})
	})
	if got := b.tables(); !reflect.DeepEqual(got, before) {
		t.Errorf("before the controller has said all: tables\n got %+v\nwant %+v", got, before)
	}
	b.say(all...)
	b.healthy()
	if tunnel := func(n table.NextHop) bool { return n.Type == table.NHTunnel }; !reflect.DeepEqual(
		before.NextHops[slices.IndexFunc(before.NextHops, tunnel)], b.tables().NextHops[slices.IndexFunc(b.tables().NextHops, tunnel)]) {
		t.Error("the tunnel is not as it was")
	}
	gone := []string{ifaces[0].Tap, ifaces[3].Tap} // deleted; of a pod the controller no longer has
	if got := b.vifs(); slices.Contains(got, gone[0]) || slices.Contains(got, gone[1]) || len(got) != 4 {
		t.Errorf("vifs %v", got)
	}
	for _, was := range before.Vifs {
		if !slices.Contains(gone, was.Name) && !slices.ContainsFunc(b.tables().Vifs, func(v table.Vif) bool { return reflect.DeepEqual(v, was) }) {
			t.Errorf("vif %s is not as it was", was.Name)
		}
	}
	for _, l := range b.tables().Labels {
		if slices.Contains(before.Labels, l) {
			continue
		}
		for _, was := range before.Labels {
			if was.Label == l.Label {
				t.Errorf("label %d led to next hop %d, and leads to %d", l.Label, was.NH, l.NH)
			}
		}
	}
	taken := map[netip.Addr]bool{}
	for _, v := range before.Vifs {
		for _, a := range v.Addrs {
			taken[a] = v.Name != ifaces[0].Tap
		}
	}
	for i := 10; i < 20; i++ {
		iface := b.mustAdd(i)
		for _, a := range iface.Addrs {
			if taken[a] {
				t.Errorf("%v is given twice", a)
			}
		}
		b.del(i, iface.Tap)
	}
	if b.fastpath.Health().PID != pid {
		t.Error("another fast path")
	}
	if again := b.mustAdd(2); !reflect.DeepEqual(again, ifaces[2]) {
		t.Errorf("ADD again: %+v", again)
	}
	for _, i := range []int{1, 2, 3} {
		b.del(i, ifaces[i].Tap)
	}
	if used := b.ask(&rpc.Request{Blocks: &rpc.Empty{}}).Blocks[0].Used; used != 1 { // the host
		t.Errorf("%d addresses in use", used)
	}
}
