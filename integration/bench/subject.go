package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/vragent/vragent/integration/testbed"
)

// subject is one way to join the pods of the benchmark. It makes its namespaces
// itself and removes them, also those of a run that was killed.
type subject interface {
	up(context.Context) error
	down(context.Context) error
	pods() *bed
	settings(context.Context) string // its configuration and tuning, for people
}

// bed is where workloads run.
type bed struct {
	client *testbed.Place
	behind behind
	ends   map[string]end // by path
}

// behind is the other end of the client's veth; none: the zero value.
type behind struct {
	place  *testbed.Place
	device string
}

// end is where a path leads.
type end struct {
	server  *testbed.Place
	address netip.AddrPort
	device  string // of the server, where packets arrive
}

// port of benchload's server, in every pod. servicePort is that of the services.
const (
	port        = 5001
	servicePort = 80
)

// site is what all subjects are built on: a lab of their own, and the servers in
// its pods.
type site struct {
	o   *options
	lab *testbed.Lab
	bed
}

func newSite(o *options, name string, c testbed.Config) site {
	c.Name = "bench-" + name
	c.Bin = o.bin
	return site{o: o, lab: testbed.New(c), bed: bed{ends: map[string]end{}}}
}

func (s *site) pods() *bed { return &s.bed }

func (s *site) down(ctx context.Context) error { return s.lab.Down(ctx) }

// tune gives every pod the same TCP: the machine's default may be one that paces
// (BBR). Where the machine lets a namespace have no cubic, reno is the next best:
// no path of the benchmark is long.
func tune(p *testbed.Place) error {
	const control = "net/ipv4/tcp_congestion_control"
	err := p.Sysctl(map[string]string{"net/ipv4/tcp_no_metrics_save": "1"}) // a round learns nothing from the one before
	if err == nil && p.Sysctl(map[string]string{control: "cubic"}) != nil {
		err = p.Sysctl(map[string]string{control: "reno"})
	}
	return err
}

const tuning = "pods: net.ipv4.tcp_congestion_control=cubic (reno where cubic is not allowed), tcp_no_metrics_save=1, MTU 1500"

// serve starts a server in each of the pods.
func (s *site) serve(ctx context.Context, servers ...*testbed.Place) error {
	for _, p := range servers {
		d, err := s.lab.Launch("server-"+p.Name, p, s.o.benchload(), "serve", "-port", fmt.Sprint(port))
		if err != nil {
			return err
		}
		if err := listening(ctx, p, d); err != nil {
			return err
		}
	}
	return nil
}

func listening(ctx context.Context, p *testbed.Place, d *testbed.Daemon) error {
	return testbed.Until(ctx, 10*time.Second, func() error {
		if err := d.Running(); err != nil {
			return err
		}
		return answers(p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	})
}

// answers says whether a connection from a place is accepted.
func answers(from *testbed.Place, to netip.AddrPort) error {
	c, err := from.Dial(&net.Dialer{Timeout: time.Second}, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}

// reachable waits until the client reaches these addresses.
func (s *site) reachable(ctx context.Context, limit time.Duration, extra ...netip.AddrPort) error {
	all := extra
	for _, e := range s.ends {
		all = append(all, e.address)
	}
	for _, a := range all {
		if err := testbed.Until(ctx, limit, func() error { return answers(s.client, a) }); err != nil {
			return fmt.Errorf("%v: %w", a, err)
		}
	}
	return nil
}

// otherEnd finds the other end of a pod's veth on its node.
func otherEnd(ctx context.Context, pod, node *testbed.Place) (behind, error) {
	own, err := pod.Run(ctx, "ip", "-o", "link", "show", "eth0") // 2: eth0@if7: <...
	if err != nil {
		return behind{}, err
	}
	_, index, _ := strings.Cut(own, "@if")
	index, _, _ = strings.Cut(index, ":")
	links, err := node.Run(ctx, "ip", "-o", "link", "show")
	if err != nil {
		return behind{}, err
	}
	for line := range strings.Lines(links) {
		number, rest, _ := strings.Cut(line, ": ")
		if number == index {
			name, _, _ := strings.Cut(rest, "@")
			return behind{node, name}, nil
		}
	}
	return behind{}, errors.New("the pod's eth0 has no other end on its node")
}

// receiveByPoll makes the device receive frames in batches of its own queue
// (NAPI), which generated frames need. It is not what a pod's veth does by
// default: it is switched on for floods alone, for every subject.
func (b behind) receiveByPoll(ctx context.Context, on bool) error {
	if b.place == nil {
		return nil
	}
	value := "off"
	if on {
		value = "on"
	}
	_, err := b.place.Run(ctx, "ethtool", "-K", b.device, "gro", value)
	return err
}

func (o *options) benchload() string { return filepath.Join(o.tools, "benchload") }
