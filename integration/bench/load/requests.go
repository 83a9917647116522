package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

// datagramPatience is how long an echoed datagram may take: then it is lost and
// the next is sent.
const datagramPatience = 200 * time.Millisecond

func requestFlags(set *flag.FlagSet, o *options) {
	target(set, o)
	set.DurationVar(&o.warm, "warm", 300*time.Millisecond, "how long to run before measuring")
	set.IntVar(&o.parallel, "conns", 1, "connections, each with one request under way")
	set.IntVar(&o.size, "size", 64, "bytes of a request and of its response")
	set.DurationVar(&o.gap, "gap", 0, "pause between a response and the next request")
}

func tcpRequests(ctx context.Context, o *options) (*result.Result, error) {
	return requests(ctx, o, func() (exchange, error) {
		fd, err := dial(unix.SOCK_STREAM, o.to, patience)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, max(o.size, 1))
		return func(uint64) error {
			buf[0] = wantEcho
			if err := writeFull(fd, buf); err != nil {
				return err
			}
			return readFull(fd, buf)
		}, nil
	})
}

func udpRequests(ctx context.Context, o *options) (*result.Result, error) {
	return requests(ctx, o, func() (exchange, error) {
		fd, err := dial(unix.SOCK_DGRAM, o.to, datagramPatience)
		if err != nil {
			return nil, err
		}
		request, response := make([]byte, max(o.size, 1)), make([]byte, max(o.size, 1))
		return func(n uint64) error {
			number(request, n)
			if err := writeFull(fd, request); err != nil {
				return err
			}
			for { // a response that comes after it was given up is not this one's
				if err := readFull(fd, response); err != nil {
					return err
				}
				if string(request) == string(response) {
					return nil
				}
			}
		}, nil
	})
}

// number writes n into the first bytes of b, as many as there are.
func number(b []byte, n uint64) {
	var all [8]byte
	binary.LittleEndian.PutUint64(all[:], n)
	copy(b, all[:])
}

// exchange makes the n-th request of a connection and waits for its response.
type exchange func(n uint64) error

// tally is what one connection saw.
type tally struct {
	took   *result.Histogram
	failed uint64
	err    error // the last failure
}

// requests runs connections in parallel, warm-up first, and adds up.
func requests(ctx context.Context, o *options, connect func() (exchange, error)) (*result.Result, error) {
	var all []exchange
	for range o.parallel {
		e, err := connect()
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	warm := together(all, func(e exchange) tally { return repeat(ctx, o, e, o.warm) })
	if warm.took.Count() == 0 && o.warm > 0 {
		return nil, fmt.Errorf("no response: %w", warm.err)
	}
	clock := result.Start()
	t := together(all, func(e exchange) tally { return repeat(ctx, o, e, o.duration) })
	passed, cpu := clock.Stop()
	return t.result(o, passed, cpu)
}

// result of a run in which at least one transaction succeeded.
func (t tally) result(o *options, passed time.Duration, cpu result.CPU) (*result.Result, error) {
	if t.took.Count() == 0 {
		return nil, t.err
	}
	r := &result.Result{
		To: o.to.String(), Seconds: passed.Seconds(), Parallel: o.parallel,
		Count: t.took.Count(), Rate: float64(t.took.Count()) / passed.Seconds(),
		Failed: t.failed, Latency: t.took.Latency(), CPU: cpu,
	}
	if t.err != nil {
		r.Note = "last failure: " + t.err.Error()
	}
	return r, nil
}

// together runs one thread for each member and merges what they saw.
func together[T any](members []T, run func(T) tally) tally {
	done := make(chan tally, len(members))
	for _, m := range members {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			done <- run(m)
		}()
	}
	sum := tally{took: result.NewHistogram()}
	for range members {
		t := <-done
		sum.took.Merge(t.took)
		sum.failed += t.failed
		if t.err != nil {
			sum.err = t.err
		}
	}
	return sum
}

// repeat makes requests, one after the other, for a time.
func repeat(ctx context.Context, o *options, e exchange, long time.Duration) tally {
	t := tally{took: result.NewHistogram()}
	start := time.Now()
	until := start.Add(long)
	for n := uint64(start.UnixNano()); start.Before(until) && ctx.Err() == nil; n++ {
		err := e(n)
		now := time.Now()
		if err == nil {
			t.took.Add(now.Sub(start))
		} else if t.failed, t.err = t.failed+1, err; !lost(err) && !errors.Is(err, unix.ECONNREFUSED) {
			return t // a broken connection stays broken
		}
		if o.gap > 0 {
			pause(o.gap)
			now = time.Now()
		}
		start = now
	}
	return t
}

// pause sleeps in the kernel: a Go timer wakes up a millisecond late.
func pause(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
