// Package timeslice keeps Go's monitor from taking a worker's thread away.
//
// The monitor (sysmon, runtime/proc.go) has whoever ran for 10 ms, by the scheduler's
// count of its processor (P), make room. That is fair among goroutines, and costly for one that
// is locked to its thread: another thread must wake up, find it in a queue, and wake its
// thread, which waits for two turns of the kernel's scheduler although nobody else
// wanted the core. A thread that comes back from a system call may even take over a
// P whose count has stood still for long, and is stopped at once. A worker that says
// that it begins anew is left alone; the collector, which does not go by that count,
// stops it as before. Somebody has to be left to do so: of a program's processors
// (GOMAXPROCS) at least one is for others.
//
// The count is not in Go's API. Where it lies is written down for the releases that
// are known, and looked at, without trusting it, before it is used: with
// any other release nothing is written, and the monitor does as always.
package timeslice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// layout is where the runtime keeps things, in bytes from the beginning of each.
// Source: runtime/runtime2.go. It is the same for the machines of current and renew.
type layout struct {
	release            string
	gM                 uintptr // g.m: the thread of a goroutine
	mP                 uintptr // m.p: the processor of a thread
	pStatus, pTick, pM uintptr // p.status, p.schedtick, p.m
}

// known is the layout of the newest release that was looked at.
func known() layout {
	return layout{release: "go1.26", gM: 48, mP: 208, pStatus: 4, pTick: 16, pM: 48}
}

// running is p.status of a processor that executes Go code (_Prunning).
const running = 1

// Slice knows where a goroutine's time slice is counted. The zero value does not, and
// does nothing.
type Slice struct{ m, p, tick uintptr }

// Find looks where this program's runtime keeps its count. With an error, which says
// why, the Slice is the zero value.
func Find() (Slice, error) {
	l := known()
	if v := runtime.Version(); v != l.release && !strings.HasPrefix(v, l.release+".") {
		return Slice{}, fmt.Errorf("where %s counts time slices is not known, %s is", v, l.release)
	}
	var err error
	for range 10 { // the goroutine may be sent elsewhere between two reads
		if err = l.verify(); err == nil {
			return Slice{l.gM, l.mP, l.pTick}, nil
		}
	}
	return Slice{}, fmt.Errorf("%s counts time slices elsewhere than %s: %w", runtime.Version(), l.release, err)
}

// Renew begins a new time slice for the goroutine that calls it.
func (s Slice) Renew() {
	if s.tick != 0 {
		renew(s.m, s.p, s.tick)
	}
}

// verify follows goroutine, thread and processor as l has them, and sees the count grow
// when the scheduler runs. It reads as another process would: an address that is none is an
// error here.
func (l *layout) verify() error {
	runtime.LockOSThread() // or the thread changes between two reads
	defer runtime.UnlockOSThread()
	seen := map[uint64]uint32{}           // counts, by processor
	for range 1 + runtime.GOMAXPROCS(0) { // the scheduler may go on with another processor
		here, err := l.find()
		if err != nil {
			return err
		}
		same, err := l.find() // system calls do not count
		if err == nil && same != here {
			err = fmt.Errorf("the scheduler did not run, and the count went from %d to %d", here.tick, same.tick)
		}
		if err != nil {
			return err
		}
		if before, again := seen[here.p]; again {
			if grown := here.tick - before; grown == 0 || grown > 1<<20 {
				return fmt.Errorf("the scheduler ran and the count went from %d to %d", before, here.tick)
			}
			return nil
		}
		seen[here.p] = here.tick
		runtime.Gosched()
	}
	return errors.New("the goroutine runs on more processors than there are")
}

// place is where a goroutine runs.
type place struct {
	p    uint64
	tick uint32
}

func (l *layout) find() (place, error) {
	m, err := read(uint64(current()) + uint64(l.gM))
	if err != nil {
		return place{}, fmt.Errorf("thread of the goroutine: %w", err)
	}
	p, err := read(m + uint64(l.mP))
	if err != nil {
		return place{}, fmt.Errorf("processor of the thread: %w", err)
	}
	back, err := read(p + uint64(l.pM))
	if err != nil {
		return place{}, fmt.Errorf("thread of the processor: %w", err)
	}
	status, err := read(p + uint64(l.pStatus))
	if err != nil {
		return place{}, fmt.Errorf("status of the processor: %w", err)
	}
	tick, err := read(p + uint64(l.pTick))
	switch {
	case err != nil:
		return place{}, fmt.Errorf("count of the processor: %w", err)
	case back != m:
		return place{}, errors.New("the processor belongs to another thread")
	case uint32(status) != running:
		return place{}, fmt.Errorf("the processor's status is %d, not %d", uint32(status), running)
	}
	return place{p, uint32(tick)}, nil
}

// read returns the eight bytes at an address of this process.
func read(address uint64) (uint64, error) {
	var word [8]byte
	local := []unix.Iovec{{Base: &word[0], Len: uint64(len(word))}}
	remote := []unix.RemoteIovec{{Base: uintptr(address), Len: len(word)}}
	n, err := unix.ProcessVMReadv(os.Getpid(), local, remote, 0)
	if err == nil && n != len(word) {
		err = unix.EFAULT
	}
	if err != nil {
		return 0, fmt.Errorf("read 8 bytes at %#x: %w", address, err)
	}
	return binary.NativeEndian.Uint64(word[:]), nil
}
