// Package offloader keeps the kernel's flow cache as the workers want it: it carries
// out their orders, tells them what the kernel has forwarded, and keeps what the
// cache knows of the network ahead of what workers know. It owns the cache. Which
// flows belong there it does not decide.
package offloader

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/packet"
	"github.com/vragent/vragent/fastpath/table"
)

// Flows are the entries of the cache. Errors are those of package offload, or the kernel's.
type Flows interface {
	// Put makes the entry of f.Key, or changes it; then its Stats go on.
	Put(f *offload.Flow) error
	// Delete removes an entry and returns what it had forwarded. No entry is no error.
	Delete(k offload.Key) (offload.Stats, error)
	// Records visits every entry; visit must not change the cache.
	Records(visit func(*offload.Record)) error
	Cap() int
}

// Network is what the cache knows beside flows.
type Network interface {
	// SetGeneration makes every flow of the scope with another generation go up, at once.
	SetGeneration(scope, gen uint32)
	// SetNextHops makes next hops or changes them, RemoveNextHops forgets them: their flows go up.
	SetNextHops(set []offload.NextHop) error
	RemoveNextHops(ids []uint32) error
	// SetPeers says who may send tunnels.
	SetPeers(peers []packet.Addr) error
}

// Cache is the kernel's flow cache.
type Cache interface {
	Flows
	Network
}

// Config is what an Offloader works with.
type Config struct {
	Cache Cache
	Desks []*desk.Desk
	Bell  <-chan struct{}
	Flows []*flow.Table // of the workers; only read, once Begin has returned
	Notes Notes         // NoteSize for each flow that fits
	Wake  func(int)     // makes the worker of that number read its news, if it sleeps
	Log   *slog.Logger
}

// Offloader serves the workers' desks.
type Offloader struct {
	// Set once by New.
	Config

	mu sync.Mutex
	// Guarded by mu.
	tables  *table.Tables // as the cache knows them; nil: it was not told yet
	byKey   map[offload.Key]*kept
	byIndex map[uint32]*kept // of the user plane's entry
	free    []int            // places in Notes
	owed    []desk.News      // last words about flows that a worker had no room for
	round   uint64           // of passes
	count   Counts
	failing string // what the kernel refused last, for Limits
}

// kept is one flow in the cache.
type kept struct {
	key   offload.Key
	index uint32
	life  uint8 // of that entry
	path  desk.Path
	last  offload.Stats // as the last pass found it
	heard offload.Stats // what its worker knows of
	note  int           // place in Notes
	since uint64        // when a pass found it first, ns
	seen  uint64        // when a pass found that it had forwarded more, ns
	found uint64        // the last pass that found it
}

// Counts are since the start.
type Counts struct {
	Put, Deleted, Adopted, Refused, Vanished, Lost uint64
	Packets, Bytes                                 uint64 // forwarded
	Entries, Size                                  int
}

// New makes the offloader of an open cache. Begin must be called before anything goes in.
func New(c Config) *Offloader {
	return &Offloader{Config: c, byKey: map[offload.Key]*kept{}, byIndex: map[uint32]*kept{}}
}

// passEvery is how often workers hear what the kernel has forwarded.
const passEvery = time.Second

// Run serves until ctx is done. What is in the cache stays there.
func (o *Offloader) Run(ctx context.Context) error {
	tick := time.NewTicker(passEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.Bell:
			o.Orders()
		case <-tick.C:
			o.Orders() // a bell may ring before its order is seen
			o.Pass(monotonic())
		}
	}
}

// Counts returns the counters.
func (o *Offloader) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.count
	c.Entries, c.Size = len(o.byKey), o.Cache.Cap()
	for _, d := range o.Desks {
		c.Lost += d.Lost.Load()
	}
	return c
}

// Limits says what an operator should know.
func (o *Offloader) Limits() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing == "" {
		return nil
	}
	return []string{"the kernel's flow cache: " + o.failing}
}

// failed notes what the kernel refused; the flow goes on in the user plane.
func (o *Offloader) failed(what string, err error) {
	text := what + ": " + err.Error()
	if text != o.failing {
		o.Log.Warn("the kernel's flow cache refuses; the workers forward", "what", what, "error", err)
	}
	o.failing = text
}

