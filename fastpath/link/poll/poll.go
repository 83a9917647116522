// Package poll lets a worker sleep until one of its links' descriptors is readable.
// A Sleeper belongs to its worker, but for Wake. It reads nothing from the links.
package poll

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Sleeper implements link.Sleeper.
type Sleeper struct {
	fds []unix.PollFd // the first is an eventfd: Wake
}

// New returns a Sleeper that waits for Wake alone.
func New() (*Sleeper, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &Sleeper{}
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

// Wait implements link.Sleeper.
func (s *Sleeper) Wait(timeout time.Duration) {
	ts := unix.NsecToTimespec(timeout.Nanoseconds())
	if n, err := unix.Ppoll(s.fds, &ts, nil); err != nil || n <= 0 { // EINTR: as good as a timeout
		return
	}
	if s.fds[0].Revents != 0 {
		var woken [8]byte
		unix.Read(int(s.fds[0].Fd), woken[:]) // resets it; it can only be EAGAIN
	}
}

// Wake implements link.Sleeper.
func (s *Sleeper) Wake() {
	one := [8]byte{1}                    // the eventfd counts in host order; any number but 0 will do
	unix.Write(int(s.fds[0].Fd), one[:]) // EAGAIN: 2^64 wakes are pending, one is enough
}

// Close ends the Sleeper; nobody may wake it any more. The descriptors that were
// added stay their owners'.
func (s *Sleeper) Close() error { return unix.Close(int(s.fds[0].Fd)) }
