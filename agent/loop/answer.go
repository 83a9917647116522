package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

const (
	// bindTime is less than the plugin waits for an answer.
	bindTime = 8 * time.Second

	// detachTime bounds the wait until a pod is out of the fast path: DEL
	// succeeds also when there is none.
	detachTime = 2 * time.Second

	// attachMost bounds the wait for a pod's interface, whatever the plugin asks.
	attachMost = time.Minute
)

// Answer answers one request of the plugin or the CLI, from any goroutine.
func (l *Loop) Answer(ctx context.Context, q *rpc.Request) *rpc.Reply {
	switch {
	case q.Attach != nil:
		return l.ask(ctx, func(reply func(*rpc.Reply)) { l.attach(q.Attach, reply) })
	case q.Bind != nil:
		defer l.events.haste.Enter()()
		return l.ask(ctx, func(reply func(*rpc.Reply)) { l.bind(q.Bind, reply) })
	case q.Detach != nil:
		defer l.events.haste.Enter()()
		return l.ask(ctx, func(reply func(*rpc.Reply)) { l.detach(key(q.Detach.Attachment), reply) })
	case q.Check != nil:
		return l.check(ctx, q.Check)
	case q.GC != nil:
		return l.collect(ctx, q.GC)
	case q.Leaks != nil:
		return l.leaks(ctx, q.Leaks)
	case q.Ready != nil:
		return l.ask(ctx, func(reply func(*rpc.Reply)) { reply(&rpc.Reply{Error: l.ready(time.Now())}) })
	case q.Status != nil:
		return l.ask(ctx, func(reply func(*rpc.Reply)) { reply(&rpc.Reply{Status: l.status(time.Now())}) })
	case q.VMIs != nil:
		return l.ask(ctx, func(reply func(*rpc.Reply)) { reply(&rpc.Reply{VMIs: l.turn.node.VMIs()}) })
	case q.Blocks != nil:
		return l.ask(ctx, func(reply func(*rpc.Reply)) { reply(&rpc.Reply{Blocks: l.turn.node.Blocks()}) })
	}
	return refuse(&rpc.Error{Code: rpc.CodeInvalidConfig, Message: "the request says nothing this agent knows"})
}

func refuse(e *rpc.Error) *rpc.Reply { return &rpc.Reply{Error: e} }

func key(a rpc.Attachment) record.AttachmentKey {
	return record.AttachmentKey{ContainerID: a.ContainerID, Ifname: a.Ifname}
}

// ask runs f on the loop's goroutine and waits until it replies, once.
func (l *Loop) ask(ctx context.Context, f func(reply func(*rpc.Reply))) *rpc.Reply {
	answer := make(chan *rpc.Reply, 1)
	if l.events.call(ctx, func() { f(func(r *rpc.Reply) { answer <- r }) }) {
		select {
		case r := <-answer:
			return r
		case <-ctx.Done():
		case <-l.events.done:
		}
	}
	return refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: "the agent is stopping"})
}

// pendingAttach waits for what the controller has not said yet.
type pendingAttach struct {
	*rpc.Attach
	reply func(*rpc.Reply)
	until time.Time
}

// attach records a pod's interface, or waits until it can.
func (l *Loop) attach(q *rpc.Attach, reply func(*rpc.Reply)) {
	now := time.Now()
	p := &pendingAttach{q, reply, now.Add(min(q.Wait, attachMost))}
	if !l.tryAttach(p, now) {
		l.turn.pending = append(l.turn.pending, p)
	}
}

// retryAttaches comes with every turn: whatever turned the loop may be what
// somebody waits for.
func (l *Loop) retryAttaches(now time.Time) {
	l.turn.pending = slices.DeleteFunc(l.turn.pending, func(p *pendingAttach) bool { return l.tryAttach(p, now) })
}

// tryAttach reports whether p is over. It is answered when the ledger has it.
func (l *Loop) tryAttach(p *pendingAttach, now time.Time) bool {
	iface, refusal := l.turn.node.Attach(p.Attach, now)
	if refusal != nil {
		if refusal.Code == rpc.CodeTryAgain && now.Before(p.until) {
			return false
		}
		p.reply(refuse(l.explain(p.Attach, refusal, now)))
		return true
	}
	l.turn.replies = append(l.turn.replies, func(err error) {
		if err != nil {
			p.reply(refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: err.Error(), Fix: "make room for the ledger, or make it writable"}))
			return
		}
		l.log.Info("attached", "pod", p.Namespace+"/"+p.Pod, "tap", iface.Tap, "addresses", iface.Addrs)
		p.reply(&rpc.Reply{Interface: iface})
	})
	return true
}

// explain adds the controller's state to what waits for it: it is not there, has
// not said everything yet, or has and does not know the pod.
func (l *Loop) explain(q *rpc.Attach, refusal *rpc.Error, now time.Time) *rpc.Error {
	ok, sentence := l.controllerState(now)
	switch {
	case refusal.Code != rpc.CodeTryAgain:
	case !ok:
		refusal.Message += "; " + sentence
	case !l.turn.node.Expects(q.Namespace, q.Pod):
		refusal.Message += "; " + sentence + ", which knows of no such pod on this node"
	}
	return refusal
}

