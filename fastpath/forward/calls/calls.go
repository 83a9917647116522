// Package calls runs functions of others on a worker's thread, between two of its turns. Its
// Queue belongs to the worker; anyone may call Do. It wakes nobody.
package calls

import (
	"sync"
	"sync/atomic"
)

// Queue is what a worker has to run.
type Queue struct {
	waiting chan call
	running atomic.Bool
	direct  sync.Mutex // runs calls when the worker does not turn
}

type call struct {
	fn   func()
	done chan struct{}
}

// New returns an empty queue of a worker that does not turn yet.
func New() *Queue { return &Queue{waiting: make(chan call, 16)} }

// Do runs fn on the worker and waits for it; wake makes a sleeping one turn. When the
// worker is not running, it runs fn here.
func (q *Queue) Do(fn, wake func()) {
	q.direct.Lock()
	if !q.running.Load() {
		defer q.direct.Unlock()
		fn()
		return
	}
	c := call{fn: fn, done: make(chan struct{})}
	q.waiting <- c
	q.direct.Unlock()
	wake()
	<-c.done
}

// Start says that the worker turns from now on, and runs calls.
func (q *Queue) Start() {
	q.direct.Lock()
	q.running.Store(true)
	q.direct.Unlock()
}

// Stop says that it does not: calls from now on run at their caller, those queued run here.
func (q *Queue) Stop() {
	for !q.direct.TryLock() {
		q.Run()
	}
	q.running.Store(false)
	q.Run()
	q.direct.Unlock()
}

// Run runs what waits.
func (q *Queue) Run() {
	for len(q.waiting) > 0 {
		c := <-q.waiting
		c.fn()
		close(c.done)
	}
}

// Pending says that something waits.
func (q *Queue) Pending() bool { return len(q.waiting) > 0 }
