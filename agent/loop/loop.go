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

	"github.com/vragent/vragent/agent/dial"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/ledger"
	"github.com/vragent/vragent/agent/record"
	"github.com/vragent/vragent/agent/serve"
	"github.com/vragent/vragent/conf"
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
	upstream *upstream
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
	l := &Loop{cfg: cfg, log: cfg.Log, started: time.Now(), ledger: book, events: newEvents(cfg.RunDir)}
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
	l.host = newHostKeeper(cfg, mtu, l.events.hostMoved, func() bool { return l.fastpath.Health().InSync })
	l.underlay = kernel.NewUnderlay(cfg.Fabric.Interface, cfg.Log)
	l.fastpath = dial.NewFastPath(dial.FastPathConfig{
		Node: cfg.Node, RunDir: cfg.RunDir, PuntOuter: steer.PuntOuter, PuntInner: steer.PuntInner,
		Prepare: l.preparePunt, Command: cfg.Command, LogFile: fastpathLog(cfg.Agent), Log: cfg.Log,
	})
	l.upstream = newUpstream(cfg, fabric.Address, l.have)
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
	if err := l.events.haste.Close(); err != nil {
		l.log.Warn("leaving", "error", err)
	}
	_ = l.ledger.Close()
}

func fastpathLog(a *conf.Agent) string {
	if a.Fastpath.Log != "" {
		return a.Fastpath.Log
	}
	return filepath.Join(a.RunDir, "fastpath.log")
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
		func() error { return l.host.checks.Run(ctx) },
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
