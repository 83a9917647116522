package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/table"
)

// tenants are two networks with the same address, the only one; pod 1 is in red, pod 2 in blue.
func tenants() []*southbound.Resource {
	var out []*southbound.Resource
	for i, name := range []string{"red", "blue"} {
		out = append(out,
			southbound.NewResource(southbound.Type_TYPE_VIRTUAL_NETWORK, name, &southbound.VirtualNetwork{
				Name: name, Subnets: []string{"203.0.113.0/24"}, Translated: true,
				Imports: []*southbound.Import{{VirtualNetwork: network, ReplyOnly: true}},
			}),
			southbound.NewResource(southbound.Type_TYPE_BLOCK, name, &southbound.Block{VirtualNetwork: name, Prefix: "203.0.113.0/31"}),
			vmiIn(i+1, name, ""))
	}
	return out
}

func vmiIn(i int, network, refusal string) *southbound.Resource {
	u := fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
	return southbound.NewResource(southbound.Type_TYPE_VMI, u, &southbound.VMI{
		Uuid: u, VirtualNetwork: network, Namespace: "default", Pod: fmt.Sprint("pod-", i), Refusal: refusal,
	})
}

// hostRoutes are those the host's interface leads to single addresses.
func hostRoutes(t *testing.T) (out []string) {
	t.Helper()
	l, err := netlink.LinkByName("vhost0")
	must(t, err)
	routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		if ones, bits := r.Dst.Mask.Size(); ones == bits && bits == 8*net.IPv4len {
			out = append(out, r.Dst.IP.String())
		}
	}
	return out
}

// Two pods with one address: the host reaches one by it, both are known at their
// cluster addresses, and this lasts over a restart.
func TestTenants(t *testing.T) {
	m := newMachine(t)
	a := m.start()
	a.say(append(cluster(), tenants()...)...)
	red, blue := a.mustAdd(1), a.mustAdd(2)
	if !slices.Equal(red.Addrs, blue.Addrs) || !slices.Equal(red.PodIPs, red.Addrs) || slices.Equal(blue.PodIPs, blue.Addrs) {
		t.Fatalf("red %+v\nblue %+v", red, blue)
	}
	for _, when := range []string{"before", "after"} {
		a.healthy()
		cluster := map[string][]netip.Addr{}
		for _, v := range a.tables().Vifs {
			if v.Kind == table.VifVirtual {
				cluster[v.Name] = v.ClusterAddrs
			}
		}
		if len(cluster[red.Tap]) != 1 || !slices.Equal(cluster[blue.Tap], blue.PodIPs) {
			t.Errorf("%s a restart: %v", when, cluster)
		}
		if got, want := hostRoutes(t), []string{red.Addrs[0].String()}; !slices.Equal(got, want) {
			t.Errorf("%s a restart: the host has routes to %v, want %v", when, got, want)
		}
		if again := a.mustAdd(2); !slices.Equal(again.PodIPs, blue.PodIPs) {
			t.Errorf("%s a restart: %+v", when, again)
		}
		a.stop()
		a = m.start()
	}
	a.del(1, red.Tap)
	a.del(2, blue.Tap)
	eventually(t, func() string { return "the host has routes to " + strings.Join(hostRoutes(t), ", ") }, func() bool { return len(hostRoutes(t)) == 0 })
}

// An ADD that cannot be says exactly why: what the controller says, or what it has
// not said.
func TestAttachSaysWhatItWaitsFor(t *testing.T) {
	a := newMachine(t).start()
	add := func(pod string) string {
		r := a.ask(&rpc.Request{Attach: &rpc.Attach{Attachment: id(1), Netns: "/x", Namespace: "default", Pod: pod, Wait: 10 * time.Millisecond}})
		if r.Error == nil || r.Error.Code != rpc.CodeTryAgain {
			t.Fatalf("%s: %+v", pod, r)
		}
		return r.Error.Message
	}
	if got := add("pod-1"); !strings.Contains(got, "no interface for pod default/pod-1") || !strings.Contains(got, "no controller for") {
		t.Error(got)
	}
	const sentence = "Pod default/pod-1: VirtualNetwork default/red does not exist"
	a.say(append(cluster(), vmiIn(1, "", sentence))...)
	if got := add("pod-1"); !strings.HasPrefix(got, sentence) {
		t.Error(got)
	}
	// It waits while that may change.
	answer := make(chan *rpc.Reply, 1)
	go func() {
		answer <- a.Answer(context.Background(), &rpc.Request{Attach: &rpc.Attach{Attachment: id(1), Netns: "/x", Namespace: "default", Pod: "pod-1", Wait: time.Minute}})
	}()
	a.say(vmi(1))
	if r := <-answer; r.Error != nil {
		t.Error(r.Error)
	}
	a.del(1, "")
}
