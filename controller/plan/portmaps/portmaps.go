// Package portmaps remembers which port maps the agent of a VMI is told, and finds
// which of them it has. A VMI is immutable; what happens makes the next one. It does not
// decide which port maps services want, and sends nothing.
package portmaps

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/vragent/vragent/controller/plan/cluster"
)

// A member of a service comes and goes in two steps, so that no packet ever
// reaches a pod whose port map is not there:
//
//	coming: the port map goes to the pod's node; when that agent says that it
//	        has it, the member goes to all nodes.
//	going:  the member leaves all nodes; when every connected agent has
//	        acknowledged that, or after HoldTime, the port map is removed.
//
// Several controllers do so side by side, one of which the pod's agent obeys.
// What the agent has they all hear. What it has and was not told by this one
// was told by another, or by a predecessor: it is removed in the same way.

// HoldTime bounds how long the port map of a removed member stays.
const HoldTime = 30 * time.Second

// Recheck is when an acknowledgement is first looked for: it may come before
// anybody asks for it.
const Recheck = 200 * time.Millisecond

// doubtTime is how long an agent may take to do what it was told, for those that
// do not hear when it has.
const doubtTime = 5 * time.Second

// Key is where a port map begins.
type Key = cluster.PortMapKey

// Target is where a port map leads, and for which load balancer.
type Target struct {
	Port uint16
	LB   string // UUID
}

// Maps are the port maps of a VMI.
type Maps map[Key]Target

// Sorted are the keys in order.
func (m Maps) Sorted() []Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b Key) int {
		return cmp.Or(a.VIP.Compare(b.VIP), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
}

// VMI is what is remembered of one. A nil one is new.
type VMI struct {
	attachment Attachment
	told       Maps
	held       map[Key]held
	going      map[Key]time.Time // the agent may be removing them; since the last word about it
}

// Attachment is what an agent says of a pod's interface.
type Attachment struct {
	Attached bool
	Settled  bool           // all that it was last told is in the fast path
	PortMaps map[Key]uint16 // those that are: the port that each leads to
}

type held struct {
	Target
	since time.Time
}

// Has tells whether a port map is in the fast path, and stays there.
func (m *VMI) Has(k Key, port uint16) bool {
	_, doubted := m.going[k]
	return !doubted && m.told[k].Port == port && m.attachment.PortMaps[k] == port
}

// Complete tells whether all are there that the agent is told.
func (m *VMI) Complete() bool {
	for k, t := range m.told {
		if !m.Has(k, t.Port) {
			return false
		}
	}
	return true
}

// Doubted tells whether a port map that is told again may be gone for a moment.
func (m *VMI) Doubted() bool {
	for k := range m.going {
		if _, again := m.told[k]; again {
			return true
		}
	}
	return false
}

// Awaited are the load balancers whose acknowledgement held port maps wait for.
func (m *VMI) Awaited() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, h := range m.held {
			if h.LB != "" && !yield(h.LB) {
				return
			}
		}
	}
}

// Clock is the time, and what has been waited for.
type Clock struct {
	Now     time.Time
	Settled func(lb string) bool // every agent has it as it was last sent
	WakeAt  func(time.Time)
}

// Next remembers what services want now and what the agent says; full are the
// port maps to be sent, with those that nobody wants any more and that must stay.
func (m *VMI) Next(a Attachment, desired Maps, c Clock) (n *VMI, full Maps) {
	if m == nil {
		m = &VMI{}
	}
	n = &VMI{attachment: a, told: desired, held: m.hold(a, desired, c)}
	if len(n.held) > 0 {
		n.told = maps.Clone(desired)
	}
	for k, h := range n.held {
		n.told[k] = h.Target
	}
	n.going = m.leave(n, c)
	return n, n.told
}

// hold are the port maps that no service wants any more and that must stay.
func (m *VMI) hold(a Attachment, desired Maps, c Clock) map[Key]held {
	if !a.Attached {
		return nil
	}
	var out map[Key]held
	for k, t := range m.present(a) {
		if _, wanted := desired[k]; wanted {
			continue
		}
		h, holding := m.held[k]
		switch {
		case !holding:
			h = held{t, c.Now}
			c.WakeAt(c.Now.Add(Recheck))
		case h.LB != "" && c.Settled(h.LB), c.Now.Sub(h.since) >= HoldTime:
			continue
		}
		if out == nil {
			out = map[Key]held{}
		}
		out[k] = h
		c.WakeAt(h.since.Add(HoldTime))
	}
	return out
}

// present are the port maps that the agent is told, and those it says for the
// first time: nobody here knows whose they were.
func (m *VMI) present(a Attachment) iter.Seq2[Key, Target] {
	return func(yield func(Key, Target) bool) {
		for k, t := range m.told {
			if !yield(k, t) {
				return
			}
		}
		for k, port := range a.PortMaps {
			_, told := m.told[k]
			_, said := m.attachment.PortMaps[k]
			if !told && !said && !yield(k, Target{Port: port}) {
				return
			}
		}
	}
}

// leave are the port maps that the agent may be about to remove: it was told so,
// and has not said yet that it did. Of those that it is told again since, a
// controller that it does not obey can only guess when they are there to stay.
func (m *VMI) leave(n *VMI, c Clock) map[Key]time.Time {
	var out map[Key]time.Time
	leaves := func(k Key, since time.Time) {
		if out == nil {
			out = map[Key]time.Time{}
		}
		out[k] = since
		if _, again := n.told[k]; again {
			c.WakeAt(since.Add(doubtTime))
		}
	}
	for k, since := range m.going {
		was, had := m.attachment.PortMaps[k]
		_, has := n.attachment.PortMaps[k]
		_, told := m.told[k]
		_, again := n.told[k]
		if again && !told {
			since = c.Now
		}
		removed := n.attachment.Settled || had && n.attachment.PortMaps[k] != was
		if late := c.Now.Sub(since) >= doubtTime && (again || !has); !removed && !late {
			leaves(k, since)
		}
	}
	for k, t := range m.told {
		if n.told[k].Port != t.Port {
			leaves(k, c.Now)
		}
	}
	return out
}
