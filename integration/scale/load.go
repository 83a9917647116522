package main

import (
	"context"
	"encoding/binary"
	"errors"
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
// agent whose controller has just said so, says them again, as an agent that was
// started anew, changes a little, takes all away, and says all again in parts, while
// packets pass.
func load(ctx context.Context, r *report) error {
	b, err := makeBed(r.vragent, 2, settings{poll: "adaptive"})
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
	r.say("%d services of %d endpoints, %d routes; before: %s", services, endpoints, routes, memoryOf(s.PID))
	state, none := large(), &table.State{}
	w := watch{pid: s.PID, tid: tid, from: b.pods[0], to: b.pods[1]}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"nothing", func(ctx context.Context) error { return rest(ctx, 5*time.Second) }},
		{"all in one change", func(context.Context) error { return b.change(&table.Delta{Upsert: *state}) }},
		{"all again, in parts", func(ctx context.Context) error { return replay(ctx, b, 2, state) }},
		{"1000 single changes", func(ctx context.Context) error { return singles(ctx, b) }},
		{"all removed", func(context.Context) error { return b.change(&table.Delta{Remove: removal(state)}) }},
		{"all anew, in parts", func(ctx context.Context) error { return replay(ctx, b, 3, state) }},
		{"all swept", func(ctx context.Context) error { return replay(ctx, b, 4, none) }},
	} {
		if err := w.beside(ctx, r, step.what, step.do); err != nil {
			return err
		}
	}
	r.verdict(w.ours == 0 && w.lost == 0, "no packet lost (%d were), and none waited more than %v while the spinner ran (%d did)", w.lost, stall, w.ours)
	return ctx.Err()
}

// watch is what a stream of packets saw.
type watch struct {
	pid, tid   int // of the fast path and its worker's thread
	from, to   *pod
	ours, lost int // packets that the fast path delayed, or lost
}

// beside does something while a stream passes.
func (w *watch) beside(ctx context.Context, r *report, what string, do func(context.Context) error) error {
	spin, err := startSpinner(core, w.pid, w.tid)
	if err != nil {
		return err
	}
	passing, quit := context.WithCancel(ctx)
	defer quit()
	var s streamed
	done := make(chan error, 1)
	go func() {
		var err error
		s.got, s.sent, err = stream(passing, w.from, w.to, 200*time.Microsecond, 0)
		done <- err
	}()
	err = rest(ctx, 200*time.Millisecond)
	start := time.Now()
	if err == nil {
		err = do(ctx)
	}
	took := time.Since(start)
	if err == nil {
		err = rest(ctx, time.Second) // it collects garbage afterwards
	}
	quit()
	err = errors.Join(err, <-done)
	s.gaps = spin.stop()
	if err != nil {
		return err
	}
	w.ours += s.judge(r, what)
	w.lost += s.sent - len(s.got)
	r.say("  %-20s took %v; %s", "", took.Round(time.Millisecond), memoryOf(w.pid))
	return nil
}

func (b *bed) change(d *table.Delta) error {
	_, err := b.ask(control.Request{Delta: d})
	return err
}

func replay(ctx context.Context, b *bed, epoch uint64, state *table.State) error {
	if _, err := b.ask(control.Request{Begin: &control.Begin{Epoch: epoch}}); err != nil {
		return err
	}
	for _, d := range compile.Replay(b.with(state), 4000) { // as package agent/dial does
		if err := b.change(&d); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	_, err := b.ask(control.Request{InSync: &control.InSync{Epoch: epoch}})
	return err
}

// removal takes away all of a state but its VRFs, which are the pods'.
func removal(s *table.State) (r table.Removal) {
	for i := range s.Routes {
		r.Routes = append(r.Routes, s.Routes[i].Key())
	}
	for i := range s.NextHops {
		r.NextHops = append(r.NextHops, s.NextHops[i].ID)
	}
	for i := range s.Vifs {
		r.Vifs = append(r.Vifs, s.Vifs[i].ID)
	}
	return r
}

// singles moves one route at a time.
func singles(ctx context.Context, b *bed) error {
	for i := 0; i < 1000 && ctx.Err() == nil; i++ {
		route := table.Route{VRF: 1, Prefix: netip.PrefixFrom(v4(10<<24|128<<16+uint32(i)*4), 30), NH: table.NextHopID(1000 + (i+1)%tunnels), Label: 100}
		if err := b.change(&table.Delta{Upsert: table.State{Routes: []table.Route{route}}}); err != nil {
			return err
		}
	}
	return ctx.Err()
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
