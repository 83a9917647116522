package table

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Builder owns the state of the network and publishes it as Tables. One
// goroutine calls Begin, Apply and InSync; Tables and State are for everyone.
//
// Generations: a flow entry remembers the next hop it was decided under (the
// one its route, label or vif led to) and that next hop's Gen, and is decided
// anew when they differ. With each publication the Gen moves, once, of
//
//   - a next hop that is new or changed;
//   - the next hop a changed or removed route led to, and the one of the
//     covering route when a route is added (next hop 0 if nothing covers it);
//   - the next hops that deliver to a vif whose port maps changed, and the next
//     hop of a vif whose VRF, addresses or cluster addresses changed;
//   - a composite one of whose members became usable or stopped being so, or
//     whose member's vif has other port maps;
//   - a service one of whose composites moved for such a reason or changed, and
//     the composites of a service that changed or whose route did, so that it
//     makes no difference which of the two a flow remembers.
//
// Nothing else moves it, and no value comes twice.
type Builder struct {
	// Owned by the caller of Apply.
	index  index
	edits  uint64 // counts edits: stamps the pages that belong to one
	gen    uint32 // last generation given out
	replay *replay

	// Written by the caller of Apply, read by anyone.
	tables atomic.Pointer[Tables]
	epoch  atomic.Uint64 // of the last completed replay
}

// NewBuilder returns a Builder of empty tables: next hop 0 exists and discards.
func NewBuilder() *Builder {
	// A successor's generations must not meet those in the flow entries it
	// adopts. One that starts a second later is 256 generations ahead.
	b := &Builder{gen: uint32(time.Now().Unix() << 8)}
	e := b.edit()
	e.tables.nhs.set(e.stamp, 0, &NH{head: head{Type: NHDiscard}})
	e.bump[0] = struct{}{}
	b.publish(e)
	return b
}

// Tables returns what was published last. It never changes.
func (b *Builder) Tables() *Tables { return b.tables.Load() }

// State returns everything published last, sorted.
func (b *Builder) State() State { return b.Tables().State() }

// Epoch returns the epoch of the last completed replay, 0 if there was none.
func (b *Builder) Epoch() uint64 { return b.epoch.Load() }

// Begin opens the replay of epoch: what is not upserted before InSync is
// removed then. The tables stay as they are meanwhile. A replay that was open
// is forgotten.
func (b *Builder) Begin(epoch uint64) { b.replay = newReplay(epoch) }

// Apply makes the upserts of d, then its removals, and publishes the result.
// References may lead to what comes later in d. What is there already and what
// is gone already are no errors. If anything of d is refused, nothing of it
// happens. d is not kept.
func (b *Builder) Apply(d *Delta) error {
	e := b.edit()
	if err := e.apply(d); err != nil {
		return err
	}
	b.publish(e)
	if b.replay != nil {
		b.replay.mark(&d.Upsert)
	}
	return nil
}

// InSync closes the replay of epoch: it removes what was not upserted since
// Begin. If something that stays refers to something that would go, nothing
// happens and the replay stays open.
func (b *Builder) InSync(epoch uint64) error {
	if b.replay == nil || b.replay.epoch != epoch {
		return fmt.Errorf("in sync for epoch %d: no such replay is open", epoch)
	}
	e := b.edit()
	if err := e.apply(&Delta{Remove: b.replay.stale(b.Tables())}); err != nil {
		return fmt.Errorf("in sync for epoch %d: %w; it was not replayed", epoch, err)
	}
	b.publish(e)
	b.replay = nil
	b.epoch.Store(epoch)
	return nil
}

// edit starts the next version of tables and index.
func (b *Builder) edit() *edit {
	b.edits++
	e := &edit{
		stamp: b.edits, index: b.index, replay: b.replay,
		owned: owned{nhs: map[NextHopID]*NH{}, vifs: map[VifID]*VifEntry{}, vrfs: map[VRFID]*VRFEntry{}, routes: map[VRFID]struct{}{}},
		was:   map[NextHopID]*NH{}, routed: map[NextHopID]struct{}{}, remapped: map[VifID]struct{}{}, bump: map[NextHopID]struct{}{},
	}
	if t := b.Tables(); t != nil {
		e.tables = *t
	}
	return e
}

// publish makes e's version the current one.
func (b *Builder) publish(e *edit) {
	e.derive()
	if len(e.bump) > 0 {
		if b.gen++; b.gen == 0 {
			b.gen = 1 // 0 is the generation of next hops that do not exist
		}
		e.stampGenerations(b.gen)
	}
	if e.changed {
		b.index = e.index
		t := e.tables // a copy, so that readers do not keep the edit alive
		b.tables.Store(&t)
	}
}
