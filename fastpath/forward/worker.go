package forward

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/calls"
	"github.com/vragent/vragent/fastpath/forward/card"
	"github.com/vragent/vragent/fastpath/forward/clock"
	"github.com/vragent/vragent/fastpath/forward/decide"
	"github.com/vragent/vragent/fastpath/forward/entry"
	"github.com/vragent/vragent/fastpath/forward/fragment"
	"github.com/vragent/vragent/fastpath/forward/quota"
	"github.com/vragent/vragent/fastpath/forward/room"
	"github.com/vragent/vragent/fastpath/forward/way"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/packet"
)

// Worker runs the packets of its links to completion on one thread.
type Worker struct {
	// Set once by newWorker.
	s       *Shared
	id      int
	workers int
	sleeper link.Sleeper
	pool    *frame.Pool
	mem     frame.Memory
	flows   *flow.Table
	admit   *admit.Admission // nil: the kernel forwards nothing
	look    uint32           // admit.Mode.Mask

	// Owned by the worker's thread.
	view      decide.View               // of this turn
	views     uint32                    // how many views there have been: the number of this one
	now       uint32                    // ticks of this turn
	batch     [2 * batchSize]pkt        // received here, then handed over by others
	places    [2 * batchSize]flow.Place // of the flows of batch
	n         int
	misses    [2 * batchSize]uint8 // packets of batch whose flow has no entry
	decisions [2 * batchSize]decide.Decision
	missed    int
	back      flow.Place // of a reverse entry
	touched   uint32     // nothing: see Touch
	rx        [batchSize]frame.Desc
	doors     []door           // the first is the punt link
	exits     []uint8          // by vif id: index in doors
	wake      [maxWorkers]bool // workers to wake at the end of the turn
	recent    way.Recent
	frags     fragment.Ports
	aging     aging
	quota     quota.Counts
	answer    [answerSize]byte
	gather    [1 << 16]byte   // a packet to be fragmented
	cutter    card.Cutter     // of the packet at hand
	segmented card.Segment    // by cutter
	decide    decide.Decision // of the packet at hand
	in        message         // received last
	out       message         // built for a packet
	// lastReverse is the index of the reverse entry inserted last.
	lastReverse uint32
	count       counters

	// Written by the worker, read by anyone.
	alive    atomic.Int64 // monotonic ns of the last turn
	sleeping atomic.Bool

	// Written by anyone, run by the worker; room: written by Publish, taken by the worker.
	room  atomic.Pointer[room.Room]
	calls *calls.Queue
}

const (
	// A batch is so small that its packets and their flows stay in the nearest cache
	// from the first stage to the last; a turn has several, so that what they send
	// leaves together.
	batchSize  = 64
	batches    = 4 // of a turn
	txSize     = 4 * batches * batchSize
	answerSize = 1536 // bytes: the largest ICMP error or neighbour advertisement
)

// TickShift turns monotonic nanoseconds into the ticks of flow entries.
const TickShift = entry.TickShift

func newWorker(s *Shared, id int, punt link.Link, sleeper link.Sleeper) *Worker {
	w := &Worker{
		s: s, id: id, workers: s.opts.Workers, sleeper: sleeper,
		pool: s.opts.Pools[id], mem: s.opts.Memory, flows: s.opts.Flows[id],
		calls: calls.New(),
		admit: admit.New(&s.opts.Offload, s.opts.Flows[id], id), look: s.opts.Offload.Mode.Mask(),
	}
	w.cutter.Memory, w.cutter.Pool = w.mem, w.pool
	w.addDoor(door{link: punt, joins: s.opts.Joins})
	w.view = decide.View{Tables: s.tables.Load(), Clients: s.opts.Clients}
	w.views = 1 // 0 is no view
	w.count.init()
	w.aging.visit = w.visit
	w.grow()
	w.adopt()
	return w
}

