package main

import (
	"context"
	"flag"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

func connectFlags(set *flag.FlagSet, o *options) {
	target(set, o)
	set.DurationVar(&o.warm, "warm", 300*time.Millisecond, "how long to run before measuring")
	set.IntVar(&o.parallel, "parallel", 8, "threads, each with one connection at a time")
	set.IntVar(&o.size, "size", 64, "bytes of the request and of its response")
	set.BoolVar(&o.fin, "fin", false, "close by FIN; the ports then last a minute: needs net.ipv4.tcp_tw_reuse=1")
}

// connects opens connections as fast as it can. Each carries one request and
// its response and is closed by RST, so that neither side keeps a TIME_WAIT and
// ports do not run out; the subject sees the end of every connection.
func connects(ctx context.Context, o *options) (*result.Result, error) {
	threads := make([]struct{}, o.parallel)
	if o.warm > 0 {
		if t := together(threads, func(struct{}) tally { return connectFor(ctx, o, o.warm) }); t.took.Count() == 0 {
			return nil, t.err
		}
	}
	clock := result.Start()
	t := together(threads, func(struct{}) tally { return connectFor(ctx, o, o.duration) })
	passed, cpu := clock.Stop()
	return t.result(o, passed, cpu)
}

// connectFor is one thread's connections. The latency of one ends with the
// response.
func connectFor(ctx context.Context, o *options, long time.Duration) tally {
	t := tally{took: result.NewHistogram()}
	buf := make([]byte, max(o.size, 1))
	for until := time.Now().Add(long); time.Now().Before(until) && ctx.Err() == nil; {
		start := time.Now()
		if err := connectOnce(o, buf); err != nil {
			t.failed++
			t.err = err
			continue
		}
		t.took.Add(time.Since(start))
	}
	return t
}

func connectOnce(o *options, buf []byte) error {
	fd, err := dial(unix.SOCK_STREAM, o.to, patience)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !o.fin {
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
	}
	buf[0] = wantEcho
	if err := writeFull(fd, buf); err != nil {
		return err
	}
	return readFull(fd, buf)
}
