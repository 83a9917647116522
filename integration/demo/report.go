package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/integration/testbed"
)

const topology = `            controller 172.31.0.1 ── underlay ── outside 198.51.100.99
                                      │    │
             172.31.0.11  node1 ──────┘    └────── node2  172.31.0.12
             ┌───────────┬┴──────────┐  ┌───────────┬┴──────────┐
             client      web1     web2  web3        web4     web5
`

// load makes the connections and returns how often each backend answered.
func (d *demo) load(ctx context.Context, addr string) (map[string]int, error) {
	out, err := d.Pod("client").Run(ctx, d.self, "load", fmt.Sprint(connections), addr)
	if err != nil {
		return nil, err
	}
	var t tally
	if err := json.Unmarshal([]byte(out), &t); err != nil {
		return nil, fmt.Errorf("read the load's result %q: %w", out, err)
	}
	if t.Failed > 0 {
		return t.Answers, fmt.Errorf("%d of %d connections to %s failed, the last one: %s", t.Failed, connections, addr, t.Error)
	}
	return t.Answers, nil
}

// report says in plain words what was built and seen.
func (d *demo) report(ctx context.Context, shares map[string]int) error {
	heading("The cluster")
	fmt.Print(topology)
	for _, p := range pods {
		pod := d.Pod(p.name)
		fmt.Printf("  %-7s on %s  %-15s %s\n", p.name, p.node, pod.Four, pod.Six)
	}
	fmt.Printf("\nThe service demo/web is %s: port %s leads to port 80 of all five servers,\n"+
		"port %s to port 90 of web1 and web3. %s has no servers at all.\n", vip, webPort, adminPort, emptyVIP)
	if err := printShares(shares); err != nil {
		return err
	}
	if err := d.explainRoute(ctx); err != nil {
		return err
	}
	if err := d.explainFlows(ctx); err != nil {
		return err
	}
	heading("How to look further")
	fmt.Print(lookFurther)
	return nil
}

func heading(text string) {
	fmt.Printf("\n%s\n%s\n", text, strings.Repeat("=", len(text)))
}

