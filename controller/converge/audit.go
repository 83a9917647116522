package converge

import (
	"slices"
	"time"

	"github.com/vragent/vragent/controller/audit"
	"github.com/vragent/vragent/controller/plan"
)

// auditEvery is the least time between two audits. What only one of them finds
// was on its way: nodes and pods do not speak at once.
const auditEvery = time.Minute

// repairFor is how long leases are given back after they were asked for.
const repairFor = 30 * time.Second

// audits is the Loop's memory of them.
type audits struct {
	last  time.Time
	found []audit.Finding // of the last one
	sure  []audit.Finding // of the last two
}

// Audit looks now, at what the last turn saw. Nothing is known before the first.
func (l *Loop) Audit() []audit.Finding {
	v := l.View()
	if v.Cluster == nil {
		return nil
	}
	return audit.Check(audit.Input{Cluster: v.Cluster, Leases: v.Leases, Reports: l.Agents.Reports(), Model: v.Model})
}

// Repair asks the next turns to give back what an audit says is of no use.
func (l *Loop) Repair() {
	l.repairUntil.Store(time.Now().Add(repairFor).UnixNano())
	select {
	case l.asked <- struct{}{}:
	default: // one is already waiting: it covers this one too
	}
}

// audit looks when its time has come, and once more if something was found.
func (l *Loop) audit(out *plan.Output, in plan.Input) {
	repairing := in.Now.UnixNano() < l.repairUntil.Load()
	if !l.settled || in.Now.Before(l.audits.last.Add(auditEvery)) && !repairing {
		if l.settled {
			l.wakeAt(l.audits.last.Add(auditEvery))
		}
		return
	}
	found := audit.Check(audit.Input{Cluster: in.Cluster, Leases: in.Leases, Reports: in.Reports, Model: out.Model})
	if repairing {
		for _, f := range found {
			out.Leases.Delete = append(out.Leases.Delete, missing(f.Release, out.Leases.Delete)...)
		}
	}
	if in.Now.Before(l.audits.last.Add(auditEvery)) {
		return
	}
	same := func(f audit.Finding) func(audit.Finding) bool {
		return func(o audit.Finding) bool { return o.Object == f.Object && o.Sentence == f.Sentence }
	}
	l.audits.sure = nil
	for _, f := range found {
		if slices.ContainsFunc(l.audits.found, same(f)) {
			l.audits.sure = append(l.audits.sure, f)
		} else {
			l.wakeAt(in.Now.Add(auditEvery))
		}
	}
	l.audits.found, l.audits.last = found, in.Now
}

func missing(in, from []plan.Lease) []plan.Lease {
	return slices.DeleteFunc(slices.Clone(in), func(l plan.Lease) bool { return slices.Contains(from, l) })
}

// findings are shown with the problems; leaks, which harm no packet, with the notices.
func (l *Loop) findings() (problems, notices []plan.Problem) {
	for _, f := range l.audits.sure {
		p := plan.Problem{Object: f.Object, Sentence: f.Sentence + " (" + f.Fix + ")"}
		if f.Leak {
			notices = append(notices, p)
		} else {
			problems = append(problems, p)
		}
	}
	return problems, notices
}
