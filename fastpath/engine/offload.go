package engine

import (
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/engine/offloader"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/offload"
	"github.com/vragent/vragent/fastpath/offload/desk"
	"github.com/vragent/vragent/fastpath/table"
)

// cacheFlows is the room in the kernel's flow cache: each direction of a flow takes one.
const cacheFlows = 1 << 16

// notesFile is where the offloader's notes are, beside the flow tables.
const notesFile = "offloaded"

// kernel is what the plane gives flows to.
type kernel struct {
	mode      admit.Mode
	offloader *offloader.Offloader // nil: nothing is given
	config    admit.Config         // of the workers
	limits    []string
}

// roomFor is how many flows steering should have room for.
func roomFor(mode admit.Mode) int {
	if mode == admit.Off {
		return 0
	}
	return cacheFlows
}

// openKernel makes an offloader for the cache, if there is one.
func (p *plane) openKernel(cfg *Config) kernel {
	k, cache := kernel{mode: cfg.Offload}, p.steer.Cache()
	if cfg.Offload == admit.Off {
		return k
	}
	k.limits = cache.Limits()
	if cache.Cap() == 0 {
		return k
	}
	notes, _, err := p.memory.memory(notesFile, cache.Cap()*offloader.NoteSize)
	if err != nil {
		cfg.Log.Warn("what the kernel forwards of a flow before a restart may be counted twice or not at all", "error", err)
	}
	desks, bell := desk.New(len(p.memory.tables))
	k.offloader = offloader.New(offloader.Config{
		Cache: records{cache}, Desks: desks, Bell: bell, Flows: p.memory.tables, Notes: notes,
		Wake: func(worker int) { p.workers[worker].Wake() }, Log: cfg.Log,
	})
	k.config = admit.Config{Mode: cfg.Offload, Desks: desks, Slots: cache.Slots()}
	return k
}

// begin tells the kernel of the network for the first time. Sockets are open, and no
// worker turns yet.
func (k *kernel) begin(t *table.Tables) {
	if k.offloader != nil {
		k.offloader.Begin(t)
	}
}

// sync tells the kernel what changes, before workers are told.
func (k *kernel) sync(t *table.Tables) {
	if k.offloader != nil {
		k.offloader.Sync(t)
	}
}

func (k *kernel) status() control.OffloadStatus {
	s := control.OffloadStatus{Mode: k.mode.String()}
	if k.offloader != nil {
		c := k.offloader.Counts()
		s.Entries, s.Size, s.Packets, s.Bytes = c.Entries, c.Size, c.Packets, c.Bytes
		s.Put, s.Deleted, s.Adopted, s.Refused, s.Vanished, s.Lost = c.Put, c.Deleted, c.Adopted, c.Refused, c.Vanished, c.Lost
	}
	return s
}

// sentences says what an operator should know.
func (k *kernel) sentences() []string {
	if k.offloader == nil {
		return k.limits
	}
	return append(k.limits[:len(k.limits):len(k.limits)], k.offloader.Limits()...)
}

// records is the kernel's cache as the offloader reads it.
type records struct{ *steer.Cache }

// Records implements offloader.Flows.
func (r records) Records(visit func(*offload.Record)) error {
	var cursor steer.Cursor
	batch := make([]offload.Record, 512)
	for {
		n, err := r.Read(&cursor, batch)
		for i := range batch[:n] {
			visit(&batch[i])
		}
		if n == 0 || err != nil {
			return err
		}
	}
}
