package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	services  = 10_000
	endpoints = 25
	routes    = 250_000
	tunnels   = 1000
	core      = 1 // of the worker, and of the spinner
)

// large is what a node of a large cluster knows: services of remote endpoints, and
// routes through tunnels.
func large() *table.State {
	s := &table.State{
		VRFs: []table.VRF{{ID: 1, Name: "pods"}},
		Vifs: []table.Vif{{ID: 1, Kind: table.VifFabric, Name: "lo", Ifindex: 1, VRF: 1, MAC: table.MAC{2, 0, 0, 0, 0, 9}, MTU: 1500, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
	}
	for i := range tunnels {
		s.NextHops = append(s.NextHops, table.NextHop{ID: table.NextHopID(1000 + i), Type: table.NHTunnel, Vif: 1, Sip: netip.MustParseAddr("192.0.2.1"),
			Dip: v4(198<<24 | 18<<16 | uint32(i) + 1), SrcMAC: table.MAC{2, 0, 0, 0, 0, 9}, DstMAC: table.MAC{2, 0, 0, 0, 0, 7}, MTU: 1500})
	}
	for i := range services {
		composite, service := table.NextHopID(10_000+i), table.NextHopID(30_000+i)
		var members []table.Member
		for j := range endpoints {
			n := i*endpoints + j
			members = append(members, table.Member{NH: table.NextHopID(1000 + n%tunnels), Label: table.Label(1000 + n%100_000), Key: uint64(n) + 1, Name: fmt.Sprintf("ns/pod-%d", n)})
		}
		s.NextHops = append(s.NextHops,
			table.NextHop{ID: composite, Type: table.NHComposite, VRF: 1, Members: members},
			table.NextHop{ID: service, Type: table.NHService, VRF: 1, Listeners: []table.Listener{{Proto: 6, Port: 80, NH: composite}}})
		s.Routes = append(s.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(v4(10<<24|96<<16+uint32(i)), 32), NH: service})
	}
	for i := range routes {
		s.Routes = append(s.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(v4(10<<24|128<<16+uint32(i)*4), 30), NH: table.NextHopID(1000 + i%tunnels), Label: 100})
	}
	return s
}

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// load gives a running fast path the tables of a large cluster in one change, as an
// agent whose controller has just said so, and then in a replay, as an agent that was
// started anew, while packets pass.
func load(ctx context.Context, r *report, vragent string) error {
	b, err := build(vragent, 2, settings{poll: "adaptive", flows: 65536, core: core})
	if err != nil {
		return err
	}
	defer b.down()
	s, err := b.status()
	if err != nil {
		return err
	}
	tid, err := workerThread(s.PID, core)
	if err != nil {
		return err
	}
	r.say("%d services of %d endpoints, %d routes; memory before: %s", services, endpoints, routes, memoryOf(s.PID))
	state := large()
	ours := 0
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"nothing happens, 5 s", func() error { time.Sleep(5 * time.Second); return nil }},
		{"one change says it all", func() error { _, err := b.ask(control.Request{Delta: &table.Delta{Upsert: *state}}); return err }},
		{"replay in parts", func() error { return replay(b, state) }},
		{"1000 single changes", func() error { return singles(b) }},
	} {
		took, bad, err := beside(r, b, step.what, s.PID, tid, step.do)
		if err != nil {
			return err
		}
		r.say("%-28s took %v; memory: %s", "", took.Round(time.Millisecond), memoryOf(s.PID))
		ours += bad
	}
	if ours > 0 {
		r.say("MISSED: %d packets waited more than %v although the core was free or the worker's", ours, stall)
	}
	return ctx.Err()
}

// beside does something while a stream passes.
func beside(r *report, b *bed, what string, pid, tid int, do func() error) (took time.Duration, ours int, err error) {
	spin, err := startSpinner(core, pid, tid)
	if err != nil {
		return 0, 0, err
	}
	quit, done := make(chan struct{}), make(chan struct{})
	var got []passing
	var sent int
	var streamErr error
	go func() {
		defer close(done)
		got, sent, streamErr = stream(b.pods[0], b.pods[1], 7000, 200*time.Microsecond, quit)
	}()
	time.Sleep(200 * time.Millisecond)
	start := time.Now()
	err = do()
	took = time.Since(start)
	close(quit)
	<-done
	gaps := spin.stop()
	if err == nil {
		err = streamErr
	}
	if err != nil {
		return 0, 0, err
	}
	return took, judge(r, what, got, sent, gaps), nil
}

func replay(b *bed, state *table.State) error {
	whole := *state
	for _, p := range b.pods {
		whole.Vifs = append(whole.Vifs, p.vif)
		whole.NextHops = append(whole.NextHops, table.NextHop{ID: p.vif.NH, Type: table.NHEncap, Vif: p.vif.ID, VRF: 1})
		whole.Routes = append(whole.Routes, table.Route{VRF: 1, Prefix: netip.PrefixFrom(p.addr, 32), NH: p.vif.NH})
	}
	if _, err := b.ask(control.Request{Begin: &control.Begin{Epoch: 2}}); err != nil {
		return err
	}
	for _, d := range compile.Replay(&whole, 1000) {
		if _, err := b.ask(control.Request{Delta: &d}); err != nil {
			return err
		}
	}
	_, err := b.ask(control.Request{InSync: &control.InSync{Epoch: 2}})
	return err
}

// singles moves one route at a time.
func singles(b *bed) error {
	for i := range 1000 {
		route := table.Route{VRF: 1, Prefix: netip.PrefixFrom(v4(10<<24|128<<16+uint32(i)*4), 30), NH: table.NextHopID(1000 + (i+1)%tunnels), Label: 100}
		if _, err := b.ask(control.Request{Delta: &table.Delta{Upsert: table.State{Routes: []table.Route{route}}}}); err != nil {
			return err
		}
	}
	return nil
}

// memoryOf is what a process holds, in words.
func memoryOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	var parts []string
	for line := range strings.Lines(string(text)) {
		for _, key := range []string{"VmHWM:", "VmRSS:", "RssAnon:", "RssShmem:"} {
			if f := strings.Fields(line); len(f) > 1 && f[0] == key {
				kb, _ := strconv.Atoi(f[1])
				parts = append(parts, fmt.Sprintf("%s %d MiB", key, kb>>10))
			}
		}
	}
	return strings.Join(parts, ", ")
}
