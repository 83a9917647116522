package engine

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

// addTapPod makes a pod whose interface is a tap.
func (n *node) addTapPod(t *testing.T, id int) *pod {
	t.Helper()
	p := n.addPod(t, id)
	p.vif.Tap = table.Tap{Netns: "/run/netns/" + p.ns, Name: "eth0"}
	p.makeTap(t, n)
	return p
}

// makeTap makes both ends of the pod's tap, in the place of what is there.
func (p *pod) makeTap(t *testing.T, n *node) {
	t.Helper()
	run(t, fmt.Sprintf("ip -n %[1]s link del eth0; ip -n %[2]s link show %[3]s >/dev/null 2>&1 && ip -n %[2]s link del %[3]s; ip -n %[2]s tuntap add %[3]s mode tap", p.ns, n.ns, p.vif.Name))
	p.vif.Ifindex = n.ifindex(t, p.vif.Name)
	for _, c := range []string{
		"tuntap add eth0 mode tap multi_queue vnet_hdr",
		fmt.Sprintf("link set eth0 mtu 1468 address %s", p.vif.MAC),
		"link set eth0 up",
		fmt.Sprintf("addr add %s/32 dev eth0", p.addr),
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1 dev eth0",
		"neigh replace 169.254.1.1 lladdr " + table.RouterMAC.String() + " dev eth0",
	} {
		run(t, "ip -n "+p.ns+" "+c)
	}
}

func (c *client) attached(id table.VifID) bool {
	c.t.Helper()
	for _, v := range c.ask(control.Request{Vifs: &control.Empty{}}).Vifs {
		if v.ID == id {
			return v.Attached
		}
	}
	c.t.Fatalf("vif %d is unknown", id)
	return false
}

// TestTapLife: a pod keeps its tap and its connections when the fast path is killed; one
// whose tap was made anew is heard again as soon as its vif is said again; one that is
// gone does not keep the others waiting.
func TestTapLife(t *testing.T) {
	for workers := range 2 {
		t.Run(fmt.Sprint(workers+1), func(t *testing.T) {
			n := newNode(t, workers+1)
			n.start(t)
			a, b, veth := n.addTapPod(t, 11), n.addTapPod(t, 12), n.addPod(t, 13)
			agent := dial(t, n.socket())
			agent.hello()
			agent.replay(1, network(a, b, veth))
			n.up(t, veth)
			server := echo(t, b)
			conns := []net.Conn{connect(t, a, server), connect(t, b, echo(t, veth)), connect(t, veth, echo(t, a))}
			talk := func(conns ...net.Conn) {
				t.Helper()
				for _, c := range conns {
					says(t, c, strings.Repeat("hello ", 20000))
				}
			}
			talk(conns...)
			n.kill()
			n.start(t)
			agent = dial(t, n.socket())
			agent.hello()
			agent.replay(2, network(a, b, veth))
			talk(conns...)

			b.makeTap(t, n)
			if agent.attached(b.vif.ID) {
				t.Error("the tap that is gone passes for attached")
			}
			agent.ask(control.Request{Delta: network(a, b, veth)})
			if !agent.attached(b.vif.ID) {
				t.Error("the new tap is not attached")
			}
			talk(connect(t, a, server), conns[2])

			run(t, "ip -n "+b.ns+" link del eth0; ip -n "+b.ns+" link add eth0 type veth peer name x") // no tap
			agent.replay(3, network(a, b, veth))
			if agent.attached(b.vif.ID) || !agent.attached(a.vif.ID) {
				t.Error("a pod without its tap is attached, or another one is not")
			}
			talk(conns[2])
			agent.replay(4, network(a, veth))
			talk(conns[2])
			if n := agent.drop("tap-malformed"); n != 0 {
				t.Errorf("%d malformed", n)
			}
			_ = agent.drop("tap-full")
		})
	}
}

// TestTapFull: what nobody reads is counted.
func TestTapFull(t *testing.T) {
	n := newNode(t, 1)
	n.start(t)
	a := n.addTapPod(t, 11)
	agent := dial(t, n.socket())
	agent.hello()
	agent.ask(control.Request{Begin: &control.Begin{Epoch: 1}})
	agent.ask(control.Request{Delta: network(a)}) // not in sync: the worker does not run yet
	in(t, a.ns, func() error {
		c, err := net.Dial("udp4", "192.0.2.77:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range 2000 {
			_, _ = io.WriteString(c, "hello")
		}
		return nil
	})
	if n := agent.drop("tap-full"); n < 400 {
		t.Errorf("%d packets are missing, want those that found no room", n)
	}
}
