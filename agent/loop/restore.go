package loop

import (
	"slices"
	"time"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/state"
	"github.com/vragent/vragent/controller/southbound"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/table"
)

// restore makes the node's state of what the ledger, the kernel and a fast path
// that still runs remember.
func (l *Loop) restore(contents *record.Contents, fabric compile.Fabric, mtu int) error {
	now := time.Now()
	tables, err := l.adoptFastPath()
	if err != nil {
		return err
	}
	if contents.Found, err = l.find(contents, tables); err != nil {
		return err
	}
	node, forgotten, err := state.New(l.cfg.Node, mtu, contents, now)
	if err != nil {
		return err
	}
	node.SetIO(l.cfg.IO)
	for _, what := range forgotten {
		l.log.Warn("a resource in the ledger cannot be read; the controller will say it again", "resource", what)
	}
	l.turn = newTurn(node, fabric)
	if tables != nil {
		l.turn.progress.memory = compile.Recall(tables)
		l.underlay.Recall(compile.Neighbours(tables))
	}
	l.turn.lost = node.CountLost() > 0 || len(contents.Resources) == 0 && tables != nil && len(tables.VRFs) > 0
	if err := kernel.EnableForwarding(l.cfg.RunDir); err != nil {
		l.log.Warn("the kernel does not forward between interfaces; pods will not reach the outside", "error", err)
	}
	l.tellHost()
	if err := l.host.apply(l.host.wanted()); err != nil {
		return err
	}
	l.turn.host = l.host.facts()
	return l.adoptTaps(now, "fabric", fabric.Name, "address", fabric.Address, "mtu", mtu)
}

// adoptTaps finds the pods that are there, and marks their taps.
func (l *Loop) adoptTaps(now time.Time, about ...any) error {
	taps, err := kernel.Taps()
	if err != nil {
		return err
	}
	adopted, released := l.turn.node.Adopt(taps, now)
	for _, key := range released {
		l.log.Info("released: its interface is gone", "container", key.ContainerID, "ifname", key.Ifname)
	}
	for ifindex, m := range l.turn.node.Marks() {
		l.mark(ifindex, m)
	}
	l.log.Info("agent starts", append([]any{"node", l.cfg.Node, "pods", adopted, "lost", l.turn.node.CountLost()}, about...)...)
	return l.commit()
}

// mark writes on a tap whose it is, should the ledger be lost.
func (l *Loop) mark(ifindex int, m *record.Mark) {
	text, ok := m.String()
	if !ok {
		l.log.Warn("a mark is too long for its interface; without the ledger it will be unknown", "container", m.ContainerID)
		return
	}
	if err := kernel.SetMark(ifindex, text); err != nil {
		l.log.Warn("an interface cannot be marked; without the ledger it will be unknown", "container", m.ContainerID, "error", err)
	}
}

// adoptFastPath makes the punt link, with as many queues as a fast path that
// runs already has workers, and returns its tables; nil: none runs.
func (l *Loop) adoptFastPath() (tables *table.State, err error) {
	workers := l.cfg.Fastpath.Workers
	if r, err := l.fastpath.Ask(&control.Request{Status: &control.Empty{}}); err == nil && r.Status != nil {
		if n := len(r.Status.Workers); n > 0 && n != workers {
			l.log.Warn("the fast path runs with another number of workers until it is restarted", "has", n, "wanted", workers)
			workers = n
		}
		if r, err := l.fastpath.Ask(&control.Request{Tables: &control.Empty{}}); err == nil {
			tables = r.Tables
		}
	}
	return tables, l.ensurePunt(workers)
}

// find looks for what the ledger should know and does not.
func (l *Loop) find(contents *record.Contents, tables *table.State) (found record.Found, err error) {
	marks, err := kernel.Marks()
	if err != nil {
		return found, err
	}
	known := map[record.AttachmentKey]bool{}
	for i := range contents.Attachments {
		known[contents.Attachments[i].Key()] = true
	}
	vifs := map[string]*table.Vif{}
	if tables != nil {
		for i := range tables.Vifs {
			vifs[tables.Vifs[i].Name] = &tables.Vifs[i]
		}
	}
	pods := map[string]record.Mark{}
	for tap, k := range marks {
		m, ok := record.ParseMark(k.Alias)
		if !ok {
			continue
		}
		pods[tap] = *m
		if known[m.AttachmentKey] {
			continue
		}
		if v := vifs[tap]; len(m.Addrs) == 0 && v != nil { // of an agent that did not mark
			m.VMI, m.Addrs, m.ClusterAddrs = v.VMI, v.Addrs, v.ClusterAddrs
		}
		if len(m.Addrs) == 0 {
			l.log.Error("a pod's interface says nothing of its addresses, and nobody else does: they may be given to another pod; delete this one", "tap", tap, "container", m.ContainerID)
			continue
		}
		found.Lost = append(found.Lost, record.Lost{Mark: *m, Tap: tap, Ifindex: k.Ifindex, MTU: k.MTU})
	}
	if len(contents.Hosts) == 0 {
		if found.Host, err = kernel.HostAddrs(l.cfg.Host.Interface); err != nil {
			return found, err
		}
	}
	if len(contents.IDs) == 0 && tables != nil {
		found.IDs = compile.RecallIDs(tables, pods)
	}
	return found, nil
}

// recoverTime bounds how long a node that knows some of its pods waits for the
// controller to say the others.
const recoverTime = time.Minute

// recovered says whether the fast path may be programmed. After a loss of the
// ledger it may not before the controller has said everything: it forwards for
// pods this agent does not know yet.
func (l *Loop) recovered(now time.Time) bool {
	t := &l.turn
	if !t.lost {
		return true
	}
	pods := l.saidAll(southbound.Type_TYPE_VIRTUAL_NETWORK, southbound.Type_TYPE_BLOCK, southbound.Type_TYPE_VMI)
	rest := l.saidAll(southbound.Type_TYPE_NODE, southbound.Type_TYPE_LOAD_BALANCER, southbound.Type_TYPE_ROUTE)
	if pods && !t.foretold {
		t.foretold = true
		l.foretell(now)
	}
	_, some := t.node.Host()
	if !(pods && rest) && (!some || now.Before(l.started.Add(recoverTime))) {
		return false
	}
	t.lost = false
	l.underlay.SetPeers(t.node.Peers())
	l.log.Info("the ledger is whole again", "pods that nobody knows", t.node.CountLost())
	return true
}

func (l *Loop) saidAll(kinds ...southbound.Type) bool {
	return !slices.ContainsFunc(kinds, func(k southbound.Type) bool { return !l.turn.sync.types[k] })
}

// foretell announces the pods that the fast path goes on serving. A controller
// that has just begun says nothing of others before it has heard its nodes.
func (l *Loop) foretell(now time.Time) {
	t := &l.turn
	t.node.IDs().SetTime(now)
	out := compile.Compile(l.input(), t.node.IDs().Clone(), t.progress.memory)
	l.publish(&out.Announce)
}
