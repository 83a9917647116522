package loop

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/controller/southbound"
)

// health is what conditions are made of, beside what can be asked at any time.
type health struct {
	ledger string // why it could not be written last; empty: it could
	fabric string // likewise: the fabric interface
	since  map[string]change
	next   time.Time // when to look again
}

// change is when a condition became what it is.
type change struct {
	ok bool
	at time.Time
}

func newHealth() health { return health{since: map[string]change{}} }

// controllerGrace is how long a node without its controller counts as whole:
// everything goes on with what is known, only new pods have to wait.
const controllerGrace = 120 * time.Second

// conditions are the lines of the node's health.
func (l *Loop) conditions(now time.Time) []rpc.Condition {
	return []rpc.Condition{
		l.condition("fastpath", now, l.fastpathState, "see the log of the fast path, "+fastpathLog(l.cfg.Agent)),
		l.condition("controller", now, func() (bool, string) { return l.controllerState(now) }, "is vrcontroller running and reachable? Does it know this node?"),
		l.condition("certificate", now, func() (bool, string) { return l.upstream.identity(now) }, l.upstream.identityFix()),
		l.condition("ledger", now, l.ledgerState, "make room, or make "+l.cfg.StateDir+" writable"),
		l.condition("blocks", now, l.blocksState, "widen the pod subnets, or delete pods"),
		l.condition("host", now, l.host.health, "see the agent's log; it tries again every few seconds"),
		l.condition("forwarding", now, l.forwardingState, "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"),
		l.condition("fabric", now, l.fabricState, "bring the interface back, with its address"),
	}
}

// healthEvery is how often conditions are looked at when nobody asks.
const healthEvery = 5 * time.Second

// checkHealth notes, and logs, what changed.
func (l *Loop) checkHealth(now time.Time) {
	if now.Before(l.turn.health.next) {
		return
	}
	l.turn.health.next = now.Add(healthEvery)
	l.lookAtFabric()
	l.conditions(now)
}

// condition evaluates one and notes when it changed.
func (l *Loop) condition(name string, now time.Time, look func() (bool, string), fix string) rpc.Condition {
	ok, sentence := look()
	was, known := l.turn.health.since[name]
	if !known || was.ok != ok {
		was = change{ok, now}
		l.turn.health.since[name] = was
		level := slog.LevelInfo
		if known && !ok {
			level = slog.LevelWarn
		}
		l.log.Log(context.Background(), level, "condition", "name", name, "ok", ok, "message", sentence)
	}
	c := rpc.Condition{Name: name, OK: ok, Since: was.at, Message: sentence}
	if !ok {
		c.Fix = fix
	}
	return c
}

// ready says why a pod could not be attached well now; nil: it could.
func (l *Loop) ready(now time.Time) *rpc.Error {
	var wrong, fixes []string
	for _, c := range l.conditions(now) {
		if c.OK || c.Name == "certificate" || c.Name == "controller" && now.Sub(c.Since) < controllerGrace {
			continue
		}
		wrong = append(wrong, c.Name+": "+c.Message)
		fixes = append(fixes, c.Fix)
	}
	if len(wrong) == 0 {
		return nil
	}
	return &rpc.Error{Code: rpc.CodeDegraded, Message: strings.Join(wrong, "; "), Fix: strings.Join(fixes, "; ")}
}

func (l *Loop) fastpathState() (bool, string) {
	h := l.fastpath.Health()
	if !h.InSync {
		return false, h.Err
	}
	return true, fmt.Sprintf("process %d, %d workers, in sync", h.PID, h.Workers)
}

// needed are the types without which no pod can be attached.
var needed = []southbound.Type{
	southbound.Type_TYPE_NODE, southbound.Type_TYPE_VIRTUAL_NETWORK, southbound.Type_TYPE_BLOCK, southbound.Type_TYPE_VMI,
}

func (l *Loop) controllerState(now time.Time) (bool, string) {
	link := l.upstream.Link()
	if !link.Connected {
		return false, fmt.Sprintf("no controller for %s: %s", now.Sub(link.Since).Round(time.Second), link.Err)
	}
	for _, kind := range needed {
		if !l.turn.sync.types[kind] {
			return false, "connected to " + link.Address + ", which has not said everything yet"
		}
	}
	return true, "connected to " + link.Address
}

func (l *Loop) ledgerState() (bool, string) {
	if l.turn.health.ledger != "" {
		return false, l.turn.health.ledger
	}
	return true, "written"
}

func (l *Loop) blocksState() (bool, string) {
	blocks := l.turn.node.Blocks()
	if len(blocks) == 0 {
		return false, "no block of addresses is leased to this node yet"
	}
	missing, others := l.turn.node.Exhausted()
	if len(missing) > 0 {
		return false, strings.Join(missing, "; ")
	}
	free := 0
	for _, b := range blocks {
		free += b.Free
	}
	// What one tenant's network lacks does not make the node unfit for the others.
	sentences := append([]string{fmt.Sprintf("%d blocks, %d addresses free", len(blocks), free)}, others...)
	return true, strings.Join(sentences, "; ")
}

func (l *Loop) forwardingState() (bool, string) {
	v4, v6, err := kernel.Forwarding()
	if err != nil {
		return false, err.Error()
	}
	pods, _ := l.turn.node.Subnets()
	for _, p := range pods {
		switch {
		case p.Addr().Is4() && !v4:
			return false, "net.ipv4.ip_forward is 0: pods reach nothing outside of the cluster"
		case p.Addr().Is6() && !v6:
			return false, "net.ipv6.conf.all.forwarding is 0: pods reach nothing outside of the cluster over IPv6"
		}
	}
	return true, "the kernel forwards"
}

func (l *Loop) fabricState() (bool, string) {
	if l.turn.health.fabric != "" {
		return false, l.turn.health.fabric
	}
	return true, fmt.Sprintf("%s, MTU %d", l.turn.fabric.Name, l.turn.fabric.MTU)
}
