// Package poll lets a worker sleep until one of its links' descriptors is readable.
// A Sleeper belongs to its worker, but for Wake and Hold. It reads nothing from the links.
package poll

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sleeper implements link.Sleeper.
type Sleeper struct {
	wake int // an eventfd, set once by New

	// The worker's own.
	fds  []unix.PollFd // the first is wake
	most unix.Timespec // of the sleep that runs

	// hold is how long a sleep may be of which Go's scheduler is not told; 0: it is told.
	// Written by anyone.
	hold atomic.Int64
}

// held is how long a sleep is at most that Go's scheduler is not told of: less than one of
// its time slices, 10 ms, so that nobody has to take the sleeper's away.
const held = 8 * time.Millisecond

// New returns a Sleeper that waits for Wake alone.
func New() (*Sleeper, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &Sleeper{wake: fd}
	s.Add(fd)
	return s, nil
}

// Add makes fd end a sleep when it is readable. It is called by the worker, or
// before the worker runs.
func (s *Sleeper) Add(fd int) {
	s.fds = append(s.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
}

// Remove undoes Add, before fd is closed.
func (s *Sleeper) Remove(fd int) {
	for i := 1; i < len(s.fds); i++ {
		if s.fds[i].Fd == int32(fd) {
			s.fds = append(s.fds[:i], s.fds[i+1:]...)
			return
		}
	}
}

// Hold has the worker sleep without a word to Go's scheduler, or, off, with one as
// at first. Who says that it sleeps loses its processor (P) and must find one when it is woken,
// which wakes the scheduler's monitor first: 75 µs more until a first packet is looked
// at. Not to say it costs a wake every 8 ms and keeps the monitor up (0.3 % of a core), and
// whoever stops the world has to wake the sleeper by a signal, or waits for 8 ms where Go may
// not send one (asyncpreemptoff). Only for a worker that begins a time slice (package timeslice)
// before it sleeps. Safe for any goroutine until Close.
func (s *Sleeper) Hold(on bool) {
	if on {
		s.hold.Store(int64(held))
		return
	}
	s.hold.Store(0)
	s.Wake()
}

// Wait implements link.Sleeper. It may end early.
func (s *Sleeper) Wait(timeout time.Duration) {
	if !s.ready(timeout) {
		return
	}
	if s.fds[0].Revents != 0 {
		var woken [8]byte
		unix.Read(s.wake, woken[:]) // resets it; it can only be EAGAIN
	}
}

// ready sleeps, and reports whether a descriptor ended that. EINTR is as good as a timeout.
func (s *Sleeper) ready(timeout time.Duration) bool {
	hold := time.Duration(s.hold.Load())
	if hold == 0 {
		s.most = unix.NsecToTimespec(timeout.Nanoseconds())
		n, err := unix.Ppoll(s.fds, &s.most, nil)
		return err == nil && n > 0
	}
	s.most = unix.NsecToTimespec(min(timeout, hold).Nanoseconds())
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&s.fds[0])), uintptr(len(s.fds)), uintptr(unsafe.Pointer(&s.most)), 0, 0, 0)
	return errno == 0 && n > 0
}

// Wake implements link.Sleeper.
func (s *Sleeper) Wake() {
	one := [8]byte{1}          // the eventfd counts in host order; any number but 0 will do
	unix.Write(s.wake, one[:]) // EAGAIN: 2^64 wakes are pending, one is enough
}

// Close ends the Sleeper; nobody may wake it any more. The descriptors that were
// added stay their owners'.
func (s *Sleeper) Close() error { return unix.Close(s.wake) }
