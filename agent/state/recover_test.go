package state

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

// foundOf is what the kernel shows of a node's pods.
func foundOf(t *testing.T, n *Node) record.Found {
	t.Helper()
	f := record.Found{}
	f.Host, _ = n.Host()
	for ifindex, m := range n.Marks() {
		text, ok := m.String()
		read, ours := record.ParseMark(text)
		if !ok || !ours {
			t.Fatalf("mark %q", text)
		}
		f.Lost = append(f.Lost, record.Lost{Mark: *read, Tap: n.attachments[m.AttachmentKey].Tap, Ifindex: ifindex, MTU: 1468})
	}
	return f
}

func resources(pods ...int) *southbound.ToAgent {
	m := &southbound.ToAgent{Upserts: []*southbound.Resource{networkResource(), block("192.0.2.0/26"), block("2001:db8:1::/122")}}
	for _, i := range pods {
		m.Upserts = append(m.Upserts, podVMI(i))
	}
	return m
}

// A node whose ledger is gone has the same pods, addresses and numbers as before,
// in whatever order the controller says things again.
func TestLostLedger(t *testing.T) {
	n := ready(t)
	for i := 1; i < 6; i++ {
		attach(t, n, i, string(rune('a'+i)))
		if e := n.Bind(key(string(rune('a'+i))), 100+i); e != nil {
			t.Fatal(e)
		}
	}
	before, host := n.Input().Pods, n.hosts[network].Addrs
	found := foundOf(t, n)
	all := resources(1, 2, 3, 4, 5)
	for _, reverse := range []bool{false, true} {
		if reverse {
			slices.Reverse(all.Upserts)
		}
		now := fresh(t, &record.Contents{Found: found}, epoch.Add(time.Hour))
		if now.CountLost() != 5 || len(now.Input().Pods) != 0 {
			t.Fatalf("%d lost, %d pods", now.CountLost(), len(now.Input().Pods))
		}
		for _, r := range all.Upserts { // one at a time
			now.Apply(&southbound.ToAgent{Upserts: []*southbound.Resource{r}}, epoch.Add(time.Hour))
		}
		if now.CountLost() != 0 {
			t.Errorf("%d are still lost", now.CountLost())
		}
		sorted := func(list []compile.Pod) []compile.Pod {
			slices.SortFunc(list, func(a, b compile.Pod) int { return a.Ifindex - b.Ifindex })
			return list
		}
		if got := sorted(now.Input().Pods); !reflect.DeepEqual(got, sorted(before)) {
			t.Errorf("pods were\n%+v\nand are\n%+v", before, got)
		}
		if !reflect.DeepEqual(now.hosts[network].Addrs, host) {
			t.Errorf("the host was %v and is %v", host, now.hosts[network].Addrs)
		}
		for i := 1; i < 6; i++ {
			k := key(string(rune('a' + i)))
			if a, b := n.ids.PodKnown(k, uuid(i)), now.ids.PodKnown(k, uuid(i)); a != b || a.Label == 0 {
				t.Errorf("numbers of %s were %v and are %v", k, a, b)
			}
		}
		// What is remembered now explains everything.
		var m memory
		m.commit(now.TakeChange())
		again := fresh(t, &m.Contents, epoch.Add(2*time.Hour))
		if got := len(again.attachments); got != 5 {
			t.Errorf("%d attachments are in the new ledger", got)
		}
		if a, b := now.ids.PodKnown(key("b"), uuid(1)), again.ids.PodKnown(key("b"), uuid(1)); a != b {
			t.Errorf("numbers in the new ledger: %v, not %v", b, a)
		}
	}
}

