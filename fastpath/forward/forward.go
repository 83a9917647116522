// Package forward decides and rewrites every packet: tables and packet in,
// packets out. Each Worker owns its link, its flow table and its batch; workers
// share nothing but single-producer rings and one immutable snapshot of tables.
// It does not know Kubernetes, sockets or files, and asks nobody per packet.
package forward

import (
	"errors"
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/flow/affinity"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/forward/reason"
	"github.com/vragent/vragent/fastpath/forward/room"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link"
	"github.com/vragent/vragent/fastpath/ring"
	"github.com/vragent/vragent/fastpath/table"
	"github.com/vragent/vragent/fastpath/timeslice"
)

// Options are the parts the workers are built from. Pools and Flows have one
// element per worker.
type Options struct {
	Workers int
	Memory  frame.Memory
	Pools   []*frame.Pool
	Flows   []*flow.Table
	Clients *affinity.Table // shared by all workers
	Busy    bool            // poll: busy
	Slice   timeslice.Slice // a worker begins a new one when it has turned
	Joins   bool            // the kernel joins the TCP segments that leave by the punt links: see package train
	// MaxVifFlows bounds the forward entries one vif may hold on one worker.
	// 0: a quarter of the table, which with their reverse entries is half of it.
	MaxVifFlows int
	Offload     admit.Config
}

// Shared is what the workers of one fast path have in common.
type Shared struct {
	// Set once by NewShared.
	opts    Options
	workers []*Worker
	rings   [][]*ring.SPSC[message] // [from][to]

	// Owned by the caller of Publish.
	laid *room.Room // for a worker: only how large it is

	// Written by Publish, read by workers once per turn.
	tables atomic.Pointer[table.Tables]
}

// ringSize bounds the messages one worker may have under way to another.
const ringSize = 1024

// NewShared prepares workers that start with empty tables.
func NewShared(o Options) (*Shared, error) {
	if o.Workers < 1 || o.Workers > maxWorkers || len(o.Pools) != o.Workers || len(o.Flows) != o.Workers || o.Clients == nil {
		return nil, errors.New("fast path workers: want 1 to 64, with a pool and a flow table each, and a table of clients")
	}
	s := &Shared{opts: o, workers: make([]*Worker, o.Workers), rings: make([][]*ring.SPSC[message], o.Workers)}
	for i := range s.rings {
		s.rings[i] = make([]*ring.SPSC[message], o.Workers)
		for j := range s.rings[i] {
			if i != j {
				s.rings[i][j] = ring.New[message](ringSize)
			}
		}
	}
	s.tables.Store(table.NewBuilder().Tables())
	return s, nil
}

const maxWorkers = 64

// Worker makes worker i on its end of the punt link; it sleeps by sleeper, which
// wakes for that link. Every worker must exist before one turns.
func (s *Shared) Worker(i int, punt link.Link, sleeper link.Sleeper) *Worker {
	w := newWorker(s, i, punt, sleeper)
	s.workers[i] = w
	return w
}

// Publish gives the workers a new view of the network, from their next turn on. There
// is one call at a time.
func (s *Shared) Publish(t *table.Tables) {
	if s.laid == nil || !s.laid.Holds(t) {
		for _, w := range s.workers {
			if w != nil {
				s.laid = room.New(t)
				w.room.Store(s.laid)
			}
		}
	}
	s.tables.Store(t)
	for _, w := range s.workers {
		if w != nil {
			w.Wake()
		}
	}
}

// Reason says why a packet did not go on.
type Reason = reason.Reason

// Reasons lists every reason; the index is the Reason.
func Reasons() []reason.Text { return reason.All() }
