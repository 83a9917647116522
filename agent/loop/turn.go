package loop

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/state"
	"github.com/vragent/vragent/controller/southbound"
)

// turn is what the turns of the loop work on.
type turn struct {
	node     *state.Node
	fabric   compile.Fabric
	host     *compile.Host // nil: not there
	underlay map[netip.Addr]compile.Neighbour

	dirty    bool // the tables may have to change
	lost     bool // what the fast path has must not be touched: see recovered
	foretold bool // what it has was announced, as far as it is known
	progress progress
	pending  []*pendingAttach
	replies  []func(error) // wait for the ledger
	sync     syncState
	health   health
}

// syncState says what a controller has said completely in the present stream.
type syncState struct {
	attempt uint64
	types   map[southbound.Type]bool
}

func newTurn(node *state.Node, fabric compile.Fabric) turn {
	return turn{
		node: node, fabric: fabric, dirty: true, health: newHealth(),
		sync: syncState{types: map[southbound.Type]bool{}},
	}
}

const (
	tickEvery = 500 * time.Millisecond

	// firstLook bounds the wait for the underlay's neighbours at the start: a
	// fast path that forwards already must not lose the ones it has.
	firstLook = time.Second

	// drainMost is how many events one turn takes; they share one commit, one
	// compilation and one change of the fast path.
	drainMost = 1000
)

// turns is the loop.
func (l *Loop) turns(ctx context.Context) error {
	defer close(l.events.done)
	l.lookFirst(ctx)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		l.look()
		l.retryAttaches(time.Now())
		_ = l.commit() // said by its condition, and tried again
		l.program(time.Now())
		l.acked(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case f := <-l.events.calls:
			f()
		case u := <-l.upstream.Updates():
			l.update(u)
		case i := <-l.events.gone:
			l.linkGone(i)
		case <-l.events.wake:
		case now := <-tick.C:
			if err := l.events.haste.Tick(now); err != nil {
				l.log.Warn("after many pods at once", "error", err)
			}
			l.checkHealth(now)
		}
		l.drain()
	}
}

// drain takes what else has arrived.
func (l *Loop) drain() {
	for range drainMost {
		select {
		case f := <-l.events.calls:
			f()
		case i := <-l.events.gone:
			l.linkGone(i)
		default:
			return
		}
	}
}

// lookFirst waits until the kernel has said how to reach the other nodes, or
// has had its time.
func (l *Loop) lookFirst(ctx context.Context) {
	if l.turn.lost { // nobody is known yet: what is recalled of the others stays
		l.turn.underlay = l.underlay.Known()
		return
	}
	peers := l.turn.node.Peers()
	l.underlay.SetPeers(peers)
	deadline := time.After(firstLook)
	for {
		known := l.underlay.Known()
		resolved := 0
		for _, p := range peers {
			if known[p].DstMAC != (compile.Neighbour{}.DstMAC) {
				resolved++
			}
		}
		l.turn.underlay = known // whether or not the event has been told yet
		if resolved == len(peers) {
			return
		}
		select {
		case <-l.events.wake:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// look takes over what moved in the kernel.
func (l *Loop) look() {
	t, m := &l.turn, l.events.moved
	if m.underlay.Swap(false) {
		if known := l.underlay.Known(); !maps.Equal(known, t.underlay) {
			t.underlay, t.dirty = known, true
		}
		l.lookAtFabric()
	}
	if m.host.Swap(false) {
		t.host, t.dirty = l.host.facts(), true
	}
	if m.links.Swap(false) {
		if taps, err := kernel.Taps(); err != nil {
			l.log.Warn("interfaces cannot be listed", "error", err)
		} else if t.node.Sync(taps) {
			t.dirty = true
		}
	}
}

// lookAtFabric reads the facts of the interface that carries tunnels; while it
// is away the last ones stay.
func (l *Loop) lookAtFabric() {
	t := &l.turn
	f, err := kernel.FindFabric(l.cfg.Fabric.Interface, l.cfg.Fabric.Address)
	if err == nil && f.Address != t.fabric.Address {
		err = fmt.Errorf("fabric interface %s has changed its address from %v to %v: restart vragent", f.Name, t.fabric.Address, f.Address)
	}
	if err != nil {
		t.health.fabric = err.Error()
		return
	}
	t.health.fabric = ""
	t.dirty = t.dirty || f != t.fabric
	t.fabric = f
}

// linkGone unbinds a pod whose tap was deleted: the fast path must not be asked
// for an interface that is gone. The address stays until the pod is detached.
func (l *Loop) linkGone(ifindex int) {
	if l.turn.node.Gone(ifindex) {
		l.turn.dirty = true
	}
	if h := l.turn.host; h != nil && h.Ifindex == ifindex {
		l.host.poke()
	}
}

// update takes a response of the controller over; it is acknowledged when all
// of it is in the fast path.
func (l *Loop) update(u dial.Update) {
	t := &l.turn
	nacks := t.node.Apply(u.ToAgent, time.Now())
	for _, n := range nacks {
		l.log.Error("a resource of the controller is refused; what was known of it stays", "type", n.GetType(), "name", n.GetName(), "error", n.GetError())
	}
	if t.sync.attempt != u.Attempt {
		t.sync = syncState{u.Attempt, map[southbound.Type]bool{}}
	}
	for _, kind := range u.GetInSync() {
		t.sync.types[kind] = true
	}
	if len(u.GetUpserts())+len(u.GetRemoves()) > 0 {
		t.dirty = true
		if !t.lost { // else the other nodes may not have come yet
			l.underlay.SetPeers(t.node.Peers())
		}
		l.tellHost()
	}
	if t.lost {
		l.upstream.Ack(u, nacks) // nothing is programmed before all has come
		return
	}
	l.after(waiter{done: func(error) { l.upstream.Ack(u, nacks) }})
}

// have is what a new stream tells the controller.
func (l *Loop) have() []*southbound.ResourceVersion {
	held := make(chan []*southbound.ResourceVersion, 1)
	if !l.events.call(context.Background(), func() { held <- l.turn.node.Have() }) {
		return nil
	}
	return <-held
}

// commit makes what changed durable, then answers those who wait for that.
func (l *Loop) commit() error {
	t := &l.turn
	c := t.node.TakeChange()
	err := l.ledger.Commit(&c)
	if err != nil {
		t.node.Remember(&c)
		if t.health.ledger == "" {
			l.log.Error("the ledger cannot be written; pods are refused until it can", "error", err)
		}
		t.health.ledger = err.Error()
	} else {
		t.health.ledger = ""
	}
	replies := t.replies
	t.replies = nil
	for _, f := range replies {
		f(err)
	}
	return err
}
