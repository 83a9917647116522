// Package converge turns every change of the cluster or of a node into new
// intents. The Loop owns the plan's memory; its Run is the only writer. It does
// not decide (controller/plan), read the cluster (controller/watch), write to it
// (controller/write) or speak to agents (controller/hub).
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
	Fresh() bool            // it is followed at this moment
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

// Store keeps what plans decide: the block leases, and in a cluster what is
// written to it.
type Store interface {
	// Leases are those that count: nobody else can get them any more.
	Leases() []plan.Lease
	// Keep makes it so, at once or soon; Changes tells.
	Keep(*plan.Output) error
	Problems() []plan.Problem
	Changes() <-chan struct{}
}

// DefaultSettle is how long a new controller waits for the nodes of its predecessor.
const DefaultSettle = 30 * time.Second

const (
	quiet    = 20 * time.Millisecond  // a burst of changes has ended
	maxBurst = 250 * time.Millisecond // or is cut short
	retry    = time.Second            // between attempts to keep what was decided
)

// Config is what a Loop is made of.
type Config struct {
	Plan   plan.Config
	Source Source
	Agents Agents
	Store  Store
	Settle time.Duration // 0: DefaultSettle
	Log    *slog.Logger
}

// View is what the last turn came to. It is immutable.
type View struct {
	Model    *plan.Model
	Cluster  *plan.Cluster // nil: not read yet
	Leases   []plan.Lease
	Ready    bool // the cluster was read as a whole
	Settling bool // peers, routes and load balancers are held back
}

// Loop is the controller's only decision maker.
type Loop struct {
	Config

	// Owned by Run
	memory   *plan.Memory
	returns  map[string]bool // nodes that held leases when the cluster was first known
	deadline time.Time       // for them; zero until the cluster is known
	settled  bool
	wake     time.Time // when to plan although nothing happens; zero: never
	audits   audits
	known    []plan.Problem
	noticed  []plan.Problem

	// Written by Run, read by anyone
	view atomic.Pointer[View]

	// Written by anyone, read by Run
	asked       chan struct{} // has a value when a turn is wanted now
	repairUntil atomic.Int64  // ns since 1970
}

// New prepares a Loop.
func New(c Config) *Loop {
	if c.Settle == 0 {
		c.Settle = DefaultSettle
	}
	l := &Loop{Config: c, asked: make(chan struct{}, 1)}
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
		if !l.wake.IsZero() {
			soon = time.After(time.Until(l.wake))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-soon:
		case <-l.asked:
		case <-l.Source.Changes():
			l.calm(ctx)
		case <-l.Agents.Changes():
			l.calm(ctx)
		case <-l.Store.Changes():
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
		case <-l.Store.Changes():
		}
	}
}

// turn is one pass: what is → what shall be.
func (l *Loop) turn(now time.Time) {
	l.wake = time.Time{}
	fresh := l.Source.Fresh() // before it is read, not after
	cluster := l.Source.Cluster()
	if cluster == nil {
		l.conclude(&View{Model: &plan.Model{Cluster: l.Plan.Cluster}}, l.Source.Problems())
		return
	}
	leases := l.Store.Leases()
	l.meet(leases, now)
	settled := l.Agents.Settled(l.memory.Awaited())
	reports := l.Agents.Reports()
	in := plan.Input{Config: l.Plan, Cluster: cluster, Leases: leases, Reports: reports, Memory: l.memory, Settled: settled, Now: now}
	out := plan.Build(in)
	l.memory = out.Memory
	l.wakeAt(out.Again)
	l.settle(now, cluster, reports, out.Unacknowledged)
	l.audit(out, in)
	problems := slices.Concat(l.Source.Problems(), l.keep(out, now), l.Store.Problems())
	out.Intents.Stale = !fresh
	l.Agents.Publish(out.Intents, l.closed()...)
	l.conclude(&View{Model: out.Model, Cluster: cluster, Leases: leases, Ready: true, Settling: !l.settled}, problems)
}

// meet is for the first turn that knows the cluster. Nodes that hold leases
// were served by a predecessor: they carry traffic on what it said.
func (l *Loop) meet(leases []plan.Lease, now time.Time) {
	if l.returns != nil {
		return
	}
	l.returns, l.deadline = map[string]bool{}, now.Add(l.Settle)
	for _, lease := range leases {
		l.returns[lease.Node] = true
	}
}

// keep hands over what was decided. What cannot be kept was not decided: the
// next turn decides anew.
func (l *Loop) keep(out *plan.Output, now time.Time) []plan.Problem {
	if err := l.Store.Keep(out); err != nil {
		l.wakeAt(now.Add(retry))
		return []plan.Problem{{Object: "State", Sentence: err.Error()}}
	}
	return nil
}

// wakeAt asks for a turn at that time, or before; the zero Time asks for none.
func (l *Loop) wakeAt(t time.Time) {
	if !t.IsZero() && (l.wake.IsZero() || t.Before(l.wake)) {
		l.wake = t
	}
}

// settle ends the time in which a new controller knows less than the nodes do:
// when those that its predecessor served have said all they have, or at the
// deadline.
func (l *Loop) settle(now time.Time, cluster *plan.Cluster, reports map[string]*plan.Report, unacknowledged int) {
	if l.settled {
		return
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
		l.wakeAt(l.deadline)
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
	problems, notices := l.findings()
	shown := *v.Model
	shown.Problems = slices.Concat(more, v.Model.Problems, problems)
	shown.Notices = slices.Concat(v.Model.Notices, notices)
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
