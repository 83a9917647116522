package hub

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// maxResponse bounds one response; a single larger resource still goes alone.
const maxResponse = 1 << 20 // bytes

type names map[string]struct{}

// outbox is what one agent has still to be told: a set of keys, not a queue,
// so that it never grows beyond the number of resources. The values are looked
// up when a response is made. One response is in flight.
type outbox struct {
	node  string
	limit int      // bytes of a response
	sets  []string // of the node, as last published

	dirty    map[southbound.Type]names
	inFlight map[plan.Key]struct{}
	nonce    uint64 // of the response in flight, or the last one
	waiting  bool   // for the acknowledgement of nonce

	// Until a type is in sync: what the agent holds of it, by version
	unsynced map[southbound.Type]map[string]string
	// What it holds and nobody here knows, as long as others may know better
	foreign map[plan.Key]bool
}

// newOutbox starts from what the agent says that it holds.
func newOutbox(node string, have []*southbound.ResourceVersion) *outbox {
	o := &outbox{
		node:     node,
		limit:    maxResponse,
		dirty:    map[southbound.Type]names{},
		unsynced: map[southbound.Type]map[string]string{},
		foreign:  map[plan.Key]bool{},
	}
	for _, t := range southbound.Types {
		o.dirty[t] = names{}
		o.unsynced[t] = map[string]string{}
	}
	for _, r := range have {
		if held, known := o.unsynced[r.GetType()]; known {
			held[r.GetName()] = r.GetVersion()
			o.dirty[r.GetType()][r.GetName()] = struct{}{}
		}
	}
	return o
}

// changes are the keys that differ between two publications, by set.
type changes map[string][]plan.Key

// diff compares two publications set by set, once for all agents.
func diff(old, now *plan.Intents) changes {
	out := changes{}
	if old == nil {
		return out // nobody has been told anything: update marks whole sets
	}
	for name, set := range now.Sets {
		before := old.Sets[name]
		for k, r := range set {
			if b := before[k]; b == nil || b.Wire.Version != r.Wire.Version || b.NotFor != r.NotFor {
				out[name] = append(out[name], k)
			}
		}
		for k := range before {
			if set[k] == nil {
				out[name] = append(out[name], k)
			}
		}
	}
	for name, set := range old.Sets {
		if now.Sets[name] == nil {
			out[name] = slices.Collect(maps.Keys(set))
		}
	}
	return out
}

// update marks what a new publication changes for this agent.
func (o *outbox) update(old, now *plan.Intents, c changes) {
	sets, known := now.Nodes[o.node]
	if !known { // not a node of the cluster now: it keeps what it has, and we remember what it misses
		sets = o.sets
	}
	for _, name := range sets {
		if slices.Contains(o.sets, name) {
			o.mark(slices.Values(c[name]), old.Sets[name], now.Sets[name])
		} else {
			o.mark(maps.Keys(now.Sets[name]), nil, now.Sets[name])
		}
	}
	for _, name := range o.sets {
		if !slices.Contains(sets, name) {
			o.mark(maps.Keys(old.Sets[name]), old.Sets[name], nil)
		}
	}
	o.sets = sets
}

// mark notes keys of a set, but for what neither was nor is for this node.
func (o *outbox) mark(keys iter.Seq[plan.Key], old, now plan.Set) {
	ours := func(r *plan.Resource) bool { return r != nil && r.NotFor != o.node }
	for k := range keys {
		if ours(old[k]) || ours(now[k]) {
			o.dirty[k.Type][k.Name] = struct{}{}
		}
	}
}

// next makes the response that is now due; nil: none. Types go in their order;
// one that is complete for the first time is closed by in_sync.
func (o *outbox) next(in *plan.Intents, closed map[southbound.Type]bool) *southbound.ToAgent {
	if in == nil || o.waiting || in.Nodes[o.node] == nil {
		return nil
	}
	m := &southbound.ToAgent{}
	o.inFlight = map[plan.Key]struct{}{}
	room := o.limit
	for _, t := range southbound.Types {
		if closed[t] {
			continue
		}
		if !o.drain(m, in, t, &room) {
			break // the rest goes with the next response
		}
		if o.unsynced[t] != nil {
			m.InSync = append(m.InSync, t)
			delete(o.unsynced, t)
		}
	}
	if len(m.Upserts)+len(m.Removes)+len(m.InSync) == 0 {
		return nil
	}
	o.nonce++
	m.Nonce = o.nonce
	o.waiting = true
	return m
}

// drain moves the dirty keys of a type into a response; false: it is full.
func (o *outbox) drain(m *southbound.ToAgent, in *plan.Intents, t southbound.Type, room *int) bool {
	have := o.unsynced[t] // nil once the type is in sync
	for _, name := range slices.Sorted(maps.Keys(o.dirty[t])) {
		k := plan.Key{Type: t, Name: name}
		r := o.lookup(in, k)
		version, held := have[name]
		switch {
		case r == nil && have != nil && !held, r != nil && held && version == r.Wire.Version:
			delete(o.dirty[t], name) // the agent is already there
			delete(o.foreign, k)
			continue
		case r == nil && in.Stale && (held || o.foreign[k]):
			o.foreign[k] = true
			continue
		case *room <= 0:
			return false
		case r == nil:
			m.Removes = append(m.Removes, &southbound.ResourceName{Type: t, Name: name})
			*room -= len(name)
			delete(have, name)
		default:
			size := proto.Size(r.Wire)
			if size > *room && *room < o.limit {
				*room = 0
				return false
			}
			m.Upserts = append(m.Upserts, r.Wire)
			*room -= size
			if have != nil {
				have[name] = r.Wire.Version
			}
		}
		delete(o.dirty[t], name)
		delete(o.foreign, k)
		o.inFlight[k] = struct{}{}
	}
	return true
}

// lookup finds a resource in the node's sets; nil: it is not to have it.
func (o *outbox) lookup(in *plan.Intents, k plan.Key) *plan.Resource {
	for _, name := range o.sets {
		if r := in.Sets[name][k]; r != nil && r.NotFor != o.node {
			return r
		}
	}
	return nil
}

// acknowledge ends the response in flight; it returns the keys it carried.
func (o *outbox) acknowledge(nonce uint64) (map[plan.Key]struct{}, error) {
	if !o.waiting || nonce != o.nonce {
		return nil, fmt.Errorf("acknowledgement of %d, which is not in flight", nonce)
	}
	keys := o.inFlight
	o.waiting, o.inFlight = false, nil
	return keys, nil
}

// owes tells whether the agent has not yet acknowledged a key as published.
func (o *outbox) owes(k plan.Key) bool {
	_, dirty := o.dirty[k.Type][k.Name]
	_, sent := o.inFlight[k]
	return dirty || o.waiting && sent
}

// pending counts what the agent does not have yet.
func (o *outbox) pending() int {
	n := len(o.inFlight)
	for _, d := range o.dirty {
		n += len(d)
	}
	return n
}
