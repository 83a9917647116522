package offloader

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vragent/vragent/fastpath/flow"
	"github.com/vragent/vragent/fastpath/offload"
)

// idle is how long a flow has not been seen that makes room for others. ns.
const idle = 10e9

// Pass goes through the cache: the workers hear what was forwarded, and whatever is
// in the cache for no entry goes, whyever its deletion was not heard of. Run calls it
// every second, and whoever wants to read counters may; now is CLOCK_MONOTONIC.
func (o *Offloader) Pass(now uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.round++
	o.owed = slices.DeleteFunc(o.owed, o.push)
	var orphans []offload.Key
	err := o.Cache.Records(func(r *offload.Record) {
		k := o.byKey[r.Key]
		if k == nil {
			orphans = append(orphans, r.Key)
			return
		}
		if r.Packets != k.last.Packets || k.seen == 0 && r.Packets != k.heard.Packets {
			k.seen = now
		}
		k.found, k.last = o.round, r.Stats
		if k.since == 0 {
			k.since = now
		}
	})
	if err != nil {
		o.failed("read the flows", err)
		return
	}
	for _, key := range orphans {
		if _, err := o.Cache.Delete(key); err != nil {
			o.failed("delete a flow", err)
		}
	}
	o.sort(now)
}

// sort tells the workers what the pass has found, and removes what is not to stay.
// It goes in no order: when a desk has no room, each time others wait.
func (o *Offloader) sort(now uint64) {
	crowded := len(o.byKey) > o.Cache.Cap()*7/8
	for _, k := range o.byKey {
		switch {
		case o.round-k.found > 1: // twice: the kernel's walk over a map may miss one that others collide with
			o.count.Vanished++
			o.remove(k, true)
		case !o.wanted(k):
			o.remove(k, false)
		case crowded && max(k.since, k.seen)+idle < now:
			o.remove(k, true)
		default:
			o.tell(k)
		}
	}
	if len(o.byKey) < o.Cache.Cap()*15/16 {
		o.full(false)
	}
}

// wanted says that the worker's entry is there still, of the same conversation, and is given to
// the kernel.
func (o *Offloader) wanted(k *kept) bool {
	e, ok, known := o.entry(k.index)
	return !known || ok && e.Key().Tuple == k.key.Tuple && e.Life == k.life && e.Flags&flow.FlagOffloaded != 0
}

// entry reads a worker's entry. known is false when it never stands still.
func (o *Offloader) entry(index uint32) (e flow.Record, ok, known bool) {
	worker, slot := flow.Split(index)
	if worker >= len(o.Flows) || int(slot) >= o.Flows[worker].Slots() {
		return e, false, true
	}
	t := o.Flows[worker]
	e, ok = t.Snapshot(slot)
	return e, ok, ok || !t.Used(slot)
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the kernel's clock.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail: the clock exists
	return uint64(t.Nano())
}
