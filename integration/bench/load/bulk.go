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

// bulkPatience outlasts what lies in the buffers of eight streams over a slow path.
const bulkPatience = 20 * time.Second

func bulkFlags(set *flag.FlagSet, o *options) {
	target(set, o)
	set.IntVar(&o.parallel, "streams", 1, "connections at once")
	set.IntVar(&o.size, "write", 256<<10, "bytes of one write")
}

// bulk sends on all streams for the time, then waits until the server has taken
// everything: what lay in buffers counts with the time it took.
func bulk(ctx context.Context, o *options) (*result.Result, error) {
	fds := make([]int, o.parallel)
	for i := range fds {
		fd, err := dial(unix.SOCK_STREAM, o.to, bulkPatience)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	type outcome struct {
		bytes uint64
		err   error
	}
	done := make(chan outcome, len(fds))
	clock := result.Start()
	until := time.Now().Add(o.duration)
	for _, fd := range fds {
		go func() {
			n, err := stream(ctx, fd, until, o)
			done <- outcome{n, err}
		}()
	}
	r := &result.Result{To: o.to.String(), Parallel: o.parallel}
	var failures []error
	for range fds {
		s := <-done
		r.Bytes += s.bytes
		if s.err != nil {
			failures = append(failures, s.err)
		}
	}
	passed, cpu := clock.Stop()
	r.Seconds, r.CPU, r.Gbps = passed.Seconds(), cpu, result.Gbps(r.Bytes, passed)
	return r, errors.Join(failures...)
}

// stream sends on one connection until the time has come and returns how many
// bytes the server took.
func stream(ctx context.Context, fd int, until time.Time, o *options) (uint64, error) {
	runtime.LockOSThread()
	data := make([]byte, max(o.size, 1))
	data[0] = wantSink
	for time.Now().Before(until) && ctx.Err() == nil {
		if err := writeFull(fd, data); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return 0, err
	}
	var taken [8]byte
	if err := readFull(fd, taken[:]); err != nil {
		return 0, fmt.Errorf("the server's count: %w", err)
	}
	return binary.BigEndian.Uint64(taken[:]), nil
}
