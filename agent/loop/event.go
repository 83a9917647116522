package loop

import (
	"context"
	"sync/atomic"

	"github.com/vragent/vragent/agent/kernel"
)

// events reach Run's goroutine from all others.
type events struct {
	// Set once by newEvents.
	calls chan func()   // to be run by it
	gone  chan int      // indexes of deleted interfaces
	wake  chan struct{} // something below, or the fast path, moved
	done  chan struct{} // closed when it has ended
	moved *moved
	haste *kernel.Haste // counts requests that change links
}

// moved says what to look at. Set by anyone, cleared by Run's goroutine.
type moved struct{ underlay, host, links atomic.Bool }

func newEvents(runDir string) events {
	return events{
		calls: make(chan func()), gone: make(chan int, 1024), wake: make(chan struct{}, 1),
		done: make(chan struct{}), moved: &moved{}, haste: kernel.NewHaste(runDir),
	}
}

// poke makes the loop turn. It never blocks.
func (e events) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e events) underlayMoved() { e.moved.underlay.Store(true); e.poke() }
func (e events) hostMoved()     { e.moved.host.Store(true); e.poke() }
func (e events) linksLost()     { e.moved.links.Store(true); e.poke() }

func (e events) linkGone(ctx context.Context, ifindex int) {
	select {
	case e.gone <- ifindex:
	case <-ctx.Done():
	}
}

// call runs f on the loop's goroutine and reports whether it will.
func (e events) call(ctx context.Context, f func()) bool {
	select {
	case e.calls <- f:
		return true
	case <-ctx.Done():
	case <-e.done:
	}
	return false
}
