// Command benchload makes and meters the load of the benchmark: one static
// program whose subcommands run inside the namespaces of pods and print one line
// of JSON each (package result). It shares nothing between runs and knows nothing
// of what it measures: it does not build namespaces, links or subjects.
//
//	benchload serve    -port 5001                         answers all of the following
//	benchload tcp-bulk -to 192.0.2.1:5001 -streams 8      bytes that the server took
//	benchload tcp-rr   -to 192.0.2.1:5001 -conns 1        request and response, latency
//	benchload udp-rr   -to 192.0.2.1:5001
//	benchload udp-stream -to 192.0.2.1:5001 -rate 5000    datagrams at a rate, latency of their echoes
//	benchload conn-rate -to 192.0.2.1:5001 -parallel 8    connect, one request, close
//	benchload udp-flood -to 192.0.2.1:5001                small packets, faster than any path takes them
//	benchload syn-flood -to 192.0.2.1:5001                the same with TCP SYNs
//	benchload sink      -port 5001                        counts and drops them where they arrive
//
// Each takes -netns PATH and -cpu LIST: the program enters the namespace, pins
// itself and executes itself once more, so that every thread is there.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vragent/vragent/integration/bench/load/result"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchload:", err)
		os.Exit(1)
	}
}

// options of all workloads; each reads its own.
type options struct {
	to       netip.AddrPort
	duration time.Duration
	warm     time.Duration
	parallel int // streams, connections or threads
	size     int // bytes of a request, a datagram, or one write of a stream
	rate     int // datagrams a second
	gap      time.Duration
	fin      bool // close connections by FIN instead of RST
	port     int
	dev      string
	flows    int
}

// workload is one subcommand.
type workload struct {
	name  string
	flags func(*flag.FlagSet, *options)
	run   func(context.Context, *options) (*result.Result, error)
}

func workloads() []workload {
	return []workload{
		{"serve", serveFlags, serve},
		{"tcp-bulk", bulkFlags, bulk},
		{"tcp-rr", requestFlags, tcpRequests},
		{"udp-rr", requestFlags, udpRequests},
		{"udp-stream", streamFlags, udpStream},
		{"conn-rate", connectFlags, connects},
		{"udp-flood", floodFlags, udpFlood},
		{"syn-flood", floodFlags, synFlood},
		{"sink", sinkFlags, sink},
	}
}

func run(ctx context.Context, args []string) error {
	names := ""
	for _, w := range workloads() {
		if len(args) > 0 && args[0] == w.name {
			return w.main(ctx, args[1:])
		}
		names += " " + w.name
	}
	return fmt.Errorf("usage: benchload COMMAND [flags]; commands:%s", names)
}

func (w workload) main(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("benchload "+w.name, flag.ContinueOnError)
	var o options
	var p place
	set.StringVar(&p.netns, "netns", "", "network namespace to run in: a path as /var/run/netns/a")
	set.StringVar(&p.cpus, "cpu", "", "processors to run on: 0 or 0,1")
	w.flags(set, &o)
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if p != (place{}) {
		return p.enter(append([]string{w.name}, without(args, "netns", "cpu")...))
	}
	r, err := w.run(ctx, &o)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	r.Workload = w.name
	return json.NewEncoder(os.Stdout).Encode(r)
}

func target(set *flag.FlagSet, o *options) {
	set.Func("to", "address and port of a server: 192.0.2.1:5001 or [2001:db8::1]:5001", func(s string) (err error) {
		o.to, err = netip.ParseAddrPort(s)
		return err
	})
	set.DurationVar(&o.duration, "time", 5*time.Second, "how long to measure")
}
