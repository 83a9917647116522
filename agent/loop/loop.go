// Package loop joins the parts of an agent: what the plugin, the controllers, the
// kernel and the fast path say changes the node's state, what must last goes into
// the ledger, and the state is compiled and handed to the fast path. Run's
// goroutine owns the node's state; everything else reaches it by channel. It
// decides nothing about addresses or tables: see agent/state and agent/compile.
package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vragent/vragent/agent/compile"
	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/ledger"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/serve"
	"github.com/vragent/vragent/agent/state"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/fastpath/control"
	"github.com/vragent/vragent/fastpath/link/steer"
	"github.com/vragent/vragent/fastpath/packet"
)

// Config is what an agent is started with.
type Config struct {
	*conf.Agent
	Version string   // of the program
	Command []string // starts a fast path; empty: only adopt one
	Log     *slog.Logger
}

// Loop is an agent.
type Loop struct {
	// Set once by New.
	cfg      Config
	log      *slog.Logger
	started  time.Time
	ledger   *ledger.Ledger
	server   *serve.Server
	claim    io.Closer // of the node
	fastpath *dial.FastPath
	upstream *dial.Southbound
	underlay *kernel.Underlay
	host     *hostKeeper
	events   events

	// Owned by Run's goroutine.
	turn turn
}

// New prepares an agent: it opens the ledger, makes the links the fast path
// needs and finds the pods that are there. Nothing of it interrupts packets.
func New(cfg Config) (*Loop, error) {
	book, contents, err := ledger.Open(cfg.StateDir, cfg.Node)
	if err != nil {
		return nil, err
	}
	l := &Loop{cfg: cfg, log: cfg.Log, started: time.Now(), ledger: book, events: newEvents()}
	if err := l.prepare(contents); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *Loop) prepare(contents *record.Contents) (err error) {
	cfg := l.cfg
	// Before anything is touched that another agent may be using.
	if l.claim, err = serve.Claim(); err != nil {
		return err
	}
	if l.server, err = serve.Listen(cfg.RunDir, cfg.Log); err != nil {
		return err
	}
	fabric, err := kernel.FindFabric(cfg.Fabric.Interface, cfg.Fabric.Address)
	if err != nil {
		return err
	}
	mtu := cfg.MTU
	if mtu == 0 {
		mtu = fabric.MTU - packet.TunnelLen
	}
	l.host = newHostKeeper(cfg, mtu, l.events.hostMoved)
	l.underlay = kernel.NewUnderlay(cfg.Fabric.Interface, cfg.Log)
	l.fastpath = dial.NewFastPath(dial.FastPathConfig{
		Node: cfg.Node, RunDir: cfg.RunDir, PuntOuter: steer.PuntOuter, PuntInner: steer.PuntInner,
		Prepare: l.preparePunt, Command: cfg.Command, LogFile: fastpathLog(cfg.Agent), Log: cfg.Log,
	})
	l.upstream = dial.NewSouthbound(dial.SouthboundConfig{
		Node: cfg.Node, Version: cfg.Version, Address: fabric.Address.String(), Addresses: cfg.Controller.Addresses,
		CA: cfg.Controller.CA, Cert: cfg.Controller.Cert, Key: cfg.Controller.Key, Log: cfg.Log,
	}, l.have)
	return l.restore(contents, fabric, mtu)
}

// close gives back what New took.
func (l *Loop) close() {
	if l.server != nil {
		_ = l.server.Close()
	}
	if l.claim != nil {
		_ = l.claim.Close()
	}
	_ = l.ledger.Close()
}

func fastpathLog(a *conf.Agent) string {
	if a.Fastpath.Log != "" {
		return a.Fastpath.Log
	}
	return filepath.Join(a.RunDir, "fastpath.log")
}

// restore makes the node's state of what the ledger, the kernel and a fast path
// that still runs remember.
func (l *Loop) restore(contents *record.Contents, fabric compile.Fabric, mtu int) error {
	now := time.Now()
	node, forgotten, err := state.New(l.cfg.Node, mtu, contents, now)
	if err != nil {
		return err
	}
	for _, what := range forgotten {
		l.log.Warn("a resource in the ledger cannot be read; the controller will say it again", "resource", what)
	}
	l.turn = newTurn(node, fabric)
	if err := l.adoptFastPath(); err != nil {
		return err
	}
	if err := kernel.EnableForwarding(); err != nil {
		l.log.Warn("the kernel does not forward between interfaces; pods will not reach the outside", "error", err)
	}
	l.tellHost()
	if err := l.host.apply(l.host.wanted()); err != nil {
		return err
	}
	l.turn.host = l.host.facts()
	taps, err := kernel.Taps()
	if err != nil {
		return err
	}
	adopted, released := node.Adopt(taps, now)
	for _, key := range released {
		l.log.Info("released: its interface is gone", "container", key.ContainerID, "ifname", key.Ifname)
	}
	l.log.Info("agent starts", "node", l.cfg.Node, "fabric", fabric.Name, "address", fabric.Address, "mtu", mtu, "pods", adopted)
	return l.commit()
}

// adoptFastPath makes the punt link, with as many queues as a fast path that
// runs already has workers, and learns where it has the members of composites.
func (l *Loop) adoptFastPath() error {
	workers := l.cfg.Fastpath.Workers
	if r, err := l.fastpath.Ask(&control.Request{Status: &control.Empty{}}); err == nil && r.Status != nil {
		if n := len(r.Status.Workers); n > 0 && n != workers {
			l.log.Warn("the fast path runs with another number of workers until it is restarted", "has", n, "wanted", workers)
			workers = n
		}
		if r, err := l.fastpath.Ask(&control.Request{Tables: &control.Empty{}}); err == nil && r.Tables != nil {
			l.turn.progress.memory = compile.Recall(r.Tables)
			l.underlay.Recall(compile.Neighbours(r.Tables))
		}
	}
	return l.ensurePunt(workers)
}

// preparePunt makes the punt link as the next fast path wants it: none runs now.
func (l *Loop) preparePunt() error { return l.ensurePunt(l.cfg.Fastpath.Workers) }

func (l *Loop) ensurePunt(workers int) error {
	recreated, err := kernel.EnsurePunt(workers)
	if recreated {
		l.log.Warn("punt link made anew: it had another number of queues", "workers", workers)
	}
	return err
}

// Run works until ctx is done. It leaves the fast path running.
func (l *Loop) Run(ctx context.Context) error {
	defer l.close()
	g, ctx := errgroup.WithContext(ctx)
	links, spool := kernel.NewLinks(l.log), serve.NewSpool(l.cfg.RunDir, l.log)
	for _, part := range []func() error{
		func() error { return l.fastpath.Run(ctx, l.events.poke) },
		func() error { return l.upstream.Run(ctx) },
		func() error { return l.underlay.Run(ctx, l.events.underlayMoved) },
		func() error {
			return links.Run(ctx, func(i int) { l.events.linkGone(ctx, i) }, l.events.linksLost)
		},
		func() error { return l.host.Run(ctx) },
		func() error { return l.turns(ctx) },
		func() error { return l.server.Run(ctx, l) },
		func() error { return spool.Run(ctx, l) },
	} {
		g.Go(part)
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}
