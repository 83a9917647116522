package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/controller/southbound"
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

// maxVersions bounds how many unacknowledged versions of a VMI are remembered.
const maxVersions = 16

type portMapKey struct {
	vip      netip.Addr
	protocol uint8
	port     uint16
}

// target is where a port map leads, and for which load balancer.
type target struct {
	port uint16
	lb   string // UUID
}

// Memory is what one Build must tell the next. It is immutable.
type Memory struct {
	vmis map[string]*vmiMemory
}

type vmiMemory struct {
	attachment string        // label and addresses; another one is another attachment
	sent       []sentVersion // from the acknowledged one to the current one
	acked      map[portMapKey]target
	held       map[portMapKey]held
}

type sentVersion struct {
	version string
	maps    map[portMapKey]target
}

type held struct {
	target
	since time.Time
}

func (m *Memory) next() *Memory { return &Memory{vmis: map[string]*vmiMemory{}} }

// Awaited are the load balancers whose acknowledgement a port map waits for.
func (m *Memory) Awaited() map[Key]bool {
	out := map[Key]bool{}
	if m == nil {
		return out
	}
	for _, v := range m.vmis {
		for _, h := range v.held {
			out[loadBalancerKey(h.lb)] = true
		}
	}
	return out
}

func loadBalancerKey(uuid string) Key { return Key{southbound.Type_TYPE_LOAD_BALANCER, uuid} }

// hold are the port maps that no service wants any more and that must stay.
func (b *builder) hold(v *Interface, old *vmiMemory) map[portMapKey]held {
	out := map[portMapKey]held{}
	if old == nil || !v.Attached {
		return out
	}
	for k, t := range old.current() {
		if _, wanted := v.desired[k]; wanted {
			continue
		}
		h, holding := old.held[k]
		switch {
		case !holding:
			out[k] = held{t, b.in.Now}
		case !b.in.Settled[loadBalancerKey(h.lb)] && b.in.Now.Sub(h.since) < HoldTime:
			out[k] = h
		}
	}
	return out
}

func (m *vmiMemory) current() map[portMapKey]target {
	if m == nil || len(m.sent) == 0 {
		return nil
	}
	return m.sent[len(m.sent)-1].maps
}

// next remembers a version that is now sent, and what the agent acknowledges.
// An acknowledgement of a version nobody remembers (an agent that has just
// restarted) takes nothing back: the attachment and its port maps are the same.
func (m *vmiMemory) next(v *Interface, now sentVersion) *vmiMemory {
	n := &vmiMemory{attachment: attachment(v)}
	if m != nil {
		n.sent = slices.Clone(m.sent)
		if m.attachment == n.attachment {
			n.acked = m.acked
		}
	}
	if len(n.sent) == 0 || n.sent[len(n.sent)-1].version != now.version {
		n.sent = append(n.sent, now)
	}
	n.sent = n.sent[max(0, len(n.sent)-maxVersions):]
	if !v.Attached {
		n.acked = nil
		return n
	}
	for i, s := range n.sent {
		if s.version == v.AckedVersion {
			n.acked, n.sent = s.maps, n.sent[i:]
			break
		}
	}
	n.acked = maps.Clone(n.acked)
	for _, s := range n.sent { // a later version, which the agent may already be at, must have it too
		maps.DeleteFunc(n.acked, func(k portMapKey, t target) bool { return s.maps[k].port != t.port })
	}
	return n
}

func attachment(v *Interface) string {
	if !v.Attached {
		return ""
	}
	return fmt.Sprint(v.Label, v.Addresses)
}
