package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/vragent/vragent/integration/testbed"
)

// limit is a subject without a network between the pods: what the machine can do
// at best.
type limit struct {
	site
	loopback bool
}

func newVeth(o *options) subject { return &limit{site: newSite(o, "veth", testbed.Config{})} }
func newLoopback(o *options) subject {
	return &limit{site: newSite(o, "loopback", testbed.Config{}), loopback: true}
}

func (l *limit) up(ctx context.Context) error {
	if err := l.down(ctx); err != nil {
		return err
	}
	server, err := l.lab.NewPod(ctx, "", "server")
	if err != nil {
		return err
	}
	l.client = server.Place
	address, device := netip.MustParseAddr("127.0.0.1"), "lo"
	if !l.loopback {
		client, err := l.lab.NewPod(ctx, "", "client")
		if err != nil {
			return err
		}
		l.client, address, device = client.Place, netip.MustParseAddr("192.0.2.2"), "eth0"
		if err := l.join(ctx, server.Place); err != nil {
			return err
		}
	}
	for _, p := range []*testbed.Place{l.client, server.Place} {
		if err := tune(p); err != nil {
			return err
		}
	}
	l.ends[local] = end{server.Place, netip.AddrPortFrom(address, port), device}
	if err := l.serve(ctx, server.Place); err != nil {
		return err
	}
	return l.reachable(ctx, reachLimit)
}

func (l *limit) join(ctx context.Context, server *testbed.Place) error {
	if err := l.client.Configure(ctx,
		"link add eth0 type veth peer name eth0 netns "+filepath.Base(server.Netns),
		"addr add 192.0.2.1/24 dev eth0", "link set eth0 up"); err != nil {
		return err
	}
	if err := server.Configure(ctx, "addr add 192.0.2.2/24 dev eth0", "link set eth0 up"); err != nil {
		return err
	}
	var err error
	l.behind, err = otherEnd(ctx, l.client, server)
	return err
}

func (l *limit) settings(context.Context) string {
	if l.loopback {
		return "one namespace, 127.0.0.1, MTU 65536\n" + strings.TrimSuffix(tuning, ", MTU 1500")
	}
	return "two namespaces joined by one veth pair; gro on at the server's end during floods\n" + tuning
}
