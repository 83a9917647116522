// Package desk is where one worker and the offloader meet: orders go one way, news
// the other, over a ring each. The worker alone writes orders and reads news, the
// offloader alone the other way round. It decides nothing; what is lost when a ring
// is full, either side finds out by looking.
package desk

import (
	"sync/atomic"

	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/ring"
)

// Order is what a worker wants of the kernel's flow cache.
type Order struct {
	// Delete takes the flow of Flow.Index and Flow.Tuple out; else Flow goes in, in
	// place of what its entry had there.
	Delete bool
	Life   uint8 // of the entry
	Flow   offload.Flow
	// As the worker saw it: the vif that receives the flow, and the next hop of that
	// vif or of the label it comes with. If that is another by now, the flow is not
	// to be forwarded by what the worker knew.
	Vif, Via uint32
}

// Path is where a flow's packets are counted beside its entry: the vifs that receive
// and send them, and what stands there before each IP packet, in bytes.
type Path struct{ In, Out, InBytes, OutBytes uint32 }

// News is what became of a flow in the cache. It is meant for the entry at Index if
// that is of Tuple and Life: slots are used again, and ports.
type News struct {
	// Out: the flow is not in the kernel, or not any more. The counters count all
	// the same.
	Out     bool
	Life    uint8
	Index   uint32
	Tuple   packet.Tuple
	Path    Path
	Packets uint64 // forwarded by the kernel since the last news
	Bytes   uint64
	Seen    uint64 // CLOCK_MONOTONIC, ns; 0: not seen
}

// Desk is one worker's.
type Desk struct {
	Orders *ring.SPSC[Order]
	News   *ring.SPSC[News]
	// Full says that the cache has no room: the worker need not ask.
	Full atomic.Bool
	// Lost counts orders that found the ring full. Written by the worker.
	Lost atomic.Uint64

	bell chan struct{} // shared by all desks of one offloader
}

// size of both rings. Each of a worker's flows in the cache makes one piece of news
// a second at most.
const size = 4096

// New returns a desk for each worker, and the bell they ring.
func New(workers int) (desks []*Desk, bell <-chan struct{}) {
	b := make(chan struct{}, 1)
	for range workers {
		desks = append(desks, &Desk{Orders: ring.New[Order](size), News: ring.New[News](size), bell: b})
	}
	return desks, b
}

// Ring tells the offloader that there are orders. Once a turn at most: it is a
// channel.
func (d *Desk) Ring() {
	select {
	case d.bell <- struct{}{}:
	default: // it rings already
	}
}
