// Package cli is the operator's view of a node: verbs that ask the fast path
// and the agent over their sockets and print the answers. It keeps no state
// between two commands. It is not for changing anything: tables come from the
// controller, and only from there.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"sigs.k8s.io/yaml"

	"github.com/vragent/vragent/agent/rpc"
	"github.com/vragent/vragent/fastpath/control"
)

// Exit codes of every verb but status.
const (
	ExitFailure     = 1 // the question was understood and cannot be answered
	ExitUsage       = 2 // the question was not understood
	ExitDegraded    = 3 // something on this node is not as it should be
	ExitUnreachable = 4 // the process that knows does not answer
)

// Exit codes of status, for probes.
const (
	ExitUnknown   = 1 // it cannot be told: the agent does not answer, or the question was not understood
	ExitUnhealthy = 2
)

// Commands returns the verbs, for the program's own command list.
func Commands() []*cli.Command {
	return []*cli.Command{
		statusCommand(), vifCommand(), nhCommand(), rtCommand(), mplsCommand(), vrfCommand(), flowCommand(),
		dropstatsCommand(), traceCommand(), vmiCommand(), blockCommand(), ipamCommand(), versionCommand(), completionCommand(),
	}
}

// verb builds a read command: flags for the run directory and the output form,
// no positional arguments, and usage errors that exit with 2.
func verb(c cli.Command, run func(q *question) error) *cli.Command {
	c.Flags = append(c.Flags,
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORM` of the answer: table, json or yaml"},
		&cli.StringFlag{Name: "run-dir", Value: rpc.DefaultRunDir, EnvVars: []string{"VRAGENT_RUN_DIR"}, Usage: "`DIR` of the sockets"},
	)
	c.HideHelpCommand = true
	c.OnUsageError = func(ctx *cli.Context, err error, _ bool) error { return usage(ctx, "%v", err) }
	c.Action = func(ctx *cli.Context) error {
		q := &question{Context: ctx, form: ctx.String("output"), runDir: ctx.String("run-dir")}
		if ctx.NArg() > 0 {
			return usage(ctx, "unexpected argument %q", ctx.Args().First())
		}
		if q.form != "table" && q.form != "json" && q.form != "yaml" {
			return usage(ctx, "unknown output form %q: want table, json or yaml", q.form)
		}
		err := run(q)
		if _, silent := errors.AsType[*unreachable](err); silent {
			return cli.Exit(fmt.Sprintf("%s: %v", path(ctx), err), ExitUnreachable)
		}
		if _, coded := err.(cli.ExitCoder); err == nil || coded {
			return err
		}
		return cli.Exit(fmt.Sprintf("%s: %v", path(ctx), err), ExitFailure)
	}
	return &c
}

// usage is the error for a question that was not understood.
func usage(ctx *cli.Context, format string, args ...any) error {
	code := ExitUsage
	if ctx.Command != nil && ctx.Command.Name == "status" {
		code = ExitUnknown
	}
	return cli.Exit(fmt.Sprintf("%s: %s (see %s --help)", path(ctx), fmt.Sprintf(format, args...), path(ctx)), code)
}

// path is what the user typed: "vragent ipam check".
func path(ctx *cli.Context) string {
	if ctx.Command == nil || ctx.Command.Name == ctx.App.Name {
		return ctx.App.Name
	}
	return ctx.Command.HelpName
}

// question is one run of a verb.
type question struct {
	*cli.Context
	form   string // table, json, yaml
	runDir string
}

func (q *question) fastpathSocket() string { return filepath.Join(q.runDir, control.SocketName) }
func (q *question) agentSocket() string    { return filepath.Join(q.runDir, rpc.SocketName) }

// print writes v in the form asked for; text writes the table form.
func (q *question) print(v any, text func(w io.Writer)) error {
	switch q.form {
	case "json":
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(q.App.Writer, "%s\n", b)
		return err
	case "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = q.App.Writer.Write(b)
		return err
	}
	text(q.App.Writer)
	return nil
}
