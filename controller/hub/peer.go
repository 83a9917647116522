package hub

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// peer is a node that has been heard of. What it announced outlives its
// stream: a stream that ends says nothing about packets.
type peer struct {
	report *plan.Report
	stream *stream   // nil: lost
	lost   time.Time // when the last stream ended; zero once all was said again
}

// served tells whether the agent takes its orders here.
func (p *peer) served() bool { return p.stream != nil && !p.stream.standby }

// owes tells whether a connected agent may not yet be where the last
// publication wants it. One that takes its orders from another controller
// acknowledges nothing here; that it has let go of a block is seen by its route.
func (p *peer) owes(k plan.Key) bool {
	switch {
	case p.stream == nil:
		return false
	case !p.stream.standby:
		return p.stream.out.owes(k)
	case k.Type == southbound.Type_TYPE_VMI:
		_, attached := p.report.VMIs[k.Name]
		return attached
	case k.Type != southbound.Type_TYPE_BLOCK:
		return true
	}
	for r := range p.report.Routes {
		if r.VRF+"/"+r.Prefix.String() == k.Name {
			return true
		}
	}
	return false
}

// synced ends a replay: what the agent did not say again is gone.
func (p *peer) synced(s said) {
	p.report = sweep(p.report, s)
	p.report.Stale, p.report.Synced = false, true
	p.lost = time.Time{}
}

// connect makes a stream the node's only one.
func (h *Hub) connect(s *stream, tunnel netip.Addr, version string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.peers[s.node]
	if p == nil {
		p = &peer{report: &plan.Report{Node: s.node}}
		h.peers[s.node] = p
	}
	if p.stream != nil {
		p.stream.end(errSuperseded)
		p.lost = time.Now()
	}
	p.stream = s
	p.report = p.report.Clone()
	p.report.Tunnel, p.report.Version, p.report.Synced = tunnel, version, false
	if h.intents != nil && !s.standby {
		s.out.update(h.intents, h.intents, nil)
		if _, known := h.intents.Nodes[s.node]; !known {
			h.log.Warn("agent connected, but its node is not in the cluster; it is told nothing until it is", "node", s.node)
		}
	}
	s.poke()
	h.log.Info("agent connected", "node", s.node, "remote", s.remote, "tunnel", tunnel, "version", version, "standby", s.standby)
	h.change()
}

// disconnect keeps what a node announced, marked stale.
func (h *Hub) disconnect(s *stream, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.peers[s.node]
	if p == nil || p.stream != s {
		return // superseded
	}
	p.stream = nil
	p.lost = time.Now()
	p.report = p.report.Clone()
	p.report.Stale, p.report.Synced = true, false
	h.log.Warn("agent lost; its routes are kept as stale", "node", s.node, "for", h.hold, "error", err)
	h.change()
}

// withdraw forgets what nodes announced that did not come back in time.
func (h *Hub) withdraw(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for node, p := range h.peers {
		if p.lost.IsZero() || now.Sub(p.lost) < h.hold {
			continue
		}
		if p.stream == nil {
			delete(h.peers, node)
			h.log.Warn("agent did not come back; its routes are withdrawn", "node", node)
		} else {
			p.report = sweep(p.report, p.stream.said)
			p.lost = time.Time{}
			h.log.Warn("agent came back but did not say all again; the rest is withdrawn", "node", node)
		}
		h.change()
	}
}

// Agent is the state of one node's stream, for people: connected; standby, when
// it takes its orders from another controller; replaying, until it has said all
// it has; stale, when the stream is lost; unknown, when the cluster has no such
// node.
type Agent struct {
	Node     string
	State    string
	Remote   string
	Since    time.Time // connected: since then; stale: lost then
	LastAck  time.Time
	Pending  int // resources that the agent has not acknowledged yet
	Report   *plan.Report
	Refusals []string
}

// Agents lists the nodes that have been heard of.
func (h *Hub) Agents() []Agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Agent, 0, len(h.peers))
	for node, p := range h.peers {
		a := Agent{Node: node, State: "stale", Since: p.lost, Report: p.report}
		if s := p.stream; s != nil {
			a.State, a.Remote, a.Since = "connected", s.remote, s.since
			switch {
			case h.intents != nil && h.intents.Nodes[node] == nil:
				a.State = "unknown"
			case !p.report.Synced:
				a.State = "replaying"
			case s.standby:
				a.State = "standby"
			}
			a.LastAck, a.Pending = s.lastAck, s.out.pending()
			for k, reason := range s.refused {
				a.Refusals = append(a.Refusals, fmt.Sprintf("%v %s: %s", k.Type, k.Name, reason))
			}
			slices.Sort(a.Refusals)
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Agent) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
