package engine

import (
	"errors"
	"slices"
	"sync"

	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/frame"
	"github.com/vragent/vragent/fastpath/link/tap"
	"github.com/vragent/vragent/fastpath/table"
)

// taps are the workers' links to pods on taps: one each, made with the first such pod.
type taps struct {
	// Set once by openPlane.
	memory frame.Memory
	pools  []*frame.Pool

	// Guarded by mu.
	mu    sync.Mutex
	sets  []*tap.Set // one per worker
	doors []int      // the number each is a link of its worker by
	open  map[table.VifID]opened
}

// opened is a tap whose queues the workers have.
type opened struct {
	tap   table.Tap
	queue int // the first worker's
}

// serves says that the queues still lead to the pod.
func (o opened) serves() bool { return tap.Serves(o.queue, o.tap.Netns) }

// larges is how many large buffers each worker has: two megabytes, which is as much
// as its core's cache takes. Packets wait in the tap when all are in use.
const larges = 32

// attach brings the packets of a vif to the workers, whatever its device is.
func (p *plane) attach(v table.Vif) error {
	if v.Tap == (table.Tap{}) {
		return errors.Join(p.taps.remove(p, v.ID), p.steer.AttachVif(v))
	}
	return errors.Join(p.steer.DetachVif(v.ID), p.taps.add(p, v))
}

// detach undoes attach.
func (p *plane) detach(id table.VifID) error {
	return errors.Join(p.steer.DetachVif(id), p.taps.remove(p, id))
}

// attached lists the vifs that are attached, in order of their ids. Where a pod's tap
// was made anew, its vif is not, until it is said again.
func (p *plane) attached() ([]table.VifID, error) { return p.held(opened.serves) }

// held lists the vifs that steering has, and of taps those that which says.
func (p *plane) held(which func(opened) bool) ([]table.VifID, error) {
	ids, err := p.steer.Vifs()
	if err != nil {
		return nil, err
	}
	p.taps.mu.Lock()
	defer p.taps.mu.Unlock()
	for id, o := range p.taps.open {
		if which(o) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// add opens the queues of a vif's tap, one for each worker. What is open, and still
// leads there, stays so: opened twice, a tap would hand half of its packets to nobody.
func (t *taps) add(p *plane, v table.Vif) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o, ok := t.open[v.ID]; ok && o.tap == v.Tap && o.serves() {
		return nil
	}
	err := t.forget(p, v.ID)
	if err == nil {
		err = t.prepare(p)
	}
	if err != nil {
		return err
	}
	queues, err := tap.OpenQueues(v.Tap.Netns, v.Tap.Name, len(p.workers))
	if err != nil {
		return err
	}
	for i, w := range p.workers {
		w.Do(func() { err = t.sets[i].Add(v.ID, queues[i]) })
		if err != nil {
			return errors.Join(err, tap.CloseQueues(queues[i:]), t.forget(p, v.ID))
		}
		w.Exit(v.ID, t.doors[i])
	}
	t.open[v.ID] = opened{v.Tap, queues[0]}
	return nil
}

// remove closes the queues of a vif; there may be none.
func (t *taps) remove(p *plane, id table.VifID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.forget(p, id)
}

func (t *taps) forget(p *plane, id table.VifID) (err error) {
	for i, set := range t.sets {
		w := p.workers[i]
		w.Exit(id, 0)
		queue := -1
		w.Do(func() { queue = set.Remove(id) })
		if queue >= 0 {
			err = errors.Join(err, tap.CloseQueues([]int{queue}))
		}
	}
	delete(t.open, id)
	return err
}

// prepare gives every worker its Set. A node without taps has none to ask each turn.
func (t *taps) prepare(p *plane) error {
	for i := len(t.sets); i < len(p.workers); i++ {
		set, err := tap.New(t.memory, t.pools[i])
		if err != nil {
			return err
		}
		w := p.workers[i]
		w.Do(func() { p.sleepers[i].Add(set.FD()) })
		t.sets, t.doors = append(t.sets, set), append(t.doors, w.AddCard(set))
	}
	if t.open == nil {
		t.open = map[table.VifID]opened{}
	}
	return nil
}

// tapLosses are the counters of taps that mean lost packets.
var tapLosses = []struct {
	name, sentence string
	of             func(tap.Stats) uint64
}{
	{"tap-refused", "A pod's tap did not take a packet: it is down or gone.", func(s tap.Stats) uint64 { return s.Refused }},
	{"tap-malformed", "A pod's tap handed over a packet with a virtio header that cannot be.", func(s tap.Stats) uint64 { return s.Malformed }},
}

// full is what the kernel drops before a worker has seen it.
const full = "A pod's tap was full: the workers did not take its packets fast enough (tx_dropped of the interfaces of pods that are here)."

// drops lists what was lost at taps, by worker.
func (t *taps) drops() []control.DropCounter {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]control.DropCounter, len(tapLosses))
	for i, loss := range tapLosses {
		out[i] = control.DropCounter{Name: loss.name, Sentence: loss.sentence}
		for _, set := range t.sets {
			n := loss.of(set.Stats())
			out[i].Count += n
			out[i].PerCore = append(out[i].PerCore, n)
		}
	}
	c := control.DropCounter{Name: "tap-full", Sentence: full}
	for _, o := range t.open {
		n, err := tap.Dropped(o.tap.Netns, o.tap.Name)
		if err == nil { // else the pod is just leaving
			c.Count += n
		}
	}
	return append(out, c)
}

func (t *taps) close() (err error) {
	for _, set := range t.sets {
		err = errors.Join(err, set.Close())
	}
	return err
}
