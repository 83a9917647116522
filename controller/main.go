// Command vrcontroller turns Kubernetes objects into virtual networks, load
// balancers and routes, and tells every node's agent what it needs. This file
// is wiring only: who runs, and who is told what by whom.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/controller/api"
	"github.com/vragent/vragent/controller/cli"
	"github.com/vragent/vragent/controller/converge"
	"github.com/vragent/vragent/controller/hub"
	"github.com/vragent/vragent/controller/write"
)

var version = "dev" // set by the linker

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	write.Quiet()
	app := cli.App(cli.Program{Version: version, Run: run, Out: os.Stdout})
	if err := app.RunContext(ctx, os.Args); err != nil {
		if text := err.Error(); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		os.Exit(cli.ExitCode(err))
	}
}

func run(ctx context.Context, c *conf.Controller) error {
	return serve(ctx, c, func(string, string) {})
}

// serve is the controller: cluster → plan → agents, and a window onto it. It
// says where it listens once it does.
func serve(ctx context.Context, c *conf.Controller, listening func(southbound, api string)) error {
	log := logger(c.Log)
	p, err := assemble(ctx, c, log)
	if err != nil {
		return err
	}
	defer p.close()
	agents, err := hub.New(hub.Config{TLS: p.tls, Enroll: p.enroll, Log: log})
	if err != nil {
		return err
	}
	southbound, err := net.Listen("tcp", c.Listen.Southbound)
	if err != nil {
		return fmt.Errorf("listen for agents: %w", err)
	}
	defer southbound.Close()
	rest, err := net.Listen("tcp", c.Listen.API)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	defer rest.Close()

	loop := converge.New(converge.Config{Plan: cli.Plan(c), Source: p.source, Agents: agents, Store: p.store, Log: log})
	window := &window{config: c, loop: loop, agents: agents, cluster: p.cluster}
	server := api.New(api.Config{
		Model: window.model, Leases: window.leases, Status: window.status, Ready: window.ready,
		IPAM: window.ipam, Repair: window.repair, Log: log,
	})
	log.Info("vrcontroller runs", "version", version, "cluster", c.Cluster,
		"southbound", southbound.Addr(), "api", rest.Addr(), "source", c.Source)
	listening(southbound.Addr().String(), rest.Addr().String())
	return together(ctx, append(p.runs,
		loop.Run,
		func(ctx context.Context) error { return agents.Run(ctx, southbound) },
		func(ctx context.Context) error { return server.Run(ctx, rest) },
	)...)
}

func assemble(ctx context.Context, c *conf.Controller, log *slog.Logger) (*parts, error) {
	if c.Source == conf.SourceKubernetes {
		return kubernetes(ctx, c, log)
	}
	return manifests(c, log)
}

// together runs all until the context ends or one fails, and waits for all.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(runs))
	var wait sync.WaitGroup
	for i, run := range runs {
		wait.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func logger(c conf.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // conf has checked it
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
