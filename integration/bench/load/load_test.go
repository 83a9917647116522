package main

import (
	"context"
	"flag"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestWorkloads runs every client against the server on the loopback device.
func TestWorkloads(t *testing.T) {
	const port = 15001
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		_, err := serve(ctx, &options{port: port})
		served <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for _, host := range []string{"127.0.0.1", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(host), port)
		awaitServer(t, to)
		for _, args := range [][]string{
			{"tcp-bulk"}, {"tcp-bulk", "-streams", "3"},
			{"tcp-rr", "-size", "1"}, {"udp-rr", "-conns", "2"}, {"udp-rr", "-size", "1", "-gap", "1ms"},
			{"udp-stream", "-rate", "2000"}, {"conn-rate", "-parallel", "2"}, {"conn-rate", "-parallel", "1", "-fin", "-time", "20ms"},
		} {
			t.Run(host+args[0], func(t *testing.T) { runOnce(t, to, args) })
		}
	}
}

func runOnce(t *testing.T, to netip.AddrPort, args []string) {
	for _, w := range workloads() {
		if w.name != args[0] {
			continue
		}
		set := flag.NewFlagSet(w.name, flag.ContinueOnError)
		var o options
		w.flags(set, &o)
		if err := set.Parse(append([]string{"-to", to.String(), "-time", "50ms"}, args[1:]...)); err != nil {
			t.Fatal(err)
		}
		if o.warm > 0 {
			o.warm = 10 * time.Millisecond
		}
		r, err := w.run(t.Context(), &o)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Seconds <= 0 || r.Failed > 0:
			t.Errorf("%+v", r)
		case w.name == "tcp-bulk":
			if r.Bytes < 1e6 || r.Gbps <= 0 {
				t.Errorf("%+v", r)
			}
		case r.Count == 0 || r.Rate <= 0 || r.Latency == nil || r.Latency.P50 <= 0 || r.Latency.P50 > r.Latency.Max:
			t.Errorf("%+v %+v", r, r.Latency)
		}
	}
}

func awaitServer(t *testing.T, to netip.AddrPort) {
	for range 100 {
		if _, err := tcpRequests(t.Context(), &options{to: to, parallel: 1, size: 1, duration: time.Millisecond}); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no server at %s", to)
}

func TestWithout(t *testing.T) {
	got := without([]string{"-netns", "a", "-to", "b", "--cpu=1", "-time=3s", "-cpu", "0"}, "netns", "cpu")
	if want := []string{"-to", "b", "-time=3s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCPUSet(t *testing.T) {
	set, err := cpuSet("0,3")
	if err != nil || set.Count() != 2 || !set.IsSet(0) || !set.IsSet(3) {
		t.Errorf("got %v, %v", set, err)
	}
	if _, err := cpuSet("0-3"); err == nil {
		t.Error("a range is accepted")
	}
}
