// Command vragent is the node's part of the virtual router: `run` is the agent,
// `fastpath` the data plane it starts, everything else is for operators. This file
// is wiring only.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	urfave "github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/cli"
	"github.com/vragent/vragent/agent/kernel"
	"github.com/vragent/vragent/agent/loop"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/fastpath/engine"
	"github.com/vragent/vragent/fastpath/forward/admit"
	"github.com/vragent/vragent/fastpath/link/steer"
)

var version = "dev" // set by the linker

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	app := cli.NewApp(version, runCommand(), fastpathCommand(), installCommand(), uninstallCommand())
	app.EnableBashCompletion = true
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "vragent:", err)
		os.Exit(1)
	}
}

func runCommand() *urfave.Command {
	return &urfave.Command{
		Name: "run", Usage: "run the agent of this node", Flags: []urfave.Flag{configFlag()},
		Action: func(c *urfave.Context) error {
			a, err := conf.LoadAgent(c.String("config"))
			if err != nil {
				return err
			}
			if err := findFabric(a); err != nil {
				return err
			}
			cfg := loop.Config{Agent: a, Version: version, Log: logger(a.Log)}
			if a.Fastpath.Start {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find this program: %w", err)
				}
				cfg.Command = []string{self, "fastpath", "--config", c.String("config")}
			}
			l, err := loop.New(cfg)
			if err != nil {
				return err
			}
			return l.Run(c.Context)
		},
	}
}

// findFabric names the interface that fabric.interface auto stands for.
func findFabric(a *conf.Agent) error {
	if a.Fabric.Interface != conf.FabricAuto {
		return nil
	}
	var ip netip.Addr
	if text := os.Getenv("NODE_IP"); text != "" {
		var err error
		if ip, err = netip.ParseAddr(text); err != nil {
			return fmt.Errorf("NODE_IP: %w", err)
		}
	}
	name, err := kernel.FabricInterface(ip)
	if err != nil {
		return err
	}
	a.Fabric.Interface = name
	if ip.Is4() && !a.Fabric.Address.IsValid() {
		a.Fabric.Address = ip
	}
	return nil
}

func configFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "config", Value: conf.AgentFile, EnvVars: []string{"VRAGENT_CONFIG"}, Usage: "`FILE` of settings"}
}

func fastpathCommand() *urfave.Command {
	return &urfave.Command{
		Name: "fastpath", Usage: "run the data plane (the agent starts it)", Flags: []urfave.Flag{configFlag()},
		Action: func(c *urfave.Context) error {
			a, err := conf.LoadAgent(c.String("config"))
			if err != nil {
				return err
			}
			f := a.Fastpath
			mode, err := admit.ParseMode(f.Offload)
			if err != nil {
				return err
			}
			return engine.Run(c.Context, engine.Config{
				Node: a.Node, Version: version, RunDir: a.RunDir, Workers: f.Workers, Cores: f.Cores, Busy: f.Poll == "busy",
				FlowEntries: f.FlowEntries, FlowEntries6: f.FlowEntries6, Frames: f.Frames, FabricXDP: a.Fabric.IO == "afxdp",
				Offload: mode, Attach: steer.Attach(f.Attach), Log: logger(a.Log),
			})
		},
	}
}

// logger writes to standard error, where the service manager keeps it.
func logger(l conf.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo // conf has checked it
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