// Orders carries out what the workers have ordered. Run calls it.
func (o *Offloader) Orders() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var order desk.Order
	for _, d := range o.Desks {
		for d.Orders.Pop(&order) {
			if order.Delete {
				o.delete(&order)
			} else {
				o.put(&order)
			}
		}
	}
}

func (o *Offloader) put(order *desk.Order) {
	f := &order.Flow
	if k := o.byIndex[f.Index]; k != nil && (k.key != f.Key || k.life != order.Life) {
		o.remove(k, false) // it comes another way now, or the slot is used again
	}
	k := o.byKey[f.Key]
	if k != nil && k.index != f.Index {
		o.remove(k, false) // its entry was made anew
		k = nil
	}
	if k == nil {
		k = &kept{key: f.Key, index: f.Index, life: order.Life, note: noNote}
	}
	k.found = o.round
	if o.tables == nil || !holds(o.tables, f, table.NextHopID(order.Via)) {
		o.remove(k, true)
		return
	}
	k.path = path(o.tables, order.Vif, f)
	if err := o.Cache.Put(f); err != nil {
		o.count.Refused++
		o.remove(k, true)
		switch {
		case errors.Is(err, offload.ErrFull):
			o.full(true)
		case errors.Is(err, offload.ErrNextHop), errors.Is(err, offload.ErrUnsupported): // gone meanwhile; nothing is wrong
		default:
			o.failed("put a flow", err)
		}
		return
	}
	o.count.Put++
	if o.byKey[k.key] != k {
		o.note(k)
	}
	o.byKey[k.key], o.byIndex[k.index] = k, k
	if len(o.byKey) >= o.Cache.Cap() {
		o.full(true)
	}
}

func (o *Offloader) delete(order *desk.Order) {
	if k := o.byIndex[order.Flow.Index]; k != nil && k.key.Tuple == order.Flow.Tuple && k.life == order.Life {
		o.remove(k, false)
	}
}

// remove takes a flow out of the cache; its worker hears the last of it, and, if out,
// that it is so.
func (o *Offloader) remove(k *kept, out bool) {
	stats, err := o.Cache.Delete(k.key)
	if err != nil {
		o.failed("delete a flow", err) // a later pass finds it
	}
	if stats == (offload.Stats{}) {
		stats = k.last // it was not there any more
	}
	if o.byKey[k.key] == k {
		o.count.Deleted++
	}
	delete(o.byKey, k.key)
	delete(o.byIndex, k.index)
	o.forget(k)
	if n := o.news(k, stats, out); out || n.Packets != 0 {
		if !o.push(n) {
			o.owed = append(o.owed, n)
		}
	}
}

// tell says to the worker what the kernel has forwarded since it heard last. When it
// does not listen, the next pass does.
func (o *Offloader) tell(k *kept) {
	if n := o.news(k, k.last, false); n.Packets != 0 && o.push(n) {
		k.heard = k.last
		o.Notes.set(k.note, k.index, k.heard.Packets, k.heard.Bytes)
	}
}

// news is what the worker does not know yet. An entry that has counted less than it
// knows of was made anew.
func (o *Offloader) news(k *kept, s offload.Stats, out bool) desk.News {
	if s.Packets < k.heard.Packets || s.Bytes < k.heard.Bytes {
		k.heard = offload.Stats{}
	}
	return desk.News{
		Out: out, Index: k.index, Life: k.life, Tuple: k.key.Tuple, Path: k.path, Seen: k.seen,
		Packets: s.Packets - k.heard.Packets, Bytes: s.Bytes - k.heard.Bytes,
	}
}

// push reports whether the worker's desk had room.
func (o *Offloader) push(n desk.News) bool {
	worker, _ := flow.Split(n.Index)
	if worker < len(o.Desks) {
		if !o.Desks[worker].News.Push(n) {
			return false
		}
		o.Wake(worker)
	}
	o.count.Packets += n.Packets
	o.count.Bytes += n.Bytes
	return true
}

// full tells the workers whether asking is of use.
func (o *Offloader) full(is bool) {
	for _, d := range o.Desks {
		d.Full.Store(is)
	}
}