// bind puts a pod's tap into the fast path.
func (l *Loop) bind(q *rpc.Bind, reply func(*rpc.Reply)) {
	k := key(q.Attachment)
	if refusal := l.turn.node.Bind(k, q.Ifindex); refusal != nil {
		reply(refuse(refusal))
		return
	}
	l.turn.dirty = true
	l.mark(q.Ifindex, l.turn.node.Mark(k))
	l.after(waiter{deadline: time.Now().Add(bindTime), done: func(err error) {
		_, _, ifindex := l.turn.node.Find(k)
		switch {
		case err != nil:
			if h := l.fastpath.Health(); h.Err != "" {
				err = errors.New("the fast path: " + h.Err)
			}
			reply(refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: err.Error(), Fix: "see vragent status"}))
		case ifindex != q.Ifindex: // deleted meanwhile
			reply(refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: fmt.Sprintf("interface %d of %s is gone", q.Ifindex, k)}))
		default:
			reply(&rpc.Reply{})
		}
	}})
}

// detach forgets an attachment. The answer comes when it is out of the ledger,
// and out of the fast path if there is one.
func (l *Loop) detach(k record.AttachmentKey, reply func(*rpc.Reply)) {
	if !l.turn.node.Detach(k, time.Now()) {
		reply(&rpc.Reply{})
		return
	}
	l.turn.dirty = true
	l.log.Info("detached", "container", k.ContainerID, "ifname", k.Ifname)
	l.turn.replies = append(l.turn.replies, func(err error) {
		if err != nil {
			reply(refuse(&rpc.Error{Code: rpc.CodeTryAgain, Message: err.Error()}))
			return
		}
		l.after(waiter{deadline: time.Now().Add(detachTime), done: func(error) { reply(&rpc.Reply{}) }})
	})
}

// check compares the record with the live fast path.
func (l *Loop) check(ctx context.Context, q *rpc.Check) *rpc.Reply {
	k := key(q.Attachment)
	var vif table.VifID
	r := l.ask(ctx, func(reply func(*rpc.Reply)) {
		iface, id, _ := l.turn.node.Find(k)
		vif = id
		if refusal := l.turn.node.Lost(k); refusal != nil {
			reply(refuse(refusal))
			return
		}
		if iface == nil {
			reply(refuse(&rpc.Error{Code: rpc.CodeUnknownPod, Message: "the agent has no attachment " + k.String()}))
			return
		}
		reply(&rpc.Reply{Interface: iface})
	})
	if r.Error != nil {
		return r
	}
	live, err := l.fastpath.Ask(&control.Request{Vifs: &control.Empty{}})
	if err != nil {
		return refuse(&rpc.Error{Code: rpc.CodeChanged, Message: "the fast path does not answer: " + err.Error(), Fix: "see vragent status"})
	}
	at := slices.IndexFunc(live.Vifs, func(v control.VifStats) bool { return v.ID == vif && vif != 0 })
	switch {
	case at < 0:
		return refuse(&rpc.Error{Code: rpc.CodeChanged, Message: r.Interface.Tap + " is no vif of the live fast path"})
	case !live.Vifs[at].Attached && live.Vifs[at].Tap != (table.Tap{}):
		return refuse(&rpc.Error{Code: rpc.CodeChanged, Message: fmt.Sprintf(
			"vif %d of %s is in the tables, but the fast path has no queue of the pod's interface", vif, r.Interface.Tap)})
	case !live.Vifs[at].Attached:
		return refuse(&rpc.Error{Code: rpc.CodeChanged, Message: fmt.Sprintf(
			"vif %d of %s is in the tables, but its steering program (tcx or clsact) is gone from the interface", vif, r.Interface.Tap)})
	case live.Vifs[at].Ifindex != q.Ifindex:
		return refuse(&rpc.Error{Code: rpc.CodeChanged, Message: fmt.Sprintf(
			"vif %d of %s is attached to interface index %d, expected %d", vif, r.Interface.Tap, live.Vifs[at].Ifindex, q.Ifindex)})
	}
	return r
}

// collect removes the attachments of a network that are no longer valid, with
// their interfaces.
func (l *Loop) collect(ctx context.Context, q *rpc.GC) *rpc.Reply {
	stale := map[record.AttachmentKey]string{}
	if r := l.ask(ctx, func(reply func(*rpc.Reply)) { stale = l.turn.node.Invalid(q); reply(&rpc.Reply{}) }); r.Error != nil {
		return r
	}
	out := &rpc.Reply{}
	for k, tap := range stale {
		if err := kernel.DeleteTap(tap); err != nil {
			return refuse(&rpc.Error{Code: rpc.CodeInternal, Message: err.Error()})
		}
		if r := l.ask(ctx, func(reply func(*rpc.Reply)) { l.detach(k, reply) }); r.Error != nil {
			return r
		}
		out.Removed = append(out.Removed, k.String()+" ("+tap+")")
	}
	slices.Sort(out.Removed)
	return out
}

// status is the agent's health.
func (l *Loop) status(now time.Time) *rpc.Status {
	vmis, attached := l.turn.node.Counts()
	return &rpc.Status{
		Node: l.cfg.Node, PID: os.Getpid(), Version: l.cfg.Version, Started: l.started,
		Fabric: l.turn.fabric.Name, Address: l.turn.fabric.Address,
		Conditions: l.conditions(now), VMIs: vmis, Attached: attached,
		Controllers: l.upstream.links(), CertificateEnd: l.upstream.certificateEnd(), KubeProxyReplacement: l.cfg.KubeProxyReplacement,
	}
}