// Addresses of lost pods are given to nobody, also not while the controller has
// said nothing of them, until they are deleted.
func TestLostKeepTheirAddresses(t *testing.T) {
	n := ready(t)
	taken := map[netip.Addr]bool{}
	for i := 1; i < 4; i++ {
		for _, a := range attach(t, n, i, string(rune('a'+i))).Addrs {
			taken[a] = true
		}
		_ = n.Bind(key(string(rune('a'+i))), 100+i)
	}
	for _, a := range n.hosts[network].Addrs {
		taken[a] = true
	}
	now := fresh(t, &record.Contents{Found: foundOf(t, n)}, epoch)
	now.Apply(resources(4, 5, 6, 7, 8, 9), epoch)
	if refusal := second(now.Attach(ask(1, "b"), epoch)); refusal == nil || refusal.Code != rpc.CodeTryAgain {
		t.Errorf("ADD of a lost one: %v", refusal)
	}
	for i := 4; i < 10; i++ {
		for _, a := range attach(t, now, i, string(rune('m'+i))).Addrs {
			if taken[a] {
				t.Errorf("%v is given twice", a)
			}
			taken[a] = true
		}
	}
	used := func() (n int) {
		for _, b := range now.Blocks() {
			n += b.Used
		}
		return n
	}
	inPools := func() (n int) {
		for _, p := range now.pools {
			for _, b := range p.Blocks() {
				n += b.Used()
			}
		}
		return n
	}
	if inPools() != len(taken) {
		t.Errorf("%d addresses are in use, expected %d (%d shown)", inPools(), len(taken), used())
	}
	if got := now.Invalid(&rpc.GC{Network: "vrouter", Valid: []rpc.Attachment{{ContainerID: "b", Ifname: "eth0"}}}); got[key("b")] != "" || got[key("c")] == "" {
		t.Errorf("not valid any more: %v", got)
	}
	for i := 1; i < 4; i++ {
		if !now.Detach(key(string(rune('a'+i))), epoch) || now.Detach(key(string(rune('a'+i))), epoch) {
			t.Error("DEL of a lost one")
		}
	}
	if now.CountLost() != 0 || inPools() != len(taken)-6 {
		t.Errorf("%d lost, %d addresses in use", now.CountLost(), inPools())
	}
}

func second(_ *rpc.Interface, e *rpc.Error) *rpc.Error { return e }

// A pod of a translated network keeps its own and its cluster addresses, and
// leaves those of other networks free.
func TestLostTranslated(t *testing.T) {
	const custom, other = "k8s-red:net", "k8s-blue:net"
	net := func(name, prefix string) []*southbound.Resource {
		return []*southbound.Resource{
			southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, name, &southbound.VirtualNetwork{Name: name, Subnets: []string{prefix}, Translated: true}),
			southbound.NewResource(southbound.Type_TYPE_BLOCK, name+"/b", &southbound.Block{VirtualNetwork: name, Prefix: prefix}),
		}
	}
	in := func(name string) func(*southbound.VMI) { return func(v *southbound.VMI) { v.VirtualNetwork = name } }
	all := &southbound.ToAgent{Upserts: []*southbound.Resource{networkResource(), block("192.0.2.0/26"), podVMI(1, in(custom)), podVMI(2, in(other))}}
	all.Upserts = append(append(all.Upserts, net(custom, "203.0.113.0/29")...), net(other, "203.0.113.0/29")...)
	n := fresh(t, &record.Contents{}, epoch)
	if nacks := n.Apply(all, epoch); len(nacks) > 0 {
		t.Fatal(nacks)
	}
	for i := 1; i < 3; i++ { // both have the same address
		attach(t, n, i, string(rune('a'+i)))
		_ = n.Bind(key(string(rune('a'+i))), 100+i)
	}
	now := fresh(t, &record.Contents{Found: foundOf(t, n)}, epoch)
	if nacks := now.Apply(all, epoch); len(nacks) > 0 {
		t.Fatal(nacks)
	}
	for _, k := range []record.AttachmentKey{key("b"), key("c")} {
		a, b := n.attachments[k].Attachment, now.attachments[k].Attachment
		b.Netns, b.Created = a.Netns, a.Created
		if !reflect.DeepEqual(a, b) {
			t.Errorf("was\n%+v\nis\n%+v", a, b)
		}
	}
	for k, p := range n.pools {
		was, is := 0, 0
		for _, b := range p.Blocks() {
			was += b.Used()
		}
		for _, b := range now.pools[k].Blocks() {
			is += b.Used()
		}
		if was != is {
			t.Errorf("%v: %d addresses were in use, and %d are", k, was, is)
		}
	}
}