// printShares fails when a backend got too few or too many.
func printShares(shares map[string]int) error {
	heading(fmt.Sprintf("Who answered the %d connections", connections))
	var uneven []string
	for _, p := range pods[1:] {
		n := shares[p.name]
		fmt.Printf("  %s on %s %4d %s\n", p.name, p.node, n, strings.Repeat("▪", n/2))
		if n < least || n > most {
			uneven = append(uneven, fmt.Sprintf("%s got %d", p.name, n))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		if !isPod(name) {
			uneven = append(uneven, fmt.Sprintf("%q answered and is no backend", name))
		}
	}
	if len(uneven) > 0 {
		return fmt.Errorf("shares are not between %d and %d: %s", least, most, strings.Join(uneven, ", "))
	}
	return nil
}

func isPod(name string) bool {
	for _, p := range pods {
		if p.name == name {
			return true
		}
	}
	return false
}

// vipState is what a node's tables say about the VIP.
type vipState struct {
	route table.Route
	hops  map[table.NextHopID]table.NextHop
}

func (d *demo) findVIP(node string) (*vipState, error) {
	state, err := d.Nodes[node].Tables()
	if err != nil {
		return nil, err
	}
	client := d.Pod("client").Four
	vrf := table.VRFID(0)
	for _, v := range state.Vifs {
		if v.Kind == table.VifVirtual && (slices.Contains(v.Addrs, client) || vrf == 0) {
			vrf = v.VRF
		}
	}
	v := &vipState{hops: map[table.NextHopID]table.NextHop{}}
	for _, h := range state.NextHops {
		v.hops[h.ID] = h
	}
	want := netip.PrefixFrom(netip.MustParseAddr(vip), 32)
	for _, r := range state.Routes {
		if r.VRF == vrf && r.Prefix == want {
			v.route = r
			return v, nil
		}
	}
	return nil, fmt.Errorf("%s has no route to %s in VRF %d", node, want, vrf)
}

// composite is the next hop that a listener of the VIP leads to.
func (v *vipState) composite(l table.Listener) table.NextHop {
	hop := v.hops[v.route.NH]
	for _, x := range hop.Listeners {
		if x.Proto == l.Proto && x.Port == l.Port {
			return v.hops[x.NH]
		}
	}
	return hop
}

// members of a listener, holes left out.
func (v *vipState) members(l table.Listener) []table.Member {
	return slices.DeleteFunc(slices.Clone(v.composite(l).Members), func(m table.Member) bool { return m.NH == 0 })
}

// explainRoute walks from the VIP's route to its members.
func (d *demo) explainRoute(ctx context.Context) error {
	v, err := d.findVIP("node1")
	if err != nil {
		return err
	}
	heading("How node1 leads to " + vip)
	fmt.Printf("The client's node looks the address up in the client's VRF (%d) and finds next hop %d.\n", v.route.VRF, v.route.NH)
	if err := d.quote(ctx, "node1", "vragent", "rt", "--get", vip+"/32", "--vrf", fmt.Sprint(v.route.VRF)); err != nil {
		return err
	}
	hop := v.composite(webListener)
	fmt.Printf("Port %s is composite %d: one member for each backend pod, so that shares come out even\n"+
		"per pod. `encap` delivers on this node, `tunnel` goes to node2 with the label of the pod's interface:\n", webPort, hop.ID)
	for _, m := range v.members(webListener) {
		h := v.hops[m.NH]
		if h.Type == table.NHTunnel {
			fmt.Printf("  %-10s next hop %d: tunnel to %v, label %d\n", m.Name, m.NH, h.Dip, m.Label)
		} else {
			fmt.Printf("  %-10s next hop %d: %s, vif %d\n", m.Name, m.NH, h.Type, h.Vif)
		}
	}
	return d.quote(ctx, "node1", "vragent", "nh", "--get", fmt.Sprint(hop.ID))
}

// explainFlows shows the two entries of the open connection on both nodes.
func (d *demo) explainFlows(ctx context.Context) error {
	heading("One connection, on both nodes")
	fmt.Printf("%s is connected to %s:%s and was given %s. Its own node only chose\n"+
		"the backend and tunnelled the packets, still addressed to the VIP (Action F):\n", d.held.client, vip, webPort, d.held.backend)
	if err := d.quote(ctx, "node1", "vragent", "flow", "--match", d.held.client); err != nil {
		return err
	}
	fmt.Printf("The backend's node translates: the VIP and its port into the pod's own, N(DPd), and back, N(SPs):\n")
	return d.quote(ctx, "node2", "vragent", "flow", "--match", d.held.client)
}

// quote runs a command at a place and prints both, as one would type it.
func (d *demo) quote(ctx context.Context, place string, argv ...string) error {
	var p *testbed.Place
	if n := d.Nodes[place]; n != nil {
		p = n.Place
	}
	if p == nil {
		return errors.New("no place " + place)
	}
	out, err := p.Run(ctx, argv...)
	fmt.Printf("\n    $ build/demo/%s %s\n", place, strings.Join(argv, " "))
	for line := range strings.Lines(strings.Trim(out, "\n") + "\n") {
		fmt.Print("    ", line)
	}
	fmt.Println()
	return err
}

const lookFurther = `Run "make demo-up" to have it stay, then for example:
    build/demo/node1 vragent status                        health of the node, condition by condition
    build/demo/node1 vragent flow                          every conversation
    build/demo/node2 vragent mpls                          labels; nh, rt, vif, vrf, dropstats, vmi, block likewise
    build/demo/node1 vragent trace --pod demo/client --dst 10.96.0.10:8888    what would happen to a packet, step by step
    build/demo/controller vrcontroller routes              the same VIP as the controller sees it, once per node
    build/demo/controller curl -s 127.0.0.1:8082/loadbalancers
    build/demo/client curl -s 10.96.0.10:9999              the second port; 10.96.0.11 refuses at once
    build/demo/client curl -s 198.51.100.99                a host outside the cluster
    build/demo/controller tcpdump -ni br0 udp port 6635    the tunnel on the wire
    cat build/demo/pids                                    what to stop, kill and watch
    build/demo/node1 vragent run &                         the agent again, after you killed it
"make demo-down" removes every trace.
`