// Turn takes some batches off the wire and puts them back on the wire. now is
// CLOCK_MONOTONIC in nanoseconds. It returns the packets and messages handled.
//
// Links are read before the rings of the other workers, so that what
// a worker announced about a flow is known before the packets that followed.
func (w *Worker) Turn(now uint64) int {
	w.begin(now)
	n := 0
	for range batches {
		received := w.receive()
		n += received + w.drain()
		w.classify()
		w.own()
		w.track()
		w.emit()
		if received < batchSize/2 { // the links are empty
			break
		}
	}
	w.flush() // what follows may take longer than all before, and no packet waits for it
	w.age()
	w.offloads()
	w.end()
	return n
}

func (w *Worker) begin(now uint64) {
	w.now, w.view.Now = uint32(now>>TickShift), now
	w.alive.Store(int64(now))
	w.count.loops++
	if t := w.s.tables.Load(); t != w.view.Tables {
		w.view.Tables = t
		w.views++
		w.grow()
	}
	w.calls.Run()
}

// end says behind the packets of the turn what belongs there, and wakes whom it concerns.
func (w *Worker) end() {
	if w.admit != nil {
		w.admit.End(w.doors[0].link, w.pool, w.mem)
	}
	for i := range w.s.workers {
		if w.wake[i] {
			w.wake[i] = false
			w.s.workers[i].Wake()
		}
	}
}

// spin is how long an idle worker turns before it sleeps, poll: adaptive.
const spin = 50 * time.Microsecond

// Bounds of a sleep. Whoever has work for a worker ends its sleep: what it finds out by
// itself alone is that time passes, for flows that are to age and for whoever asks
// whether it is alive. Each sleep costs more than its turn. The sleeper may end one early.
const (
	sleep = 250 * time.Millisecond
	// nap is for what comes to an end that nobody tells of: a flow changes hands, or chunks
	// are away, without which the links cannot receive.
	nap = 20 * time.Millisecond
	// doze is for frames that a device did not take.
	doze = time.Millisecond
)

// Run turns until ctx is done. The caller has locked and pinned the thread.
func (w *Worker) Run(ctx context.Context) error {
	w.calls.Start()
	defer w.calls.Stop()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { w.sleeper.Wake(); close(woken) })
	defer func() {
		if !stop() {
			<-woken // nobody may use the sleeper after this
		}
	}()
	c := clock.New()
	last := c.Now()
	for ctx.Err() == nil {
		now := c.Now()
		switch {
		case w.Turn(now) > 0:
			last = now
			w.s.opts.Slice.Renew()
		case w.s.opts.Busy:
			w.s.opts.Slice.Renew()
		case now-last > uint64(spin):
			w.rest()
		}
	}
	return nil
}

// rest waits for frames, messages, calls or tables, unless there is work to do. The flag
// is up before the rings are looked at again: a sender either sees it, or its
// message is seen here.
func (w *Worker) rest() {
	w.sleeping.Store(true)
	if !w.pending() {
		w.count.sleeps++
		w.s.opts.Slice.Renew() // see poll.Sleeper.Hold
		w.sleeper.Wait(w.patience())
	}
	w.sleeping.Store(false)
}

func (w *Worker) patience() time.Duration {
	for i := range w.doors {
		if w.doors[i].link.Pending() {
			return doze
		}
	}
	if w.pool.Len() < w.pool.Cap()/8 || w.admit != nil && w.admit.Handing() {
		return nap
	}
	return sleep
}

func (w *Worker) pending() bool {
	for i := range w.s.rings {
		if i != w.id && w.s.rings[i][w.id].Len() > 0 {
			return true
		}
	}
	return w.s.tables.Load() != w.view.Tables || w.calls.Pending() || w.aging.Pending() || w.admit != nil && w.admit.Told()
}

// Wake makes a sleeping worker turn.
func (w *Worker) Wake() {
	if w.sleeping.Load() {
		w.sleeper.Wake()
	}
}

// Do runs fn on the worker between two turns and waits for it; when the worker
// is not running, it runs fn here.
func (w *Worker) Do(fn func()) { w.calls.Do(fn, w.Wake) }

// owner is the worker that owns the flow entries of t.
func (w *Worker) owner(t *packet.Tuple) int { return packet.Owner(t.Hash(), w.workers) }
