package write

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vragent/vragent/controller/plan"
)

// inFlight bounds the requests of a batch that are under way together.
const inFlight = 8

// What fails is tried again later and later; so is what succeeds and has to be
// done again, because somebody undoes it.
const (
	firstDelay = 500 * time.Millisecond
	lastDelay  = time.Minute
)

// errLater means that nothing is wrong yet, but that it has to be done again.
var errLater = errors.New("later")

// delay is when something may be tried again.
type delay struct {
	next time.Time
	last time.Duration
	err  error // of the last attempt
}

// batch is one pass over all that is wished for.
type batch struct {
	writer *Writer
	now    time.Time
	wanted map[string]bool
	tasks  []*task
}

type task struct {
	name string
	do   func(context.Context) error
	done bool
}

// add takes a task in, unless one of the same object is there already: the rest
// comes with the next pass.
func (b *batch) add(name string, do func(context.Context) error) {
	if !b.wanted[name] {
		b.wanted[name] = true
		b.tasks = append(b.tasks, &task{name: name, do: do})
	}
}

// run does what is due, and returns when the next one is; the zero Time: never.
func (b *batch) run(ctx context.Context) time.Time {
	delays := b.writer.ledger.delays
	for name, d := range delays {
		if !b.wanted[name] && b.now.Sub(d.next) > lastDelay {
			delete(delays, name)
		}
	}
	var mu sync.Mutex // of delays
	var wait sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for _, t := range b.tasks {
		mu.Lock()
		d := delays[t.name]
		mu.Unlock()
		if b.now.Before(d.next) || ctx.Err() != nil {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			err := b.writer.fenced(ctx, t.do)
			mu.Lock()
			defer mu.Unlock()
			delays[t.name], t.done = d.after(err, b.now), err == nil
		})
	}
	wait.Wait()
	return b.conclude(delays)
}

// after is the delay that follows an attempt.
func (d delay) after(err error, now time.Time) delay {
	switch {
	case d.last == 0, now.Sub(d.next) > lastDelay: // long ago
		d.last = firstDelay
	default:
		d.last = min(2*d.last, lastDelay)
	}
	return delay{next: now.Add(d.last), last: d.last, err: err}
}

// conclude reports what does not succeed.
func (b *batch) conclude(delays map[string]delay) time.Time {
	var problems []plan.Problem
	var soonest time.Time
	for _, t := range b.tasks {
		d := delays[t.name]
		if t.done {
			continue
		}
		if soonest.IsZero() || d.next.Before(soonest) {
			soonest = d.next
		}
		if d.err != nil && !errors.Is(d.err, errLater) {
			problems = append(problems, plan.Problem{Object: t.name, Sentence: d.err.Error()})
		}
	}
	b.writer.report(problems)
	return soonest
}
