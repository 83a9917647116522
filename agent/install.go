package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	urfave "github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/enroll"
	"github.com/vragent/vragent/agent/install"
	"github.com/vragent/vragent/agent/ledger"
	"github.com/vragent/vragent/agent/loop"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/conf"
	"github.com/vragent/vragent/fastpath/control"
)

// cniFlags say where a runtime looks; an install container sees the host's
// folders elsewhere.
func cniFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "cni-bin-dir", Value: install.BinDir, EnvVars: []string{"VRAGENT_CNI_BIN_DIR"}, Usage: "`DIR` of CNI plugins"},
		&urfave.StringFlag{Name: "cni-conf-dir", Value: install.ConfDir, EnvVars: []string{"VRAGENT_CNI_CONF_DIR"}, Usage: "`DIR` of CNI configurations"},
		&urfave.StringFlag{Name: "conflist", Value: "/etc/vragent/10-vrouter.conflist", EnvVars: []string{"VRAGENT_CONFLIST"}, Usage: "`FILE` to install under its own name"},
	}
}

func cniFiles(c *urfave.Context) install.Files {
	return install.Files{
		Plugin: c.String("plugin"), BinDir: c.String("cni-bin-dir"), Conflist: c.String("conflist"), ConfDir: c.String("cni-conf-dir"),
	}
}

func installCommand() *urfave.Command {
	return &urfave.Command{
		Name: "install", Usage: "give the container runtime the plugin and, last, the conflist",
		Flags: append(cniFlags(), &urfave.StringFlag{Name: "plugin", Value: "/usr/local/bin/vrouter", Usage: "`FILE` to copy; empty: it is in place"}),
		Action: func(c *urfave.Context) error {
			r, err := cniFiles(c).Install()
			if err != nil {
				return err
			}
			report(logger(conf.Log{Level: "info", Format: "text"}), "installed", r)
			return nil
		},
	}
}

func uninstallCommand() *urfave.Command {
	return &urfave.Command{
		Name: "uninstall", Usage: "take away what the agent made in this node's kernel; pods lose their network",
		Flags: append(cniFlags(), configFlag(),
			&urfave.BoolFlag{Name: "cni", Usage: "first of all the conflist and the plugin", DisableDefaultText: true},
			&urfave.BoolFlag{Name: "purge", Usage: "at last what is remembered of pods, and this node's certificate", DisableDefaultText: true},
			&urfave.BoolFlag{Name: "stay", Usage: "do not end before a signal comes, as pods of a DaemonSet must not", DisableDefaultText: true},
		),
		Action: func(c *urfave.Context) error {
			a, err := conf.LoadAgent(c.String("config"))
			if err != nil {
				return err
			}
			log := logger(a.Log)
			if c.Bool("cni") {
				r, err := cniFiles(c).Uninstall()
				if err != nil {
					return err
				}
				report(log, "removed", r)
			}
			if err := loop.Uninstall(a, log); err != nil {
				return err
			}
			if c.Bool("purge") {
				if err := purge(a); err != nil {
					return err
				}
			}
			if c.Bool("stay") {
				<-c.Context.Done()
			}
			return nil
		},
	}
}

func report(log *slog.Logger, what string, r *install.Result) {
	for _, file := range r.Changed {
		log.Info(what, "file", file)
	}
	if len(r.Changed) == 0 {
		log.Info("everything is as it should be already")
	}
	if r.Warning != "" {
		log.Warn(r.Warning)
	}
}

// purge removes our files from the state directory and what killed processes and
// plugins left in the run directory, and the directories when they are empty.
func purge(a *conf.Agent) error {
	for _, file := range []string{
		filepath.Join(a.StateDir, ledger.FileName), filepath.Join(a.StateDir, enroll.FileName),
		filepath.Join(a.RunDir, rpc.SocketName), filepath.Join(a.RunDir, control.SocketName), filepath.Join(a.RunDir, "detach"),
	} {
		if err := os.RemoveAll(file); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	for _, dir := range []string{a.StateDir, a.RunDir} {
		_ = os.Remove(dir) // it may hold what is somebody else's, or be a mount
	}
	return nil
}
