// Package portmaps remembers which port maps a VMI has been told and which its
// agent has. A VMI is immutable; what happens makes the next one. It does not
// decide which port maps services want, and sends nothing.
package portmaps

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A member of a service comes and goes in two steps, so that no packet ever
// reaches a pod whose port map is not there:
//
//	coming: the port map goes to the pod's node; when that agent has
//	        acknowledged it, the member goes to all nodes.
//	going:  the member leaves all nodes; when every connected agent has
//	        acknowledged that, or after HoldTime, the port map is removed.

// HoldTime bounds how long the port map of a removed member stays.
const HoldTime = 30 * time.Second

// Recheck is when an acknowledgement is first looked for: it may come before
// anybody asks for it.
const Recheck = 200 * time.Millisecond

// maxVersions bounds how many unacknowledged versions of a VMI are remembered.
const maxVersions = 16

// Key is where a port map begins.
type Key struct {
	VIP      netip.Addr
	Protocol uint8
	Port     uint16
}

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
	attachment Attachment // another one begins anew
	sent       []Version  // from the acknowledged one to the current one
	acked      Maps
	held       map[Key]held
}

// Attachment is a pod's interface in one sandbox; with another label or other
// addresses it is another one.
type Attachment struct {
	Attached  bool
	Label     uint32
	Addresses []netip.Addr
	Acked     string // the version of its VMI resource whose port maps are in the fast path
}

func (a Attachment) same(b Attachment) bool {
	return a.Label == b.Label && slices.Equal(a.Addresses, b.Addresses)
}

// Version is what an agent is told at once.
type Version struct {
	Name string // the resource's
	Maps Maps
}

type held struct {
	Target
	since time.Time
}

// Acked are the port maps known to be in the fast path.
func (m *VMI) Acked() Maps { return m.acked }

// Awaited are the load balancers whose acknowledgement held port maps wait for.
func (m *VMI) Awaited() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, h := range m.held {
			if !yield(h.LB) {
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
	n = &VMI{attachment: a, held: m.hold(a, desired, c)}
	full = desired
	if len(n.held) > 0 {
		full = maps.Clone(desired)
	}
	for k, h := range n.held {
		full[k] = h.Target
	}
	if m != nil {
		n.sent = slices.Clone(m.sent)
		if m.attachment.same(a) {
			n.acked = m.acked
		}
	}
	return n, full
}

// hold are the port maps that no service wants any more and that must stay.
func (m *VMI) hold(a Attachment, desired Maps, c Clock) map[Key]held {
	out := map[Key]held{}
	if m == nil || !a.Attached {
		return out
	}
	for k, t := range m.current() {
		if _, wanted := desired[k]; wanted {
			continue
		}
		h, holding := m.held[k]
		switch {
		case !holding:
			out[k] = held{t, c.Now}
			c.WakeAt(c.Now.Add(Recheck))
		case !c.Settled(h.LB) && c.Now.Sub(h.since) < HoldTime:
			out[k] = h
		default:
			continue
		}
		c.WakeAt(out[k].since.Add(HoldTime))
	}
	return out
}

func (m *VMI) current() Maps {
	if len(m.sent) == 0 {
		return nil
	}
	return m.sent[len(m.sent)-1].Maps
}

// Sent notes the version that goes out with a new VMI, and finds what the agent
// has. An acknowledgement of a version nobody remembers (an agent that has just
// restarted) takes nothing back: the attachment and its port maps are the same.
func (m *VMI) Sent(now Version) {
	if len(m.sent) == 0 || m.sent[len(m.sent)-1].Name != now.Name {
		m.sent = append(m.sent, now)
	}
	m.sent = m.sent[max(0, len(m.sent)-maxVersions):]
	if !m.attachment.Attached {
		m.acked = nil
		return
	}
	for i, s := range m.sent {
		if s.Name == m.attachment.Acked {
			m.acked, m.sent = s.Maps, m.sent[i:]
			break
		}
	}
	m.acked = maps.Clone(m.acked)
	for _, s := range m.sent { // a later version, which the agent may already be at, must have it too
		maps.DeleteFunc(m.acked, func(k Key, t Target) bool { return s.Maps[k].Port != t.Port })
	}
}
