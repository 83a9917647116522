package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vragent/vragent/agent/cli/show"
	"github.com/vragent/vragent/agent/install"
	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
)

func statusCommand() *cli.Command {
	return verb(cli.Command{
		Name: "status", Usage: "is this node healthy, and if not, what is to be done?",
		Description: "Exits with 0 when the node is healthy, 2 when it is not, and 1 when that cannot\nbe told because the agent does not answer.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "cni-bin-dir", Value: install.BinDir, EnvVars: []string{"VRAGENT_CNI_BIN_DIR"}, Usage: "`DIR` of the runtime's CNI plugins"},
			&cli.StringFlag{Name: "cni-conf-dir", Value: install.ConfDir, EnvVars: []string{"VRAGENT_CNI_CONF_DIR"}, Usage: "`DIR` of its CNI configurations"},
		},
	}, func(q *question) error {
		s := &show.Status{}
		if agent, err := q.askAgent(rpc.Request{Status: &rpc.Empty{}}); err != nil {
			s.AgentError = err.Error()
		} else {
			s.Agent = agent.Status
			s.Waiting = q.waiting()
		}
		if fast, err := q.askFastPath(control.Request{Status: &control.Empty{}}); err != nil {
			s.FastPathError = err.Error()
		} else {
			s.FastPath = fast.Status
		}
		s.CNI.Name = "CNI"
		s.CNI.OK, s.CNI.Message, s.CNI.Fix = install.Check(q.String("cni-bin-dir"), q.String("cni-conf-dir"))
		s.Judge()
		if err := q.print(s, func(w io.Writer) { show.WriteStatus(w, s, time.Now()) }); err != nil {
			return err
		}
		switch s.State {
		case show.Healthy:
			return nil
		case show.Unhealthy:
			return cli.Exit("", ExitUnhealthy)
		}
		return cli.Exit(fmt.Sprintf("%s: %s", path(q.Context), s.AgentError), ExitUnknown)
	})
}

// waiting lists the pods of this node that are not attached.
func (q *question) waiting() []rpc.VMI {
	r, err := q.askAgent(rpc.Request{VMIs: &rpc.Empty{}})
	if err != nil {
		return nil // the agent has gone meanwhile
	}
	return only(r.VMIs, func(v rpc.VMI) bool { return v.State == "expected" || v.State == "refused" })
}

func ipamCommand() *cli.Command {
	check := verb(cli.Command{
		Name: "check", Usage: "find addresses that are taken and belong to nobody, or to two",
		Description: "Compares the ledger, the pools of addresses, the interfaces of the kernel and the\nfast path. Exits with 3 when something is left to do.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "repair", Usage: "put right what can be put right", DisableDefaultText: true}},
	}, func(q *question) error {
		r, err := q.askAgent(rpc.Request{Leaks: &rpc.Leaks{Repair: q.Bool("repair")}})
		if err != nil {
			return err
		}
		if r.Leaks == nil {
			return errors.New("the agent answered without a list")
		}
		r.Leaks.Leaks = nonNil(r.Leaks.Leaks)
		if err := q.print(r.Leaks, func(w io.Writer) { show.WriteLeaks(w, r.Leaks) }); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Leaks.Leaks, func(l rpc.Leak) bool { return !l.Repaired }) {
			return cli.Exit("", ExitDegraded)
		}
		return nil
	})
	return &cli.Command{
		Name: "ipam", Usage: "this node's books of addresses", Subcommands: []*cli.Command{check}, HideHelpCommand: true,
		OnUsageError: func(ctx *cli.Context, err error, _ bool) error { return usage(ctx, "%v", err) },
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return usage(ctx, "there is no %q: want check", ctx.Args().First())
			}
			return usage(ctx, "want check")
		},
	}
}

func vmiCommand() *cli.Command {
	return verb(cli.Command{
		Name: "vmi", Usage: "virtual machine interfaces: the pods' interfaces as the agent knows them",
		Flags: []cli.Flag{
			habit("list", "l"),
			&cli.StringFlag{Name: "get", Usage: "only this one: its `UUID` or namespace/pod"},
		},
	}, func(q *question) error {
		r, err := q.askAgent(rpc.Request{VMIs: &rpc.Empty{}})
		if err != nil {
			return err
		}
		vmis := nonNil(r.VMIs)
		if want := q.String("get"); want != "" {
			vmis = only(vmis, func(v rpc.VMI) bool { return v.UUID == want || v.Namespace+"/"+v.Pod == want })
			if len(vmis) == 0 {
				return fmt.Errorf("there is no VMI %q", want)
			}
		}
		return q.print(vmis, func(w io.Writer) { show.WriteVMIs(w, vmis) })
	})
}

func blockCommand() *cli.Command {
	return verb(cli.Command{
		Name: "block", Usage: "address blocks leased to this node",
		Flags: []cli.Flag{habit("list", "l")},
	}, func(q *question) error {
		r, err := q.askAgent(rpc.Request{Blocks: &rpc.Empty{}})
		if err != nil {
			return err
		}
		blocks := nonNil(r.Blocks)
		return q.print(blocks, func(w io.Writer) { show.WriteBlocks(w, blocks) })
	})
}

func versionCommand() *cli.Command {
	return verb(cli.Command{
		Name: "version", Usage: "of this program and of the running processes",
	}, func(q *question) error {
		v := show.Versions{Client: programVersion(q.App.Version), Agent: "not running", FastPath: "not running"}
		if r, err := q.askAgent(rpc.Request{Status: &rpc.Empty{}}); err == nil && r.Status != nil {
			v.Agent = r.Status.Version
		}
		if r, err := q.askFastPath(control.Request{Status: &control.Empty{}}); err == nil && r.Status != nil {
			v.FastPath = r.Status.Version
		}
		return q.print(v, func(w io.Writer) { show.WriteVersions(w, v) })
	})
}

// programVersion is what the program was linked with, or what the Go tool
// recorded of the source.
func programVersion(linked string) string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
