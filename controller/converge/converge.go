// Package converge turns every change of the cluster or of a node into new
// intents. The Loop owns the leases and the plan's memory; its Run is the only
// writer of both. It does not decide (controller/plan), read manifests
// (controller/watch) or speak to agents (controller/hub).
package converge

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vragent/vragent/controller/plan"
	"github.com/vragent/vragent/controller/southbound"
)

// Source is where the cluster's objects come from.
type Source interface {
	Cluster() *plan.Cluster // nil: not yet known as a whole
	Problems() []plan.Problem
	Changes() <-chan struct{}
}

// Agents are the nodes.
type Agents interface {
	Reports() map[string]*plan.Report
	Publish(in *plan.Intents, closed ...southbound.Type)
	Settled(keys map[plan.Key]bool) map[plan.Key]bool
	Changes() <-chan struct{}
}

// Store makes leases durable.
type Store interface {
	Save([]plan.Lease) error
}

// DefaultSettle is how long a new controller waits for the nodes of its predecessor.
const DefaultSettle = 30 * time.Second

const (
	quiet    = 20 * time.Millisecond  // a burst of changes has ended
	maxBurst = 250 * time.Millisecond // or is cut short
	again    = 200 * time.Millisecond // looks again while something waits
)

// Config is what a Loop is made of.
type Config struct {
	Plan   plan.Config
	Source Source
	Agents Agents
	Store  Store
	Leases []plan.Lease  // as Store has them
	Settle time.Duration // 0: DefaultSettle
	Log    *slog.Logger
}

// View is what the last turn came to. It is immutable.
type View struct {
	Model    *plan.Model
	Nodes    []plan.Node
	Leases   []plan.Lease
	Ready    bool // the cluster was read as a whole
	Settling bool // peers, routes and load balancers are held back
}

// Loop is the controller's only decision maker.
type Loop struct {
	Config

	// Owned by Run
	memory   *plan.Memory
	returns  map[string]bool // nodes that held leases at the start and have not come back
	deadline time.Time       // for them; zero until the cluster is known
	settled  bool
	unsaved  bool // leases could not be made durable
	waiting  bool // something has to be looked at again soon
	known    []plan.Problem
	noticed  []plan.Problem

	// Written by Run, read by anyone
	view atomic.Pointer[View]
}

// New prepares a Loop. Nodes that hold leases were served by a predecessor:
// they carry traffic on what it said.
func New(c Config) *Loop {
	if c.Settle == 0 {
		c.Settle = DefaultSettle
	}
	l := &Loop{Config: c, returns: map[string]bool{}}
	for _, lease := range c.Leases {
		l.returns[lease.Node] = true
	}
	l.view.Store(&View{Model: &plan.Model{Cluster: c.Plan.Cluster}})
	return l
}

// View is the outcome of the last turn.
func (l *Loop) View() *View { return l.view.Load() }

// Run plans after every change until the context ends.
func (l *Loop) Run(ctx context.Context) error {
	for {
		l.turn(time.Now())
		var soon <-chan time.Time
		if l.waiting {
			soon = time.After(again)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-soon:
		case <-l.Source.Changes():
			l.calm(ctx)
		case <-l.Agents.Changes():
			l.calm(ctx)
		}
	}
}

// calm lets a burst of changes end, so that it is planned once.
func (l *Loop) calm(ctx context.Context) {
	end := time.After(maxBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-time.After(quiet):
			return
		case <-l.Source.Changes():
		case <-l.Agents.Changes():
		}
	}
}

// turn is one pass: what is → what shall be.
func (l *Loop) turn(now time.Time) {
	cluster := l.Source.Cluster()
	if cluster == nil {
		l.conclude(&View{Model: &plan.Model{Cluster: l.Plan.Cluster}}, l.Source.Problems())
		return
	}
	settled := l.Agents.Settled(l.memory.Awaited())
	reports := l.Agents.Reports()
	problems := append(l.Source.Problems(), l.lease(cluster, reports)...)
	out := plan.Build(plan.Input{
		Config:  l.Plan,
		Cluster: cluster,
		Leases:  l.Leases,
		Reports: reports,
		Memory:  l.memory,
		Settled: settled,
		Now:     now,
	})
	l.memory = out.Memory
	l.settle(now, cluster, reports, out.Unacknowledged)
	l.Agents.Publish(out.Intents, l.closed()...)
	l.waiting = !l.settled || l.unsaved || len(l.memory.Awaited()) > 0
	l.conclude(&View{Model: out.Model, Nodes: cluster.Nodes, Leases: l.Leases, Ready: true, Settling: !l.settled}, problems)
}

// lease gives nodes the blocks they lack. A lease is on disk before anybody
// hears of it.
func (l *Loop) lease(cluster *plan.Cluster, reports map[string]*plan.Report) []plan.Problem {
	leases, problems := plan.Grow(l.Plan, cluster, l.Leases, reports)
	l.unsaved = false
	if slices.Equal(leases, l.Leases) {
		return problems
	}
	if err := l.Store.Save(leases); err != nil {
		l.unsaved = true
		return append(problems, plan.Problem{Object: "State", Sentence: err.Error()})
	}
	l.Leases = leases
	return problems
}

// settle ends the time in which a new controller knows less than the nodes do:
// when those that its predecessor served have said all they have, or at the
// deadline.
func (l *Loop) settle(now time.Time, cluster *plan.Cluster, reports map[string]*plan.Report, unacknowledged int) {
	if l.settled {
		return
	}
	if l.deadline.IsZero() {
		l.deadline = now.Add(l.Settle)
	}
	missing := []string{}
	for _, n := range cluster.Nodes {
		if r := reports[n.Name]; l.returns[n.Name] && (r == nil || !r.Synced) {
			missing = append(missing, n.Name)
		}
	}
	switch late := !now.Before(l.deadline); {
	case len(missing) == 0 && (unacknowledged == 0 || len(l.returns) == 0):
		if len(l.returns) > 0 {
			l.Log.Info("all nodes that a predecessor served have reported")
		}
	case late:
		l.Log.Warn("not all nodes have reported; going on without them", "nodes", missing, "unacknowledged", unacknowledged)
	default:
		return
	}
	l.settled = true
}

// closed are the types that would take something away from nodes as long as
// this controller does not know all that others have announced.
func (l *Loop) closed() []southbound.Type {
	if l.settled {
		return nil
	}
	return []southbound.Type{southbound.Type_TYPE_NODE, southbound.Type_TYPE_ROUTE, southbound.Type_TYPE_LOAD_BALANCER}
}

// conclude shows the outcome and logs what is newly wrong, or no longer.
func (l *Loop) conclude(v *View, more []plan.Problem) {
	shown := *v.Model
	shown.Problems = slices.Concat(more, v.Model.Problems)
	v.Model = &shown
	l.view.Store(v)
	for _, p := range shown.Problems {
		if !slices.Contains(l.known, p) {
			l.Log.Warn("problem", "object", p.Object, "problem", p.Sentence)
		}
	}
	for _, p := range l.known {
		if !slices.Contains(shown.Problems, p) {
			l.Log.Info("problem solved", "object", p.Object, "problem", p.Sentence)
		}
	}
	for _, n := range shown.Notices {
		if !slices.Contains(l.noticed, n) {
			l.Log.Warn("notice", "object", n.Object, "notice", n.Sentence)
		}
	}
	l.known, l.noticed = shown.Problems, shown.Notices
}
