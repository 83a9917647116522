package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

func streamFlags(set *flag.FlagSet, o *options) {
	target(set, o)
	set.DurationVar(&o.warm, "warm", 300*time.Millisecond, "how long to run before measuring")
	set.IntVar(&o.rate, "rate", 1000, "datagrams a second")
	set.IntVar(&o.size, "size", 64, "bytes of a datagram, 16 at least")
}

// Of a datagram: when it was sent, ns since the start; whether it was measured then.
const streamHeader = 8 + 8

// udpStream sends datagrams at a rate, whether they come back or not, and measures how long
// those took that did. They are sent when they are due, or as soon after as the thread wakes up.
func udpStream(ctx context.Context, o *options) (*result.Result, error) {
	if o.rate < 1 {
		return nil, fmt.Errorf("-rate %d: want 1 or more datagrams a second", o.rate)
	}
	fd, err := dial(unix.SOCK_DGRAM, o.to, datagramPatience)
	if err != nil {
		return nil, err
	}
	o.size = max(o.size, streamHeader)
	s := datagrams{fd: fd, began: time.Now(), every: time.Second / time.Duration(o.rate), b: make([]byte, o.size)}
	t := tally{took: result.NewHistogram()}
	var done sync.WaitGroup
	done.Go(func() { t.err = echoes(fd, o.size, s.began, t.took) })
	if _, err := s.send(ctx, o.warm); err != nil {
		return nil, err
	}
	s.b[8] = 1
	clock := result.Start()
	sent, err := s.send(ctx, o.duration)
	passed, cpu := clock.Stop()
	done.Wait() // nothing comes any more
	if err != nil {
		return nil, err
	}
	o.parallel = 1
	t.failed = sent - min(sent, t.took.Count())
	return t.result(o, passed, cpu)
}

// datagrams are those of one stream.
type datagrams struct {
	fd    int
	began time.Time
	every time.Duration
	b     []byte
}

// send sends for a time, and returns how many it sent.
func (s *datagrams) send(ctx context.Context, long time.Duration) (sent uint64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	for due := start; due.Sub(start) < long && ctx.Err() == nil; due = due.Add(s.every) {
		now := time.Now()
		if now.Before(due) {
			pause(due.Sub(now))
			now = time.Now()
		}
		binary.LittleEndian.PutUint64(s.b, uint64(now.Sub(s.began)))
		if err := writeFull(s.fd, s.b); err != nil && !lost(err) && !errors.Is(err, unix.ECONNREFUSED) {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// echoes takes in what comes back until nothing does.
func echoes(fd, size int, began time.Time, took *result.Histogram) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := make([]byte, size)
	for {
		err := readFull(fd, b)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			if lost(err) {
				return nil
			}
			return err
		}
		if err == nil && b[8] == 1 {
			took.Add(time.Since(began) - time.Duration(binary.LittleEndian.Uint64(b)))
		}
	}
}
