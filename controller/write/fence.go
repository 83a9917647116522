package write

import (
	"context"
	"errors"
	"sync"
	"time"
)

// fenceMargin is how long before the end of its office a leader stops writing:
// a request that is under way then may still be carried out.
const fenceMargin = 2 * time.Second

// errNoOffice means that another replica may be the leader by now.
var errNoOffice = errors.New("this replica is not the leader any more")

// fence keeps a replica from writing that is not the leader, or cannot know
// that it is: one that was stopped for a while, or cannot reach the API server.
// Others take the office not before the whole term has passed since they saw the
// last renewal, which is after it was sent: until then nobody else writes.
type fence struct {
	mu    sync.Mutex
	until time.Time
}

func (f *fence) open(until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = until
}

func (f *fence) close() { f.open(time.Time{}) }

func (f *fence) end() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.until
}

// over tells whether a time has come by either clock: the monotonic one stands
// still while a machine is suspended, the other one is set.
func over(now, end time.Time) bool { return !now.Before(end) || !now.Round(0).Before(end.Round(0)) }

// fenced makes a write that ends before the office does.
func (w *Writer) fenced(ctx context.Context, write func(context.Context) error) error {
	now := time.Now()
	end := w.fence.end().Add(-min(fenceMargin, w.config.Times.Lease/4))
	if over(now, end) {
		return errNoOffice
	}
	if limit := now.Add(requestTimeout); limit.Before(end) {
		end = limit
	}
	ctx, cancel := context.WithDeadlineCause(ctx, end, errNoOffice)
	defer cancel()
	return write(ctx)
}
