package loop

import (
	"errors"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/table"
)

// progress follows states on their way into the fast path.
type progress struct {
	memory   *compile.Memory
	set      uint64   // version handed over last
	handed   []handed // oldest first; not all in the fast path yet
	next     []waiter // for the version that will be set next
	waiting  []waiter // for versions that were set
	problems []string // of the last compilation
}

// handed is a state that was handed over.
type handed struct {
	version  uint64
	announce compile.Announcement
	outside  compile.Outside
	host     int // index of the host's tap in it, 0: none
}

// waiter is told when a version is in the fast path, or that it took too long.
type waiter struct {
	version  uint64
	deadline time.Time // zero: none
	done     func(error)
}

var errSlow = errors.New("the fast path did not take the change in time")

// after lets w wait for everything that was changed up to now.
func (l *Loop) after(w waiter) {
	p := &l.turn.progress
	if l.turn.dirty {
		p.next = append(p.next, w)
		return
	}
	w.version = p.set
	p.waiting = append(p.waiting, w)
}

// program compiles the state and hands it over. While the fast path is busy
// with the one before, changes gather.
func (l *Loop) program(now time.Time) {
	t := &l.turn
	p := &t.progress
	if !l.recovered(now) || !t.dirty || l.fastpath.Acked() < p.set && l.fastpath.Health().InSync {
		return
	}
	t.node.IDs().SetTime(now)
	l.tellHost()
	in := l.input()
	out := compile.Compile(in, t.node.IDs(), p.memory)
	p.memory = out.Memory
	_ = l.commit() // new numbers
	p.set = l.fastpath.Set(&out.State)
	p.handed = append(p.handed, handed{p.set, out.Announce, out.Outside, hostTap(&out.State)})
	for _, w := range p.next {
		w.version = p.set
		p.waiting = append(p.waiting, w)
	}
	p.next = nil
	t.dirty = false
	if !slices.Equal(out.Problems, p.problems) {
		for _, sentence := range out.Problems {
			l.log.Warn("left out of the tables", "what", sentence)
		}
		p.problems = out.Problems
	}
}

// hostTap finds the index of the host's tap, 0 if it is not in the tables.
func hostTap(s *table.State) int {
	for i := range s.Vifs {
		if s.Vifs[i].Kind == table.VifHost {
			return s.Vifs[i].Ifindex
		}
	}
	return 0
}

// input is everything the tables are made of.
func (l *Loop) input() *compile.Input {
	t := &l.turn
	in := t.node.Input()
	in.Fabric, in.Underlay, in.NodePorts = t.fabric, t.underlay, l.cfg.KubeProxyReplacement
	if addrs, ok := t.node.Host(); ok && t.host != nil {
		h := *t.host
		h.Addrs = addrs
		in.Host = &h
	}
	return in
}

// acked announces what has arrived in the fast path and answers those who
// waited for it, or waited too long.
func (l *Loop) acked(now time.Time) {
	p := &l.turn.progress
	arrived := l.fastpath.Acked()
	for len(p.handed) > 0 && p.handed[0].version <= arrived {
		h := p.handed[0]
		p.handed = p.handed[1:]
		if len(p.handed) > 0 && p.handed[0].version <= arrived {
			continue // only the latest counts
		}
		l.announce(h)
	}
	p.waiting = release(p.waiting, func(w waiter) (bool, error) {
		return w.version <= arrived || expired(w, now), late(w.version > arrived)
	})
	p.next = release(p.next, func(w waiter) (bool, error) { return expired(w, now), errSlow })
}

func expired(w waiter, now time.Time) bool { return !w.deadline.IsZero() && now.After(w.deadline) }

func late(is bool) error {
	if is {
		return errSlow
	}
	return nil
}

// release tells the waiters that are over and returns the others.
func release(list []waiter, over func(waiter) (bool, error)) []waiter {
	var rest []waiter
	for _, w := range list {
		if is, err := over(w); is {
			w.done(err)
			continue
		}
		rest = append(rest, w)
	}
	return rest
}

// announce tells the controller what leads to this node now, lets the host's
// interface up once it is steered, and clients outside in.
func (l *Loop) announce(h handed) {
	l.host.arrived(h.host, h.outside)
	l.publish(&h.announce)
}

func (l *Loop) publish(a *compile.Announcement) {
	local := dial.NewLocal()
	local.Ready = true
	for uuid, v := range a.VMIs {
		local.VMIs[uuid] = &southbound.VMIStatus{
			Uuid: uuid, Addresses: texts(v.Addrs), ClusterAddresses: texts(v.ClusterAddrs), Mac: v.MAC.String(),
			Label: uint32(v.Label), Tap: v.Tap, PortMaps: wirePortMaps(v.PortMaps),
		}
	}
	for k, r := range a.Routes {
		local.Routes[dial.RouteKey{VRF: k.Network, Prefix: k.Prefix.String()}] = &southbound.LocalRoute{
			Vrf: k.Network, Prefix: k.Prefix.String(), Label: uint32(r.Label), Encapsulations: []string{"udp"}, Vmis: r.VMIs,
		}
	}
	for k, used := range a.Blocks {
		local.Blocks[dial.RouteKey{VRF: k.Network, Prefix: k.Prefix.String()}] = &southbound.BlockStatus{
			VirtualNetwork: k.Network, Prefix: k.Prefix.String(), Used: uint32(used),
		}
	}
	local.Host = &southbound.HostStatus{Addresses: texts(a.Host)}
	l.upstream.Publish(local)
}

func wirePortMaps(list []compile.PortMap) []*southbound.PortMap {
	out := make([]*southbound.PortMap, len(list))
	for i, m := range list {
		out[i] = &southbound.PortMap{Vip: m.VIP.String(), Protocol: uint32(m.Proto), Port: uint32(m.Port), Target: uint32(m.Target)}
	}
	return out
}

func texts[T interface{ String() string }](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}
