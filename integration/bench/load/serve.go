package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/integration/bench/load/result"
)

// The first byte of a TCP message says what the client wants. One port serves
// everything, so that a service needs only one.
const (
	wantEcho = 'R' // send the message back
	wantSink = 'B' // take all that comes; at its end say how many bytes, 8 bytes big endian
)

// sinkRead is how much a sink asks for at once. MSG_TRUNC makes the kernel drop
// the bytes instead of copying them: the receiver is not what is measured.
const sinkRead = 4 << 20

func serveFlags(set *flag.FlagSet, o *options) {
	set.IntVar(&o.port, "port", 5001, "TCP and UDP port, both address families")
}

// serve answers on one port until the context ends, and then says what it cost.
// It prints "ready" first: clients may start.
func serve(ctx context.Context, o *options) (*result.Result, error) {
	tcp, err := listen(unix.SOCK_STREAM, o.port)
	if err != nil {
		return nil, err
	}
	udp, err := listen(unix.SOCK_DGRAM, o.port)
	if err != nil {
		return nil, err
	}
	failed := make(chan error, 2)
	go func() { failed <- serveTCP(tcp) }() // both end with the process
	go func() { failed <- serveUDP(udp) }()
	clock := result.Start()
	fmt.Println(`{"workload":"serve","note":"ready"}`)
	select {
	case err := <-failed:
		return nil, err
	case <-ctx.Done():
	}
	passed, cpu := clock.Stop()
	return &result.Result{Seconds: passed.Seconds(), CPU: cpu}, nil
}

// serveTCP is one thread for all connections but bulk ones.
func serveTCP(listener int) error {
	runtime.LockOSThread()
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := watch(poll, listener); err != nil {
		return err
	}
	var events [128]unix.EpollEvent
	var buf [64 << 10]byte
	for {
		n, err := unix.EpollWait(poll, events[:], -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			if fd == listener {
				// No loop until EAGAIN: a listener with more is reported again.
				if c, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC); err == nil {
					_ = watch(poll, c)
				}
				continue
			}
			serveMessage(poll, fd, buf[:])
		}
	}
}

func watch(poll, fd int) error {
	return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// serveMessage answers what a connection sent, or gives it to a sink.
func serveMessage(poll, fd int, buf []byte) {
	n, err := unix.Read(fd, buf)
	switch {
	case errors.Is(err, unix.EINTR):
	case err != nil || n == 0:
		_ = unix.Close(fd)
	case buf[0] == wantSink:
		_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, fd, nil)
		go sinkStream(fd, uint64(n)) // ends when the client does
	default:
		_, _ = unix.Write(fd, buf[:n])
	}
}

// sinkStream takes all bytes of a connection and reports their number.
func sinkStream(fd int, total uint64) {
	runtime.LockOSThread()
	defer unix.Close(fd)
	buf := make([]byte, sinkRead) // never touched
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if n == 0 {
			break
		}
		total += uint64(n)
	}
	_ = writeFull(fd, binary.BigEndian.AppendUint64(nil, total))
	// The client closes first: its address holds the TIME_WAIT.
	tv := unix.NsecToTimeval(int64(time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	_, _ = unix.Read(fd, buf[:1])
}

// serveUDP sends every datagram back. The sender's address stays in the
// kernel's form: x/sys allocates one per datagram.
func serveUDP(fd int) error {
	runtime.LockOSThread()
	var buf [64 << 10]byte
	var from unix.RawSockaddrAny
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0,
			uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return fmt.Errorf("receive: %w", e)
		}
		// A client that is gone is no concern of the others.
		_, _, _ = unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), n, 0,
			uintptr(unsafe.Pointer(&from)), uintptr(size))
	}
}
